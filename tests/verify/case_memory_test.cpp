// SPDX-License-Identifier: Apache-2.0
#include "verify/case_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/dtype.h"

namespace tilewise::verify {
namespace {

TEST(CaseMemory, ShapesAreThoseOfTheProblem) {
  const CaseMemory memory(
      case_from_text("b=2 hq=4 hkv=2 n=3 m=5 d=6 e=7 bias=hk dlse=1 dtype=bf16"));
  const BackwardTensors& t = memory.tensors();
  const auto shape = [](const Tensor& x) { return std::vector<int64_t>(x.shape, x.shape + 4); };
  using Shape = std::vector<int64_t>;
  EXPECT_EQ(shape(t.query), (Shape{2, 4, 3, 6}));
  EXPECT_EQ(shape(t.grad_key), (Shape{2, 2, 5, 6}));
  EXPECT_EQ(shape(t.grad_value), (Shape{2, 2, 5, 7}));
  EXPECT_EQ(shape(t.output), (Shape{2, 4, 3, 7}));
  EXPECT_EQ(shape(t.bias), (Shape{1, 4, 1, 5}));
  EXPECT_EQ(shape(t.grad_logsumexp), (Shape{2, 4, 3, 1}));
  EXPECT_EQ(t.grad_bias.dtype, DType::kFloat32);
  EXPECT_EQ(t.grad_value.dtype, DType::kBFloat16);
}

TEST(CaseMemory, DataDependOnTheLineOnly) {
  const Case c = case_from_text("n=9 m=11 d=8 e=8 seed=4");
  EXPECT_EQ(dense(CaseMemory(c).tensors().key), dense(CaseMemory(c).tensors().key));
  Case other = c;
  other.seed = 5;
  EXPECT_NE(dense(CaseMemory(c).tensors().key), dense(CaseMemory(other).tensors().key));
}

TEST(CaseMemory, OtherLayoutsHoldTheSameNumbers) {
  const CaseMemory plain(case_from_text("b=2 hq=2 hkv=2 n=5 m=5 d=6 e=6"));
  const CaseMemory strided(
      case_from_text("b=2 hq=2 hkv=2 n=5 m=5 d=6 e=6 q=bshd~s k=dshb+3 v=bhds/2"));
  const CaseMemory packed(case_from_text("b=2 hq=2 hkv=2 n=5 m=5 d=6 e=6 packed=1"));
  EXPECT_EQ(dense(plain.tensors().value), dense(strided.tensors().value));
  EXPECT_EQ(dense(plain.tensors().query), dense(packed.tensors().query));
  EXPECT_EQ(dense(plain.tensors().value), dense(packed.tensors().value));
  EXPECT_EQ(packed.tensors().query.strides[2], 6 * 6);
}

TEST(CaseMemory, SinksAreOfTheirKind) {
  const auto sinks = [](const std::string& kind) {
    const CaseMemory memory(case_from_text("hq=6 hkv=6 dtype=bf16 sink=" + kind));
    EXPECT_EQ(memory.tensors().sink.dtype, DType::kFloat32);
    return dense(memory.tensors().sink);
  };
  for (double sink : sinks("large")) EXPECT_GT(sink, 0);
  for (double sink : sinks("small")) EXPECT_LT(sink, 0);
  for (double sink : sinks("minusinf")) EXPECT_EQ(sink, -INFINITY);
  const std::vector<double> mixed = sinks("mixed");
  EXPECT_GT(*std::max_element(mixed.begin(), mixed.end()), 1e6);
  EXPECT_EQ(*std::min_element(mixed.begin(), mixed.end()), -INFINITY);
  EXPECT_EQ(CaseMemory(case_from_text("n=1")).tensors().sink.data, nullptr);
}

TEST(CaseMemory, GapsOfOutputsAreWatched) {
  CaseMemory memory(case_from_text("n=3 m=3 d=2 e=2 o=bhsd+1"));
  memory.poison_outputs();
  const Tensor& o = memory.tensors().output;
  static_cast<float*>(o.data)[0] = 1;
  EXPECT_EQ(memory.output_with_damaged_gap(), "");
  static_cast<float*>(o.data)[2] = 1;  // row 0 has elements 0 and 1
  EXPECT_EQ(memory.output_with_damaged_gap(), "output");
}

TEST(CaseMemory, PackedGradientsHaveNoGap) {
  CaseMemory memory(case_from_text("hq=2 hkv=1 n=3 m=3 d=2 e=2 packed=1"));
  memory.poison_outputs();
  const Tensor& dk = memory.tensors().grad_key;
  std::memset(dk.data, 0, 2 * sizeof(float));
  EXPECT_EQ(memory.output_with_damaged_gap(), "");
}

TEST(CaseMemory, NaNWhereNoPairIsVisible) {
  const CaseMemory memory(case_from_text("n=4 m=2 d=3 e=3 mask=causal nan=unseen"));
  const auto q = dense(memory.tensors().query), k = dense(memory.tensors().key);
  for (int64_t c = 0; c < 3; ++c) {  // queries 0 and 1 see nothing, every key is seen
    EXPECT_TRUE(std::isnan(q[c]) && std::isnan(q[3 + c]));
    EXPECT_TRUE(std::isfinite(q[6 + c]) && std::isfinite(q[9 + c]));
    EXPECT_TRUE(std::isfinite(k[c]) && std::isfinite(k[3 + c]));
  }
  const CaseMemory window(case_from_text("n=1 m=5 d=3 e=3 mask=window:1,0 nan=unseen"));
  const auto v = dense(window.tensors().value);
  for (int64_t j = 0; j < 5; ++j) EXPECT_EQ(std::isnan(v[j * 3]), j < 3) << j;
}

TEST(CaseMemory, InputsAreReadOnly) {
  const CaseMemory memory(case_from_text("n=1 m=1 d=1 e=1"));
  EXPECT_DEATH(*static_cast<volatile float*>(memory.tensors().query.data) = 0, "");
}

}  // namespace
}  // namespace tilewise::verify
