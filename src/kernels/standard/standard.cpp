// SPDX-License-Identifier: Apache-2.0
#include "kernels/standard/standard.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "base/dtype.h"
#include "expr/recognise.h"
#include "expr/specialise.h"
#include "kernels/cpu/registry.h"
#include "kernels/dropout.h"
#include "problem/bind.h"
#include "problem/ragged.h"
#include "problem/reject.h"

namespace tilewise {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kItemsPerWorker = 4;
constexpr int64_t kBiasColumns = 1024;  // of one item of the gradient of the bias

int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }
int64_t parts(int64_t all, int64_t part) { return (all + part - 1) / part; }

// A matrix [length, dim] of one head; element (i, c) is data[i * row + c * column].
struct Operand {
  char* data;
  DType dtype;
  int64_t row, column;
  [[nodiscard]] Operand from_row(int64_t i) const {
    return {data + i * row * dtype_bytes(dtype), dtype, row, column};
  }
  [[nodiscard]] Operand transposed() const { return {data, dtype, column, row}; }
};

Operand head_of(const Tensor& t, int64_t batch, int64_t head) {
  const int64_t b = t.shape[0] == 1 ? 0 : batch, h = t.shape[1] == 1 ? 0 : head;
  return {static_cast<char*>(t.data) + (b * t.strides[0] + h * t.strides[1]) * dtype_bytes(t.dtype),
          t.dtype, t.shape[2] == 1 ? 0 : t.strides[2], t.strides[3]};
}

// c (rows, columns) = alpha a b, sums over depth.
struct Product {
  int64_t rows, columns, depth;
};
MatmulLaunch launch_of(const Product& size, const Operand& a, const Operand& b, const Operand& c,
                       double alpha, bool accumulate = false) {
  return {size.rows, size.columns, size.depth, a.data, a.dtype,   a.row,
          a.column,  b.data,       b.dtype,    b.row,  b.column,  c.data,
          c.dtype,   c.row,        c.column,   alpha,  accumulate};
}

// Rows [first, last) of part i of n.
struct Part {
  int64_t first, last;
  Part(int64_t rows, int64_t i, int64_t n) : first(rows * i / n), last(rows * (i + 1) / n) {}
  [[nodiscard]] int64_t rows() const { return last - first; }
};

template <class Body>
void for_each_item(Executor& executor, int workers, int64_t items, const Body& body) {
  struct Context {
    const Body& body;
    int64_t items;
    std::atomic<int64_t> next{0};
  } context{body, items};
  const auto task = [](void* pointer, int worker) {
    auto& work = *static_cast<Context*>(pointer);
    for (int64_t item = work.next.fetch_add(1); item < work.items; item = work.next.fetch_add(1)) {
      work.body(item, worker);
    }
  };
  executor.run(workers, task, &context);
}

}  // namespace

// The parts of a workspace.
struct StandardPlan::Matrices {
  Matrices(const StandardPlan& plan, void* workspace)
      : plan_(plan), memory_(static_cast<char*>(workspace)) {}
  // Of query head `head` of all batches.
  [[nodiscard]] Operand s(int64_t head) const { return of(memory_, head); }
  [[nodiscard]] Operand p(int64_t head) const {
    return of(memory_ + plan_.p_ * plan_.matrix_bytes_, head);
  }
  // Z o P: P itself without dropout.
  [[nodiscard]] Operand dropped(int64_t head) const {
    return of(memory_ + plan_.dropped_ * plan_.matrix_bytes_, head);
  }
  [[nodiscard]] Operand dp(int64_t head) const { return of(memory_, head); }
  [[nodiscard]] char* scratch(int worker) const {
    return memory_ + plan_.matrices_ * plan_.matrix_bytes_ + worker * plan_.scratch_bytes_;
  }

 private:
  [[nodiscard]] Operand of(char* matrix, int64_t head) const {
    const int64_t rows = plan_.shape_.query_length, columns = plan_.shape_.kv_length;
    return {matrix + head * rows * columns * dtype_bytes(plan_.dtype_), plan_.dtype_, columns, 1};
  }
  const StandardPlan& plan_;
  char* memory_;
};

