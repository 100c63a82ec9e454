// SPDX-License-Identifier: Apache-2.0
#include "tilewise/merge.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "engine/small_attention.h"
#include "kernels/reference/naive.h"
#include "support/sanitizers.h"
#include "tilewise/attention.h"
#include "tilewise/error.h"
#include "verify/case_memory.h"
#include "verify/tolerance.h"

namespace tilewise {
namespace {

using testing::Array;
using verify::CaseMemory;
using verify::dense;
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// What a forward wrote.
struct Part {
  Array output, logsumexp;
  explicit Part(DType real, int64_t batch = 2, int64_t heads = 3, int64_t rows = 70,
                int64_t dim = 20, bool is_bshd = false)
      : output(real, batch, heads, rows, dim, is_bshd), logsumexp(real, batch, heads, rows, 1) {}
  [[nodiscard]] PartialResult result() const { return {view(output), view(logsumexp)}; }
  // Of a copy's own memory.
  static Tensor view(const Array& array) {
    Tensor tensor = array.tensor;
    tensor.data = const_cast<std::byte*>(array.bytes.data());
    return tensor;
  }
};

void set(Array& array, int64_t b, int64_t h, int64_t n, int64_t i, double value) {
  store_element(array.bytes.data(), array.tensor.dtype, array.index(b, h, n, i), value);
}

Part random_part(uint64_t seed, DType real = DType::kFloat32, bool is_bshd = false) {
  Part part(real, 2, 3, 70, 20, is_bshd);
  Random random(seed);
  part.output.fill_normal(random);
  part.logsumexp.fill_normal(random);
  return part;
}

void merge_into(const std::vector<Part>& parts, Part& to, const Tensor& sink = {},
                const MergeOptions& options = {}) {
  std::vector<PartialResult> results;
  for (const Part& part : parts) results.push_back(part.result());
  merge(results, to.result().output, to.result().logsumexp, sink, options);
}

TEST(Merge, IsTheWeightedMeanOfItsDefinition) {
  for (const DType real : {DType::kFloat32, DType::kFloat64}) {
    const double tolerance = real == DType::kFloat64 ? 1e-14 : 1e-6;
    std::vector<Part> parts;
    for (uint64_t i = 0; i < 4; ++i) parts.push_back(random_part(i, real, i % 2 == 1));
    Array sink(real, 1, 3, 1, 1);
    Random random(9);
    sink.fill_normal(random);
    Part merged(real, 2, 3, 70, 20, true);
    merge_into(parts, merged, sink.tensor);
    for (int64_t b = 0; b < 2; ++b)
      for (int64_t h = 0; h < 3; ++h)
        for (int64_t n = 0; n < 70; ++n) {
          double sum = std::exp(sink.at(0, h, 0, 0));
          for (const Part& part : parts) sum += std::exp(part.logsumexp.at(b, h, n, 0));
          EXPECT_NEAR(merged.logsumexp.at(b, h, n, 0), std::log(sum), tolerance);
          for (int64_t c = 0; c < 20; ++c) {
            double o = 0;
            for (const Part& part : parts)
              o += std::exp(part.logsumexp.at(b, h, n, 0)) / sum * part.output.at(b, h, n, c);
            EXPECT_NEAR(merged.output.at(b, h, n, c), o, tolerance);
          }
        }
  }
}

TEST(Merge, OnePartAmongEmptyOnesIsCopied) {
  for (const DType real : {DType::kFloat32, DType::kFloat64}) {
    std::vector<Part> parts = {Part(real), random_part(1, real), Part(real)};
    for (const size_t empty : {0, 2})
      for (int64_t b = 0; b < 2; ++b)
        for (int64_t h = 0; h < 3; ++h)
          for (int64_t n = 0; n < 70; ++n) {
            set(parts[empty].logsumexp, b, h, n, 0, -kInfinity);
            for (int64_t c = 0; c < 20; ++c) set(parts[empty].output, b, h, n, c, kNaN);
          }
    Part merged(real);
    merge_into(parts, merged);
    EXPECT_EQ(merged.output.bytes, parts[1].output.bytes);
    EXPECT_EQ(merged.logsumexp.bytes, parts[1].logsumexp.bytes);
  }
}

TEST(Merge, NothingAtAllIsZeroWithTheSinkForLse) {
  Part part(DType::kFloat32);
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t h = 0; h < 3; ++h)
      for (int64_t n = 0; n < 70; ++n) set(part.logsumexp, b, h, n, 0, -kInfinity);
  Array sink(DType::kFloat32, 1, 3, 1, 1);
  for (int64_t h = 0; h < 3; ++h) set(sink, 0, h, 0, 0, h == 2 ? -kInfinity : 1e30 * double(h));
  for (const Tensor& given : {Tensor{}, sink.tensor}) {
    Part merged(DType::kFloat32);
    merge_into({part, part}, merged, given);
    for (int64_t h = 0; h < 3; ++h) {
      EXPECT_EQ(merged.output.at(1, h, 69, 19), 0);
      EXPECT_EQ(merged.logsumexp.at(1, h, 69, 0),
                given.data == nullptr ? -kInfinity : sink.at(0, h, 0, 0));
    }
  }
}

TEST(Merge, HugeDifferencesAndNaNStayInTheirRow) {
  std::vector<Part> parts = {random_part(1), random_part(2)};
  set(parts[0].logsumexp, 0, 0, 3, 0, 1e30);
  set(parts[1].logsumexp, 0, 0, 4, 0, 3e38);
  set(parts[0].logsumexp, 0, 0, 4, 0, -3e38);
  set(parts[1].logsumexp, 0, 0, 5, 0, kNaN);
  Part merged(DType::kFloat32), again(DType::kFloat32);
  merge_into(parts, merged);
  for (int64_t c = 0; c < 20; ++c) {
    EXPECT_EQ(merged.output.at(0, 0, 3, c), parts[0].output.at(0, 0, 3, c));
    EXPECT_EQ(merged.output.at(0, 0, 4, c), parts[1].output.at(0, 0, 4, c));
    EXPECT_TRUE(std::isnan(merged.output.at(0, 0, 5, c)));
    EXPECT_TRUE(std::isfinite(merged.output.at(0, 0, 6, c)));
  }
  EXPECT_TRUE(std::isnan(merged.logsumexp.at(0, 0, 5, 0)));
  // Nor do bits depend on who computes which row.
  merge_into(parts, again, {}, {.threads = 3, .executor = nullptr});
  EXPECT_EQ(merged.output.bytes, again.output.bytes);
  EXPECT_EQ(merged.logsumexp.bytes, again.logsumexp.bytes);
}

TEST(Merge, OutputMayHaveAnyPrecisionAndLogsumexpMayBeAbsent) {
  const std::vector<Part> parts = {random_part(1), random_part(2)};
  Part wide(DType::kFloat32);
  merge_into(parts, wide);
  for (const DType dtype : {DType::kBFloat16, DType::kFloat16}) {
    const Array output(dtype, 2, 3, 70, 20);
    merge({parts[0].result(), parts[1].result()}, output.tensor, {});
    const double ulp = verify::ulp(dtype, 1);
    for (int64_t n = 0; n < 70; ++n)
      for (int64_t c = 0; c < 20; ++c) {
        const double expected = wide.output.at(1, 2, n, c);
        EXPECT_NEAR(output.at(1, 2, n, c), expected, ulp / 2 * std::max(1.0, std::abs(expected)));
      }
  }
}

// Keys [first, last) of a tensor of keys.
Tensor keys_of(Tensor tensor, int64_t first, int64_t last) {
  tensor.data =
      static_cast<char*>(tensor.data) + first * tensor.strides[2] * dtype_bytes(tensor.dtype);
  tensor.shape[2] = last - first;
  return tensor;
}

void expect_within(const char* name, verify::Result kind, const Tensor& tensor,
                   const std::vector<double>& actual, const std::vector<double>& exact,
                   const std::vector<std::vector<double>>& naive) {
  const auto distance = [&](const std::vector<double>& x) {
    return verify::deviation(x, exact, tensor.dtype, tensor.shape[3]);
  };
  verify::Deviation worst = distance(naive[0]);
  for (const std::vector<double>& one : naive) worst = verify::worse_of(worst, distance(one));
  const verify::Deviation error = distance(actual);
  const verify::Bound bound = verify::bound(kind, tensor.dtype, worst);
  EXPECT_LT(error.misplaced, 0) << name;
  EXPECT_LE(error.max, bound.max) << name;
  EXPECT_LE(error.rms, bound.rms) << name;
}

// The results that a case must have, and the errors that it may have.
struct Exact {
  explicit Exact(const CaseMemory& memory) {
    const reference::Inputs in = memory.reference_inputs();
    const auto rows = reference::all_rows(in.query);
    forward = reference::forward(in);
    backward = reference::backward(in);
    for (const double start : reference::kNaiveStarts) {
      naive_forward.push_back(reference::naive_forward_rows(in, rows, start));
      naive_backward.push_back(reference::naive_backward_rows(in, rows, start));
    }
  }
  template <class Results>
  static void judge(const char* name, verify::Result kind, const Tensor& tensor,
                    const std::vector<double>& actual, const Results& exact,
                    const std::vector<Results>& naive, std::vector<double> Results::*member) {
    std::vector<std::vector<double>> all;
    for (const Results& one : naive) all.push_back(one.*member);
    expect_within(name, kind, tensor, actual, exact.*member, all);
  }
  void judge_output(const char* name, verify::Result kind, const Tensor& tensor,
                    std::vector<double> reference::Outputs::*member) const {
    judge(name, kind, tensor, dense(tensor), forward, naive_forward, member);
  }
  void judge_gradient(const char* name, const Tensor& tensor, const std::vector<double>& actual,
                      std::vector<double> reference::Gradients::*member) const {
    judge(name, verify::Result::kGradient, tensor, actual, backward, naive_backward, member);
  }
  reference::Outputs forward;
  reference::Gradients backward;
  std::vector<reference::Outputs> naive_forward;
  std::vector<reference::Gradients> naive_backward;
};

// Three sets of keys, of which some rows see one, two or none: forward, merge, and the backward of
// each set with the merged output. The last one also has the gradient of the sink.
void expect_whole(const verify::Case& c, const CaseMemory& memory, const Exact& exact,
                  const std::string& isa) {
  const BackwardTensors& whole = memory.tensors();
  const int64_t cuts[] = {0, c.kv_length / 3, c.kv_length / 3 * 2 + 1, c.kv_length};
  AttentionOptions options;
  options.mask = mask_from_text(c.mask);
  options.plan.isa = isa;
  std::vector<PartialResult> results;
  std::vector<Part> parts;
  parts.reserve(3);  // results point into them
  for (int i = 0; i < 3; ++i) {
    const Part& part = parts.emplace_back(testing::SmallAttention::real(c.dtype), c.batch,
                                          c.query_heads, c.query_length, c.value_dim);
    results.push_back(part.result());
    ForwardTensors t = memory.forward_tensors();
    t.key = keys_of(whole.key, cuts[i], cuts[i + 1]);
    t.value = keys_of(whole.value, cuts[i], cuts[i + 1]);
    t.output = results.back().output;
    t.logsumexp = results.back().logsumexp;
    t.sink = {};
    options.key_offset = cuts[i];
    attention(t, options);
  }
  merge(results, whole.output, whole.logsumexp, whole.sink);

  std::vector<double> grad_query(exact.backward.query.size());
  for (int i = 0; i < 3; ++i) {
    BackwardTensors t = whole;
    for (Tensor BackwardTensors::*tensor :
         {&BackwardTensors::key, &BackwardTensors::value, &BackwardTensors::grad_key,
          &BackwardTensors::grad_value})
      t.*tensor = keys_of(whole.*tensor, cuts[i], cuts[i + 1]);
    if (i < 2) t.sink = t.grad_sink = {};
    options.key_offset = cuts[i];
    attention_backward(t, options);
    const std::vector<double> part = dense(t.grad_query);
    for (size_t n = 0; n < part.size(); ++n) grad_query[n] += part[n];
  }

  using reference::Gradients;
  exact.judge_output("output", verify::Result::kOutput, whole.output, &reference::Outputs::output);
  exact.judge_output("logsumexp", verify::Result::kLogsumexp, whole.logsumexp,
                     &reference::Outputs::logsumexp);
  exact.judge_gradient("grad_query", whole.grad_query, grad_query, &Gradients::query);
  exact.judge_gradient("grad_key", whole.grad_key, dense(whole.grad_key), &Gradients::key);
  exact.judge_gradient("grad_value", whole.grad_value, dense(whole.grad_value), &Gradients::value);
  exact.judge_gradient("grad_sink", whole.grad_sink, dense(whole.grad_sink), &Gradients::sink);
}

TEST(Merge, ForwardAndBackwardOfPartsAreTheWhole) {
  for (const std::string dtype : {"fp32", "bf16", "fp16", "fp64"})
    for (const std::string output : {"", " wideoutput=1"}) {
      const std::string line =
          "b=2 hq=4 hkv=2 n=40 m=90 d=24 e=40 mask=\"q - k <= 20 and k <= q + 60\" sink=normal "
          "dlse=1 seed=5 dtype=" +
          dtype + output;
      const verify::Case c = verify::case_from_text(line);
      const CaseMemory memory(c);
      const Exact exact(memory);
      for (const std::string& isa : test::isas_to_run_on_threads()) {
        SCOPED_TRACE(isa + " " + line);
        expect_whole(c, memory, exact, isa);
      }
    }
}

void expect_error(const std::vector<PartialResult>& parts, const Tensor& output,
                  const Tensor& logsumexp, const Tensor& sink, const std::string& text,
                  int threads = 0) {
  try {
    merge(parts, output, logsumexp, sink, {.threads = threads, .executor = nullptr});
    ADD_FAILURE() << "accepted; expected: " << text;
  } catch (const InvalidArgument& error) {
    EXPECT_EQ(error.what(), text);
  }
}

TEST(Merge, RefusesInItsOwnWordsBeforeAnythingIsWritten) {
  const Part a = random_part(1), b = random_part(2), half(DType::kBFloat16);
  const Part merged(DType::kFloat32);
  const std::vector<std::byte> before = merged.output.bytes;
  const Array sink(DType::kFloat32, 1, 3, 1, 1);
  const Tensor o = merged.output.tensor, l = merged.logsumexp.tensor;
  const PartialResult x = a.result(), y = b.result();
  expect_error({}, o, l, {}, "merge: parts is empty, expected at least one");
  expect_error({half.result()}, o, l, {},
               "merge: parts[0].output.dtype is bf16, expected fp32 or fp64; a forward of less "
               "precision may write an fp32 output");
  expect_error({x, half.result()}, o, l, {}, "merge: parts[1].output.dtype is bf16, expected fp32");
  PartialResult short_part = y;
  short_part.output.shape[2] = 69;
  expect_error({x, short_part}, o, l, {},
               "merge: parts[1].output.shape[2] is 69, expected 70 (query_length)");
  short_part = y;
  short_part.logsumexp = {};
  expect_error({x, short_part}, o, l, {},
               "merge: parts[1].logsumexp.shape[0] is 0, expected 2 (batch)");
  short_part = x;
  short_part.output.shape[3] = 513;
  expect_error({short_part}, o, l, {}, "merge: parts[0].output.shape[3] is 513, expected 1 to 512");
  Tensor wrong = o;
  wrong.dtype = DType::kFloat64;
  expect_error({x, y}, wrong, l, {}, "merge: output.dtype is fp64, expected fp32, bf16 or fp16");
  wrong = l;
  wrong.shape[1] = 1;
  expect_error({x, y}, o, wrong, {}, "merge: logsumexp.shape[1] is 1, expected 3 (query_heads)");
  wrong = sink.tensor;
  wrong.shape[1] = 1;
  expect_error({x, y}, o, l, wrong, "merge: sink.shape[1] is 1, expected 3 (query_heads)");
  expect_error({x, y}, y.output, l, {},
               "merge: output is in the memory of parts[1].output, expected memory of its own; "
               "nothing is computed in place");
  expect_error({x, y}, o, l, {},
               "merge: threads is -1, expected 0 to 4096; 0 means all of the "
               "executor",
               -1);
  EXPECT_EQ(merged.output.bytes, before);
}

}  // namespace
}  // namespace tilewise
