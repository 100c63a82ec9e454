// SPDX-License-Identifier: Apache-2.0
#include "kernels/reference/naive.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/dtype.h"
#include "base/random.h"

namespace tilewise::reference {
namespace {

struct Data {
  explicit Data(DType type, double size = 1) : dtype(type) {
    Random random(5);
    for (auto* x : {&q, &k, &v, &grad_o}) {
      x->resize(2 * 40 * 16 * 8);
      for (int64_t n = 0; n < 2 * 40 * 16; ++n)
        store_element(x->data(), dtype, n, size * random.normal());
    }
    in.query = Tensor::bhsd(q.data(), dtype, 1, 2, 40, 16);
    in.key = Tensor::bhsd(k.data(), dtype, 1, 2, 40, 16);
    in.value = Tensor::bhsd(v.data(), dtype, 1, 2, 40, 16);
    in.grad_output = Tensor::bhsd(grad_o.data(), dtype, 1, 2, 40, 16);
    in.mask = causal();
    in.scale = 0.25;
  }
  DType dtype;
  std::vector<char> q, k, v, grad_o;
  Inputs in;
};

double max_error(const std::vector<double>& a, const std::vector<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  double worst = 0;
  for (size_t n = 0; n < a.size(); ++n) worst = std::max(worst, std::abs(a[n] - b[n]));
  return worst;
}

// Values are of order 1, so the error is a few units in the last place of the dtype: not more, and
// not much less either.
TEST(Naive, ErrorIsThatOfTheDtype) {
  const struct {
    DType dtype;
    double unit;
  } cases[] = {{DType::kFloat32, 0x1p-24},
               {DType::kBFloat16, 0x1p-9},
               {DType::kFloat16, 0x1p-12},
               {DType::kFloat64, 0x1p-53}};
  for (const auto& c : cases) {
    const Data x(c.dtype);
    const auto rows = all_rows(x.in.query);
    const Outputs exact = forward(x.in), out = naive_forward_rows(x.in, rows);
    const Gradients exact_grad = backward(x.in), grad = naive_backward_rows(x.in, rows);
    const double errors[] = {
        max_error(out.output, exact.output), max_error(grad.query, exact_grad.query),
        max_error(grad.key, exact_grad.key), max_error(grad.value, exact_grad.value)};
    for (double error : errors) {
      EXPECT_LE(error, 64 * c.unit) << dtype_name(c.dtype);
      EXPECT_GE(error, c.unit / 2) << dtype_name(c.dtype);
    }
    EXPECT_LE(max_error(out.logsumexp, exact.logsumexp), 16 * c.unit);
  }
}

TEST(Naive, ResultsAreStoredInTheDtype) {
  const Data x(DType::kBFloat16);
  const auto rows = all_rows(x.in.query);
  const Gradients grad = naive_backward_rows(x.in, rows);
  for (const auto& values :
       {naive_forward_rows(x.in, rows).output, grad.query, grad.key, grad.value}) {
    for (double value : values) {
      EXPECT_EQ(value, bfloat16_to_float(float_to_bfloat16(static_cast<float>(value))));
    }
  }
}

TEST(Naive, AnotherStartIsAnotherRounding) {
  const Data x(DType::kFloat32);
  const auto rows = all_rows(x.in.query);
  const auto first = naive_forward_rows(x.in, rows).output;
  const auto moved = naive_forward_rows(x.in, rows, 0.57).output;
  EXPECT_NE(first, moved);
  EXPECT_LE(max_error(first, moved), 64 * 0x1p-24);
}

TEST(Naive, ScoresBeyondFloat16StayFinite) {
  const Data x(DType::kFloat16, 1000);  // scores of a million
  for (double o : naive_forward_rows(x.in, all_rows(x.in.query)).output) {
    EXPECT_TRUE(std::isfinite(o));
  }
}

TEST(Naive, SinksAreThoseOfTheReference) {
  Data x(DType::kFloat32);
  const float sink[] = {1.5F, -0.5F};
  x.in.sink = Tensor::bhsd(const_cast<float*>(sink), DType::kFloat32, 1, 2, 1, 1);
  const auto rows = all_rows(x.in.query);
  const Outputs exact = forward(x.in);
  const Gradients exact_grad = backward(x.in);
  for (const double start : kNaiveStarts) {
    const Outputs out = naive_forward_rows(x.in, rows, start);
    EXPECT_LE(max_error(out.output, exact.output), 64 * 0x1p-24);
    EXPECT_LE(max_error(out.logsumexp, exact.logsumexp), 16 * 0x1p-24);
    const double error = max_error(naive_backward_rows(x.in, rows, start).sink, exact_grad.sink);
    EXPECT_LE(error, 64 * 0x1p-24);
    EXPECT_GT(error, 0);
  }
}

TEST(Naive, RowWithoutVisibleKeyIsZero) {
  Data x(DType::kFloat32);
  x.in.key.shape[2] = x.in.value.shape[2] = 39;
  const auto rows = all_rows(x.in.query);
  const Outputs out = naive_forward_rows(x.in, rows);
  for (int64_t c = 0; c < 16; ++c) EXPECT_EQ(out.output[c], 0);
  EXPECT_EQ(out.logsumexp[0], -std::numeric_limits<double>::infinity());
  for (int64_t c = 0; c < 16; ++c) EXPECT_EQ(naive_backward_rows(x.in, rows).query[c], 0);
}

}  // namespace
}  // namespace tilewise::reference