StandardPlan make_standard(const Problem& problem, const Step& step,
                           const StandardOptions& options) {
  if (is_ragged(step))
    reject("standard", "step.query_starts", "given", "none", "run the sequences one by one");
  StandardPlan plan;
  const KernelTable& table = choose_kernels(options.isa);
  plan.kernel_ = table.kernels[static_cast<int>(problem.dtype)];
  plan.isa_ = table.name;
  plan.executor_ = options.executor != nullptr ? options.executor : &default_executor();
  plan.workers_ = options.threads > 0 ? options.threads : plan.executor_->max_workers();
  plan.form_ = options.form;
  AttentionShape& shape = plan.shape_;
  shape.batch = step.batch;
  shape.query_heads = problem.query_heads;
  shape.kv_heads = problem.kv_heads > 0 ? problem.kv_heads : problem.query_heads;
  shape.query_length = step.query_length;
  shape.kv_length = step.kv_length;
  shape.head_dim = problem.head_dim;
  shape.value_dim = problem.value_dim > 0 ? problem.value_dim : problem.head_dim;
  plan.dtype_ = problem.dtype;
  plan.real_ = problem.dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  plan.scale_ = problem.scale.value_or(1 / std::sqrt(static_cast<double>(shape.head_dim)));
  plan.dropout_ = problem.dropout;
  plan.set_masks(problem.mask, step);

  // Whole heads if there are enough of them for all workers, else parts of heads.
  const auto blocks = [&](int64_t heads, int64_t rows) {
    const int64_t wanted = parts(plan.workers_ * kItemsPerWorker, std::max<int64_t>(heads, 1));
    return plan.workers_ == 1 ? 1 : std::clamp<int64_t>(wanted, 1, std::max<int64_t>(rows, 1));
  };
  plan.query_blocks_ = blocks(shape.batch * shape.query_heads, shape.query_length);
  plan.key_blocks_ = blocks(shape.batch * shape.kv_heads, shape.kv_length);

  plan.matrix_bytes_ = aligned(shape.batch * shape.query_heads * shape.query_length *
                               shape.kv_length * dtype_bytes(plan.dtype_));
  plan.p_ = options.form == StandardForm::kStandard || options.with_backward ? 1 : 0;
  plan.dropped_ = plan.p_ + (problem.dropout > 0 && options.with_backward ? 1 : 0);
  plan.matrices_ = plan.dropped_ + 1;
  const int64_t dim = std::max(shape.head_dim, shape.value_dim);
  MatmulLaunch widest{};
  widest.columns = std::max(shape.kv_length, dim);
  plan.sums_offset_ =
      aligned(std::max(plan.kernel_->matmul_scratch_bytes(widest),
                       plan.kernel_->rows_scratch_bytes(shape.kv_length, plan.program_sizes_)));
  const bool shares_keys = options.with_backward && shape.query_heads > shape.kv_heads;
  const int64_t key_rows = parts(shape.kv_length, plan.key_blocks_);
  plan.scratch_bytes_ =
      plan.sums_offset_ + (shares_keys ? aligned(key_rows * dim * dtype_bytes(plan.real_)) : 0);
  plan.workspace_bytes_ = plan.matrices_ * plan.matrix_bytes_ + plan.workers_ * plan.scratch_bytes_;
  return plan;
}

