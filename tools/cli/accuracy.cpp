// SPDX-License-Identifier: Apache-2.0
#include "cli/accuracy.h"

#include <algorithm>
#include <cstddef>
#include <set>
#include <utility>

#include "base/dtype.h"
#include "base/random.h"
#include "cli/bench_data.h"
#include "engine/work.h"
#include "kernels/reference/naive.h"
#include "tilewise/executor.h"
#include "verify/case_memory.h"
#include "verify/tolerance.h"

namespace tilewise::cli {
namespace {

// Products of two numbers in the forward, at most, where every row is compared: about a second of
// plain loops for reference and naive results of both passes.
constexpr double kWholeWork = 4e7;
constexpr int64_t kSlices = 4;

int64_t group_of(const Problem& p) { return p.query_heads / p.kv_heads; }

// Distinct rows in ascending order, the first and the last query of a head among them.
std::vector<reference::Row> sample_rows(const Problem& p, int64_t count, Random& random) {
  const int64_t total = group_of(p) * p.max_query_length;
  std::set<int64_t> chosen = {0, total - 1};
  if (count >= total) {
    for (int64_t row = 0; row < total; ++row) chosen.insert(row);
  }
  while (static_cast<int64_t>(chosen.size()) < std::min(count, total)) {
    chosen.insert(random.between(0, total - 1));
  }
  std::vector<reference::Row> rows;
  for (const int64_t row : chosen) {
    rows.push_back({0, row / p.max_query_length, row % p.max_query_length});
  }
  return rows;
}

Tensor slice_of(const Tensor& tensor, int64_t batch, int64_t first_head, int64_t heads) {
  if (tensor.data == nullptr) return tensor;
  Tensor slice = tensor;
  const int64_t offset = batch * tensor.strides[0] + first_head * tensor.strides[1];
  slice.data = static_cast<std::byte*>(tensor.data) + offset * dtype_bytes(tensor.dtype);
  slice.shape[0] = 1;
  slice.shape[1] = heads;
  return slice;
}

template <class Tensors>
reference::Inputs slice_inputs(const Problem& p, const Step& step, const Tensors& t,
                               const Slice& s) {
  const int64_t group = group_of(p);
  reference::Inputs in;
  in.query = slice_of(t.query, s.batch, s.kv_head * group, group);
  in.key = slice_of(t.key, s.batch, s.kv_head, 1);
  in.value = slice_of(t.value, s.batch, s.kv_head, 1);
  in.sink = slice_of(t.sink, 0, s.kv_head * group, group);
  in.mask = p.mask;
  in.score = p.score;
  in.step = step;
  in.step.batch_offset += s.batch;
  in.step.head_offset += s.kv_head * group;
  in.tables = t.tables;
  in.scale = *p.scale;
  in.dropout = p.dropout;
  in.dropout_seed = t.dropout_seed.value_or(0);
  return in;
}

std::vector<double> rows_of(const Tensor& tensor, const std::vector<reference::Row>& rows) {
  std::vector<double> result;
  result.reserve(rows.size() * static_cast<size_t>(tensor.shape[3]));
  for (const reference::Row& row : rows) {
    for (int64_t c = 0; c < tensor.shape[3]; ++c) {
      const int64_t at = row.batch * tensor.strides[0] + row.head * tensor.strides[1] +
                         row.query * tensor.strides[2] + c * tensor.strides[3];
      result.push_back(load_element(tensor.data, tensor.dtype, at));
    }
  }
  return result;
}

// One result tensor, over all slices.
struct Results {
  std::vector<double> actual, exact;
  std::vector<double> naive[std::size(reference::kNaiveStarts)];
};

void append(std::vector<double>& whole, const std::vector<double>& part) {
  whole.insert(whole.end(), part.begin(), part.end());
}

Accuracy judge(const std::string& name, verify::Result kind, DType dtype, int64_t dim,
               const Results& results) {
  verify::Deviation naive,
      plain;  // the worst variant bounds; what is reported is naive as it stands
  for (size_t i = 0; i < std::size(reference::kNaiveStarts); ++i) {
    const auto d = verify::deviation(results.naive[i], results.exact, dtype, dim);
    if (i == 0) plain = d;
    naive = i == 0 ? d : verify::worse_of(naive, d);
  }
  const auto error = verify::deviation(results.actual, results.exact, dtype, dim);
  const auto allowed = verify::bound(kind, dtype, naive);
  return {.tensor = name,
          .max_error = error.max,
          .naive_error = plain.max,
          .rms_error = error.rms,
          .naive_rms_error = plain.rms,
          .max_bound = allowed.max,
          .rms_bound = allowed.rms,
          .is_finite = error.misplaced < 0};
}

// Calls task(i) for all i below count on the threads of the process: the reference is slow.
template <class Task>
void share_out(size_t count, const Task& task) {
  Executor& executor = default_executor();
  int64_t counter = 0;
  run_items(executor, executor.max_workers(), static_cast<int64_t>(count), &counter,
            [&](int64_t i, int) { task(static_cast<size_t>(i)); });
}

}  // namespace

double Accuracy::bound_used() const noexcept {
  const auto part = [](double error, double allowed) { return error > 0 ? error / allowed : 0; };
  return std::max(part(max_error, max_bound), part(rms_error, rms_bound));
}

AccuracyCheck::AccuracyCheck(const Problem& problem, const Step& step, uint64_t seed)
    : problem_(problem), step_(step) {
  const Problem& p = problem_;
  const int64_t pairs_of_heads = p.max_batch * p.kv_heads;
  is_whole_ = forward_flops(p, step) <= 2 * kWholeWork;
  const int64_t slices = is_whole_ ? pairs_of_heads : std::min(kSlices, pairs_of_heads);
  const int64_t rows_per_slice =
      is_whole_ ? group_of(p) * p.max_query_length : (kSampledRows + slices - 1) / slices;
  Random random(seed, 1);
  for (int64_t s = 0; s < slices && p.max_query_length > 0; ++s) {
    // Spread evenly, from the first pair to the last.
    const int64_t pair = slices > 1 ? s * (pairs_of_heads - 1) / (slices - 1) : 0;
    slices_.push_back(
        {pair / p.kv_heads, pair % p.kv_heads, sample_rows(p, rows_per_slice, random)});
  }
}

int64_t AccuracyCheck::rows() const noexcept {
  int64_t rows = 0;
  for (const Slice& slice : slices_) rows += static_cast<int64_t>(slice.rows.size());
  return rows;
}

void AccuracyCheck::keep_sampled_rows(const Tensor& grad_output) const {
  if (is_whole_) return;
  const int64_t heads = grad_output.shape[1], length = grad_output.shape[2];
  std::vector<bool> keep(static_cast<size_t>(grad_output.shape[0] * heads * length));
  for (const Slice& slice : slices_) {
    for (const reference::Row& row : slice.rows) {
      const int64_t head = slice.kv_head * group_of(problem_) + row.head;
      keep[static_cast<size_t>((slice.batch * heads + head) * length + row.query)] = true;
    }
  }
  for (size_t row = 0; row < keep.size(); ++row) {
    if (keep[row]) continue;
    const auto index = static_cast<int64_t>(row);
    const int64_t at = index / length / heads * grad_output.strides[0] +
                       index / length % heads * grad_output.strides[1] +
                       index % length * grad_output.strides[2];
    for (int64_t c = 0; c < grad_output.shape[3]; ++c) {
      store_element(grad_output.data, grad_output.dtype, at + c * grad_output.strides[3], 0);
    }
  }
}

std::vector<Accuracy> AccuracyCheck::forward(const ForwardTensors& tensors) const {
  struct Part {
    std::vector<double> actual;
    reference::Outputs exact, naive[std::size(reference::kNaiveStarts)];
  };
  std::vector<Part> parts(slices_.size());
  share_out(slices_.size(), [&](size_t s) {
    const Slice& slice = slices_[s];
    const reference::Inputs in = slice_inputs(problem_, step_, tensors, slice);
    const int64_t group = group_of(problem_);
    parts[s].actual =
        rows_of(slice_of(tensors.output, slice.batch, slice.kv_head * group, group), slice.rows);
    parts[s].exact = reference::forward_rows(in, slice.rows);
    for (size_t i = 0; i < std::size(reference::kNaiveStarts); ++i) {
      parts[s].naive[i] = reference::naive_forward_rows(in, slice.rows, reference::kNaiveStarts[i]);
    }
  });
  Results o;
  for (const Part& part : parts) {
    append(o.actual, part.actual);
    append(o.exact, part.exact.output);
    for (size_t i = 0; i < std::size(reference::kNaiveStarts); ++i)
      append(o.naive[i], part.naive[i].output);
  }
  return {judge("o", verify::Result::kOutput, problem_.dtype, problem_.value_dim, o)};
}

std::vector<Accuracy> AccuracyCheck::backward(const BackwardTensors& tensors) const {
  struct Part {
    reference::Gradients actual, exact, naive[std::size(reference::kNaiveStarts)];
  };
  std::vector<Part> parts(slices_.size());
  share_out(slices_.size(), [&](size_t s) {
    const Slice& slice = slices_[s];
    const int64_t group = group_of(problem_), first_head = slice.kv_head * group;
    reference::Inputs in = slice_inputs(problem_, step_, tensors, slice);
    in.grad_output = slice_of(tensors.grad_output, slice.batch, first_head, group);
    const auto dense = [&](const Tensor& tensor, int64_t head, int64_t heads) {
      return verify::dense(slice_of(tensor, slice.batch, head, heads));
    };
    parts[s].actual = {dense(tensors.grad_query, first_head, group),
                       dense(tensors.grad_key, slice.kv_head, 1),
                       dense(tensors.grad_value, slice.kv_head, 1),
                       {},
                       {}};
    parts[s].exact = reference::backward_rows(in, slice.rows);
    for (size_t i = 0; i < std::size(reference::kNaiveStarts); ++i) {
      parts[s].naive[i] =
          reference::naive_backward_rows(in, slice.rows, reference::kNaiveStarts[i]);
    }
  });
  const auto judge_gradient = [&](const char* name, int64_t dim,
                                  std::vector<double> reference::Gradients::*member) {
    Results results;
    for (const Part& part : parts) {
      append(results.actual, part.actual.*member);
      append(results.exact, part.exact.*member);
      for (size_t i = 0; i < std::size(reference::kNaiveStarts); ++i) {
        append(results.naive[i], part.naive[i].*member);
      }
    }
    return judge(name, verify::Result::kGradient, problem_.dtype, dim, results);
  };
  return {judge_gradient("dq", problem_.head_dim, &reference::Gradients::query),
          judge_gradient("dk", problem_.head_dim, &reference::Gradients::key),
          judge_gradient("dv", problem_.value_dim, &reference::Gradients::value)};
}

}  // namespace tilewise::cli