void StandardPlan::set_masks(const Mask& mask, const Step& step) {
  origin_ = {step.batch_offset, step.head_offset, step.query_offset, step.key_offset};
  const int64_t heads = shape_.batch * shape_.query_heads;
  mask_of_head_.assign(static_cast<size_t>(heads), 0);
  masks_.emplace_back();
  const expr::Expression* expression = mask.expression();
  if (expression == nullptr || heads * shape_.query_length * shape_.kv_length == 0) return;
  masks_.clear();
  const expr::Values values = bind(*expression, step, "standard");
  const expr::TileGrid grid = {.queries = shape_.query_length,
                               .keys = shape_.kv_length,
                               .query_offset = step.query_offset,
                               .key_offset = step.key_offset,
                               .tile_queries = shape_.query_length,
                               .tile_keys = shape_.kv_length};
  const bool by_batch = expr::depends_on(*expression, expr::Variable::kBatch);
  const bool by_head = expr::depends_on(*expression, expr::Variable::kHead);
  for (int64_t i = 0; i < heads; ++i) {
    const int64_t b = i / shape_.query_heads, h = i % shape_.query_heads;
    const int64_t same = (by_batch ? b : 0) * shape_.query_heads + (by_head ? h : 0);
    if (same != i) {
      mask_of_head_[static_cast<size_t>(i)] = mask_of_head_[static_cast<size_t>(same)];
      continue;
    }
    mask_of_head_[static_cast<size_t>(i)] = static_cast<int32_t>(masks_.size());
    const expr::Recognised found =
        expr::recognise(expr::specialise(*expression, values, step.batch_offset + b,
                                         step.head_offset + h, grid.box()),
                        grid);
    HeadMask& one = masks_.emplace_back();
    one.rule = found.rule;
    const Band& band = one.rule.band;
    one.is_masked = found.rest.root >= 0 || band.lo > 1 - shape_.query_length ||
                    band.hi < shape_.kv_length - 1 || one.rule.key_begin > 0 ||
                    one.rule.key_end < shape_.kv_length || one.rule.query_begin > 0 ||
                    one.rule.query_end < shape_.query_length;
    if (found.rest.root < 0) continue;
    one.rule.program = 0;
    one.program = expr::compile(
        found.rest, values,
        {.is_narrow = expr::fits_32_bits(found.rest, values, {{0, 0}, {0, 0}, grid.box()})});
    program_sizes_ = expr::larger(program_sizes_, one.program.sizes);
  }
}

RowsLaunch StandardPlan::rows_of(int64_t head, int64_t first_row, int64_t rows) const {
  RowsLaunch launch{};
  launch.rows = rows;
  launch.columns = shape_.kv_length;
  launch.dtype = dtype_;
  launch.from_row = launch.to_row = shape_.kv_length;
  launch.factor = 1;
  launch.rule = masks_[static_cast<size_t>(mask_of_head_[static_cast<size_t>(head)])].rule;
  launch.program_sizes = program_sizes_;
  launch.origin = origin_;
  launch.origin.batch += head / shape_.query_heads;
  launch.origin.head += head % shape_.query_heads;
  launch.first_query = first_row;
  return launch;
}

void StandardPlan::forward(const ForwardTensors& tensors, void* workspace) const {
  const Matrices matrices(*this, workspace);
  for_each_item(*executor_, workers_, shape_.batch * shape_.query_heads * query_blocks_,
                [&](int64_t item, int worker) { forward_rows(tensors, matrices, item, worker); });
}

// Algorithm 0 for a part of the queries of one head.
void StandardPlan::forward_rows(const ForwardTensors& t, const Matrices& m, int64_t item,
                                int worker) const {
  const int64_t head = item / query_blocks_;  // of all batches
  const int64_t b = head / shape_.query_heads, h = head % shape_.query_heads;
  const int64_t kv_head = h / (shape_.query_heads / shape_.kv_heads);
  const Part part(shape_.query_length, item % query_blocks_, query_blocks_);
  void* const scratch = m.scratch(worker);
  const Operand s = m.s(head).from_row(part.first), p = m.p(head).from_row(part.first);
  const bool is_fused = form_ == StandardForm::kMegatron;

  // Line 1: S = Q K^T.
  const Operand q = head_of(t.query, b, h).from_row(part.first), k = head_of(t.key, b, kv_head);
  const Operand& scores = is_fused ? p : s;
  kernel_->matmul(launch_of({part.rows(), shape_.kv_length, shape_.head_dim}, q, k.transposed(),
                            scores, is_fused ? 1 : scale_),
                  scratch);
  // Line 2: P = softmax(S).
  RowsLaunch rows = rows_of(head, part.first, part.rows());
  const HeadMask& mask = masks_[static_cast<size_t>(mask_of_head_[static_cast<size_t>(head)])];
  const TileProgram program = mask.program.view();
  if (mask.rule.program >= 0) rows.program = &program;
  rows.from = rows.to = scores.data;
  if (is_fused) rows.factor = scale_;
  if (t.bias.data != nullptr) {
    const Operand bias = head_of(t.bias, b, h).from_row(part.first);
    rows.bias = bias.data;
    rows.bias_dtype = bias.dtype;
    rows.bias_row = bias.row;
    rows.bias_column = bias.column;
  }
  if (!is_fused) {
    if (mask.is_masked || rows.bias != nullptr) kernel_->mask_rows(rows, scratch);
    rows.bias = nullptr;
    rows.rule = {};
    rows.program = nullptr;
    rows.to = p.data;
  }
  if (t.logsumexp.data != nullptr) {
    const Operand lse = head_of(t.logsumexp, b, h).from_row(part.first);
    rows.logsumexp = lse.data;
    rows.logsumexp_row = lse.row;
  }
  if (t.sink.data != nullptr) rows.sink = head_of(t.sink, 0, h).data;
  const Operand dropped = m.dropped(head).from_row(part.first);
  if (dropout_ > 0) {
    rows.dropout = dropout_of(dropout_, t.dropout_seed);
    rows.dropped = dropped.data;
  }
  kernel_->softmax_rows(rows, scratch);
  // Line 3: O = (Z o P) V.
  kernel_->matmul(
      launch_of({part.rows(), shape_.value_dim, shape_.kv_length}, dropped,
                head_of(t.value, b, kv_head), head_of(t.output, b, h).from_row(part.first), 1),
      scratch);
}

void StandardPlan::backward(const BackwardTensors& tensors, void* workspace) const {
  const Matrices matrices(*this, workspace);
  for_each_item(*executor_, workers_, shape_.batch * shape_.query_heads * query_blocks_,
                [&](int64_t item, int worker) { backward_rows(tensors, matrices, item, worker); });
  for_each_item(*executor_, workers_, shape_.batch * shape_.kv_heads * key_blocks_,
                [&](int64_t item, int worker) { backward_keys(tensors, matrices, item, worker); });
  if (tensors.bias.data != nullptr && tensors.grad_bias.data != nullptr) {
    const auto& bias = tensors.grad_bias.shape;
    for_each_item(
        *executor_, workers_, bias[0] * bias[1] * bias[2] * parts(shape_.kv_length, kBiasColumns),
        [&](int64_t item, int worker) { backward_bias(tensors, matrices, item, worker); });
  }
  if (tensors.sink.data != nullptr && tensors.grad_sink.data != nullptr) {
    for_each_item(*executor_, workers_, shape_.query_heads,
                  [&](int64_t head, int) { backward_sink(tensors, head); });
  }
}

// Algorithm 3, lines 2 to 4: dP, dS and dQ for a part of the queries of one head.
void StandardPlan::backward_rows(const BackwardTensors& t, const Matrices& m, int64_t item,
                                 int worker) const {
  const int64_t head = item / query_blocks_;
  const int64_t b = head / shape_.query_heads, h = head % shape_.query_heads;
  const int64_t kv_head = h / (shape_.query_heads / shape_.kv_heads);
  const Part part(shape_.query_length, item % query_blocks_, query_blocks_);
  void* const scratch = m.scratch(worker);
  const Operand ds = m.dp(head).from_row(part.first);

  kernel_->matmul(launch_of({part.rows(), shape_.kv_length, shape_.value_dim},
                            head_of(t.grad_output, b, h).from_row(part.first),
                            head_of(t.value, b, kv_head).transposed(), ds, 1),
                  scratch);
  RowsLaunch rows = rows_of(head, part.first, part.rows());
  rows.from = m.p(head).from_row(part.first).data;
  rows.to = ds.data;
  if (t.grad_logsumexp.data != nullptr) {
    const Operand dlse = head_of(t.grad_logsumexp, b, h).from_row(part.first);
    rows.grad_logsumexp = dlse.data;
    rows.grad_logsumexp_row = dlse.row;
  }
  if (dropout_ > 0) {
    rows.dropout = dropout_of(dropout_, t.dropout_seed);
    rows.dropped = m.dropped(head).from_row(part.first).data;
  }
  kernel_->softmax_backward_rows(rows, scratch);
  kernel_->matmul(
      launch_of({part.rows(), shape_.head_dim, shape_.kv_length}, ds, head_of(t.key, b, kv_head),
                head_of(t.grad_query, b, h).from_row(part.first), scale_),
      scratch);
}

// Lines 1 and 5: dV and dK for a part of the keys of one kv head, summed over the query heads that
// share it, in order.
void StandardPlan::backward_keys(const BackwardTensors& t, const Matrices& m, int64_t item,
                                 int worker) const {
  const int64_t kv_head = item / key_blocks_ % shape_.kv_heads;
  const int64_t b = item / key_blocks_ / shape_.kv_heads;
  const int64_t group = shape_.query_heads / shape_.kv_heads;
  const Part part(shape_.kv_length, item % key_blocks_, key_blocks_);
  char* const scratch = m.scratch(worker);

  const auto gradient = [&](const Tensor& of_queries, int64_t dim, bool is_key, double alpha,
                            const Tensor& result) {
    const Operand to = head_of(result, b, kv_head).from_row(part.first);
    const Operand sums = {scratch + sums_offset_, real_, dim, 1};
    for (int64_t i = 0; i < group; ++i) {
      const int64_t h = kv_head * group + i, head = b * shape_.query_heads + h;
      const Operand weights =
          (is_key ? m.dp(head) : m.dropped(head)).transposed().from_row(part.first);
      kernel_->matmul(launch_of({part.rows(), dim, shape_.query_length}, weights,
                                head_of(of_queries, b, h), group > 1 ? sums : to, alpha, i > 0),
                      scratch);
    }
    if (group == 1) return;
    for (int64_t r = 0; r < part.rows(); ++r) {
      for (int64_t c = 0; c < dim; ++c) {
        store_element(to.data, to.dtype, r * to.row + c * to.column,
                      load_element(sums.data, real_, r * dim + c));
      }
    }
  };
  gradient(t.grad_output, shape_.value_dim, false, 1, t.grad_value);
  gradient(t.query, shape_.head_dim, true, scale_, t.grad_key);
}

// dsink of a head: batches and rows in order.
void StandardPlan::backward_sink(const BackwardTensors& t, int64_t head) const {
  const auto number = [](const Operand& of, int64_t r, int64_t c) {
    return load_element(of.data, of.dtype, r * of.row + c * of.column);
  };
  const double sink = number(head_of(t.sink, 0, head), 0, 0);
  double sum = 0;
  for (int64_t b = 0; b < shape_.batch && sink != -INFINITY; ++b) {
    const Operand o = head_of(t.output, b, head), grad = head_of(t.grad_output, b, head),
                  lse = head_of(t.logsumexp, b, head);
    for (int64_t r = 0; r < shape_.query_length; ++r) {
      double delta = 0;
      for (int64_t c = 0; c < shape_.value_dim; ++c) delta += number(o, r, c) * number(grad, r, c);
      if (t.grad_logsumexp.data != nullptr)
        delta -= number(head_of(t.grad_logsumexp, b, head), r, 0);
      const double log_p = sink - number(lse, r, 0);
      sum -= std::exp(log_p > 0 ? 0 : log_p) * delta;
    }
  }
  const Operand to = head_of(t.grad_sink, 0, head);
  store_element(to.data, to.dtype, 0, sum);
}

// dbias: dS summed over the axes that the bias broadcasts, batches, heads and queries in order.
void StandardPlan::backward_bias(const BackwardTensors& t, const Matrices& m, int64_t item,
                                 int worker) const {
  const Tensor& bias = t.grad_bias;
  const int64_t blocks = parts(shape_.kv_length, kBiasColumns);
  const int64_t c0 = item % blocks * kBiasColumns, row = item / blocks;
  const int64_t q = row % bias.shape[2], h0 = row / bias.shape[2] % bias.shape[1];
  const int64_t b0 = row / bias.shape[2] / bias.shape[1];
  const bool all_batches = bias.shape[0] == 1, all_heads = bias.shape[1] == 1;
  const bool all_queries = bias.shape[2] == 1;
  const Operand to = head_of(bias, b0, h0).from_row(q);
  SumRowsLaunch sum{};
  sum.rows = all_queries ? shape_.query_length : 1;
  sum.columns = std::min(kBiasColumns, shape_.kv_length - c0);
  sum.dtype = dtype_;
  sum.from_row = shape_.kv_length;
  sum.sum = to.data + c0 * to.column * dtype_bytes(to.dtype);
  sum.sum_column = to.column;
  for (int64_t b = all_batches ? 0 : b0; b < (all_batches ? shape_.batch : b0 + 1); ++b) {
    for (int64_t h = all_heads ? 0 : h0; h < (all_heads ? shape_.query_heads : h0 + 1); ++h) {
      const Operand ds = m.dp(b * shape_.query_heads + h).from_row(all_queries ? 0 : q);
      sum.from = ds.data + c0 * dtype_bytes(dtype_);
      kernel_->sum_rows(sum, m.scratch(worker));
      sum.accumulate = true;
    }
  }
}

}  // namespace tilewise
