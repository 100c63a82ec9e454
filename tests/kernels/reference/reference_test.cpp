// SPDX-License-Identifier: Apache-2.0
// The oracle against closed forms, pictures of masks, and finite differences of its own forward.
#include "kernels/reference/reference.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "base/random.h"

namespace tilewise::reference {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::vector<double> normal(Random& random, int64_t size) {
  std::vector<double> x(size);
  for (double& value : x) value = random.normal();
  return x;
}

// A problem with its data in float64, dense.
struct Data {
  Data(int64_t batch, int64_t query_heads, int64_t kv_heads, int64_t n, int64_t m, int64_t d,
       int64_t e, uint64_t seed = 1)
      : random(seed),
        q(normal(random, batch * query_heads * n * d)),
        k(normal(random, batch * kv_heads * m * d)),
        v(normal(random, batch * kv_heads * m * e)),
        grad_o(normal(random, batch * query_heads * n * e)),
        grad_lse(normal(random, batch * query_heads * n)) {
    in.query = Tensor::bhsd(q.data(), DType::kFloat64, batch, query_heads, n, d);
    in.key = Tensor::bhsd(k.data(), DType::kFloat64, batch, kv_heads, m, d);
    in.value = Tensor::bhsd(v.data(), DType::kFloat64, batch, kv_heads, m, e);
    in.grad_output = Tensor::bhsd(grad_o.data(), DType::kFloat64, batch, query_heads, n, e);
    in.grad_logsumexp = Tensor::bhsd(grad_lse.data(), DType::kFloat64, batch, query_heads, n, 1);
    in.scale = 1 / std::sqrt(double(d));
  }
  void add_bias(int64_t batch, int64_t heads, int64_t n, int64_t m) {
    bias = normal(random, batch * heads * n * m);
    in.bias = Tensor::bhsd(bias.data(), DType::kFloat64, batch, heads, n, m);
  }

  Random random;
  std::vector<double> q, k, v, grad_o, grad_lse, bias;
  Inputs in;
};

// "#" where visible, one string per query.
std::vector<std::string> picture(const Mask& mask, int64_t n, int64_t m, int64_t query_offset = 0,
                                 int64_t key_offset = 0) {
  Inputs in;
  in.mask = mask;
  in.query.shape[2] = n, in.key.shape[2] = m;
  in.step.query_offset = query_offset, in.step.key_offset = key_offset;
  Visibility is_visible(in, 0, 0);
  std::vector<std::string> rows(n, std::string(m, '.'));
  for (int64_t q = 0; q < n; ++q) {
    for (int64_t k = 0; k < m; ++k) {
      if (is_visible(q, k)) rows[q][k] = '#';
    }
  }
  return rows;
}
using Picture = std::vector<std::string>;

TEST(ReferenceMask, None) { EXPECT_EQ(picture(Mask(), 2, 3), (Picture{"###", "###"})); }

TEST(ReferenceMask, CausalAlignsTheLastQueryWithTheLastKey) {
  EXPECT_EQ(picture(causal(), 2, 4), (Picture{"###.", "####"}));
  EXPECT_EQ(picture(causal(), 4, 2), (Picture{"..", "..", "#.", "##"}));
  EXPECT_EQ(picture(causal(), 2, 4, 100, -7), (Picture{"###.", "####"}));
}

TEST(ReferenceMask, CausalTopLeftComparesGlobalPositions) {
  EXPECT_EQ(picture(causal_top_left(), 2, 4), (Picture{"#...", "##.."}));
  EXPECT_EQ(picture(causal_top_left(), 2, 4, 2, 0), (Picture{"###.", "####"}));
  EXPECT_EQ(picture(causal_top_left(), 3, 2, 0, 1), (Picture{"..", "#.", "##"}));
}

TEST(ReferenceMask, WindowIsAlignedBottomRight) {
  EXPECT_EQ(picture(window(1, 0), 3, 3), (Picture{"#..", "##.", ".##"}));
  EXPECT_EQ(picture(window(0, 1), 2, 4), (Picture{"..##", "...#"}));
  EXPECT_EQ(picture(window(2, 1), 4, 2, 5, 5), (Picture{"..", "#.", "##", "##"}));
  constexpr int64_t kAll = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(picture(window(kAll, kAll), 2, 2), (Picture{"##", "##"}));
}

TEST(Reference, OneKeyIsCopied) {
  Data x(1, 1, 1, 3, 1, 4, 5);
  const Outputs out = forward(x.in);
  const Gradients grad = backward(x.in);
  for (int64_t i = 0; i < 3; ++i) {
    double score = 0;
    for (int64_t c = 0; c < 4; ++c) score += x.q[i * 4 + c] * x.k[c] / 2;
    EXPECT_NEAR(out.logsumexp[i], score, 1e-15);
    for (int64_t c = 0; c < 5; ++c) EXPECT_EQ(out.output[i * 5 + c], x.v[c]);
    // P = 1 whatever q is: only the score itself, through dlse, has a gradient.
    for (int64_t c = 0; c < 4; ++c) {
      EXPECT_NEAR(grad.query[i * 4 + c], x.grad_lse[i] * x.k[c] / 2, 1e-15);
    }
  }
  for (int64_t c = 0; c < 5; ++c) {
    EXPECT_NEAR(grad.value[c], x.grad_o[c] + x.grad_o[5 + c] + x.grad_o[10 + c], 1e-15);
  }
}

// All scores are 0, so is the sink: it takes one part of eight.
TEST(Reference, SinkTakesItsPart) {
  Data x(1, 1, 1, 2, 7, 3, 2);
  std::fill(x.q.begin(), x.q.end(), 0.0);
  double sink = 0;
  x.in.sink = Tensor::bhsd(&sink, DType::kFloat64, 1, 1, 1, 1);
  const Outputs out = forward(x.in);
  double grad = 0;
  for (int64_t row = 0; row < 2; ++row) {
    EXPECT_NEAR(out.logsumexp[row], std::log(8.0), 1e-15);
    for (int64_t c = 0; c < 2; ++c) {
      double sum = 0;
      for (int64_t j = 0; j < 7; ++j) sum += x.v[j * 2 + c] / 8;
      EXPECT_NEAR(out.output[row * 2 + c], sum, 1e-15);
      grad -= sum * x.grad_o[row * 2 + c] / 8;
    }
    grad += x.grad_lse[row] / 8;
  }
  EXPECT_NEAR(backward(x.in).sink[0], grad, 1e-15);
}

TEST(Reference, RowThatSeesNothingHasTheSinkForLse) {
  Data x(1, 2, 1, 3, 0, 3, 2);
  double sink[] = {0.25, -kInfinity};
  x.in.sink = Tensor::bhsd(sink, DType::kFloat64, 1, 2, 1, 1);
  const Outputs out = forward(x.in);
  for (int64_t row = 0; row < 3; ++row) {
    EXPECT_EQ(out.output[row * 2], 0);
    EXPECT_EQ(out.logsumexp[row], 0.25);
    EXPECT_EQ(out.logsumexp[3 + row], -kInfinity);
  }
  const Gradients grad = backward(x.in);
  EXPECT_NEAR(grad.sink[0], x.grad_lse[0] + x.grad_lse[1] + x.grad_lse[2], 1e-15);
  EXPECT_EQ(grad.sink[1], 0);
}

TEST(Reference, ZeroQueriesGiveTheMeanAndLogOfTheCount) {
  Data x(1, 2, 1, 2, 7, 3, 2);
  std::fill(x.q.begin(), x.q.end(), 0.0);
  const Outputs out = forward(x.in);
  for (int64_t row = 0; row < 4; ++row) {
    EXPECT_NEAR(out.logsumexp[row], std::log(7.0), 1e-15);
    for (int64_t c = 0; c < 2; ++c) {
      double mean = 0;
      for (int64_t j = 0; j < 7; ++j) mean += x.v[j * 2 + c] / 7;
      EXPECT_NEAR(out.output[row * 2 + c], mean, 1e-15);
    }
  }
}

TEST(Reference, TwoKeysAreASigmoid) {
  double q = 3, k[2] = {1, -0.5}, v[2] = {1, 0}, grad_o = 1;
  Inputs in;
  in.query = Tensor::bhsd(&q, DType::kFloat64, 1, 1, 1, 1);
  in.key = Tensor::bhsd(k, DType::kFloat64, 1, 1, 2, 1);
  in.value = Tensor::bhsd(v, DType::kFloat64, 1, 1, 2, 1);
  in.grad_output = Tensor::bhsd(&grad_o, DType::kFloat64, 1, 1, 1, 1);
  in.scale = 0.5;
  const double p = 1 / (1 + std::exp(-2.25));  // s = 1.5, -0.75
  EXPECT_NEAR(forward(in).output[0], p, 1e-16);
  EXPECT_NEAR(forward(in).logsumexp[0], std::log(std::exp(1.5) + std::exp(-0.75)), 1e-15);
  const Gradients grad = backward(in);
  EXPECT_NEAR(grad.query[0], p * (1 - p) * 0.5 * 1.5, 1e-16);
  EXPECT_NEAR(grad.key[0], p * (1 - p) * 0.5 * 3, 1e-15);
  EXPECT_NEAR(grad.key[1], -p * (1 - p) * 0.5 * 3, 1e-15);
  EXPECT_NEAR(grad.value[1], 1 - p, 1e-16);
}

TEST(Reference, ScoresOfAMillionDoNotOverflow) {
  Data x(1, 1, 1, 1, 3, 1, 1);
  x.q = {1e6}, x.k = {1, 1, -1}, x.in.scale = 1;
  EXPECT_NEAR(forward(x.in).output[0], (x.v[0] + x.v[1]) / 2, 1e-15);
  EXPECT_NEAR(forward(x.in).logsumexp[0], 1e6 + std::log(2.0), 1e-9);
}

// Central differences of sum(dO * O) + sum(dLSE * LSE) against every gradient.
void expect_gradients_match(Data& x) {
  const auto loss = [&] {
    const Outputs out = forward(x.in);
    double sum = 0;
    for (size_t n = 0; n < out.output.size(); ++n) sum += x.grad_o[n] * out.output[n];
    for (size_t n = 0; n < out.logsumexp.size(); ++n) {
      if (out.logsumexp[n] > -kInfinity) sum += x.grad_lse[n] * out.logsumexp[n];
    }
    return sum;
  };
  const auto compare = [&](std::vector<double>& input, const std::vector<double>& gradient,
                           const char* name) {
    ASSERT_EQ(input.size(), gradient.size()) << name;
    for (size_t n = 0; n < input.size(); ++n) {
      if (!std::isfinite(input[n])) continue;
      const double value = input[n], step = 1e-5;
      input[n] = value + step;
      const double above = loss();
      input[n] = value - step;
      const double below = loss();
      input[n] = value;
      EXPECT_NEAR((above - below) / (2 * step), gradient[n], 1e-8) << name << " " << n;
    }
  };
  const Gradients grad = backward(x.in);
  compare(x.q, grad.query, "query");
  compare(x.k, grad.key, "key");
  compare(x.v, grad.value, "value");
  compare(x.bias, grad.bias, "bias");
}

TEST(ReferenceGradients, MatchFiniteDifferences) {
  for (const Mask& mask : {Mask(), causal(), causal_top_left(), window(1, 1)}) {
    Data x(2, 2, 2, 4, 5, 3, 2);
    x.in.mask = mask;
    expect_gradients_match(x);
  }
}

TEST(ReferenceGradients, MatchFiniteDifferencesWithGroupedHeads) {
  Data x(1, 4, 2, 3, 2, 3, 3);
  x.in.mask = causal();  // the first query sees nothing
  expect_gradients_match(x);
}

TEST(ReferenceGradients, MatchFiniteDifferencesWithDropout) {
  Data x(1, 2, 1, 5, 6, 3, 2);
  x.in.dropout = 0.4, x.in.dropout_seed = 9;
  x.in.step.query_offset = 13, x.in.step.key_offset = 6;
  expect_gradients_match(x);
}

TEST(ReferenceGradients, MatchFiniteDifferencesWithEveryBroadcastOfTheBias) {
  for (int shape = 0; shape < 8; ++shape) {
    Data x(2, 2, 1, 3, 4, 2, 2);
    x.add_bias(shape & 1 ? 2 : 1, shape & 2 ? 2 : 1, shape & 4 ? 3 : 1, 4);
    x.bias[1] = -kInfinity;
    expect_gradients_match(x);
  }
}

TEST(ReferenceRows, RowWithoutVisibleKeyIsZeroAndAddsNothing) {
  Data x(1, 1, 1, 3, 2, 2, 2);
  x.in.mask = causal();  // query 0 sees no key
  x.q[0] = kNaN, x.grad_o[1] = kNaN, x.grad_lse[0] = kNaN;
  const Outputs out = forward(x.in);
  EXPECT_EQ(out.output[0], 0);
  EXPECT_EQ(out.output[1], 0);
  EXPECT_EQ(out.logsumexp[0], -kInfinity);
  const Gradients grad = backward(x.in);
  EXPECT_EQ(grad.query[0], 0);
  for (double g : grad.key) EXPECT_TRUE(std::isfinite(g));
  for (double g : grad.value) EXPECT_TRUE(std::isfinite(g));
}

TEST(ReferenceRows, NaNReachesExactlyTheRowsThatSeeIt) {
  Data x(1, 1, 1, 4, 4, 2, 2);
  x.in.mask = causal();
  x.k[2 * 2] = kNaN;
  const Outputs out = forward(x.in);
  for (int64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(std::isnan(out.output[i * 2]), i >= 2) << i;
    EXPECT_EQ(std::isnan(out.logsumexp[i]), i >= 2) << i;
  }
}

TEST(ReferenceRows, MinusInfinityInTheBiasMasksEvenNaN) {
  Data x(1, 1, 1, 2, 3, 2, 2);
  x.add_bias(1, 1, 2, 3);
  x.bias[2] = x.bias[5] = -kInfinity;
  const Outputs clean = forward(x.in);
  x.k[4] = kNaN, x.v[5] = kNaN;
  EXPECT_EQ(forward(x.in).output, clean.output);
  const Gradients grad = backward(x.in);
  for (double g : grad.query) EXPECT_TRUE(std::isfinite(g));
  EXPECT_EQ(grad.key[4], 0);
  EXPECT_EQ(grad.bias[2], 0);
}

TEST(ReferenceRows, SampledRowsAreTheWholeWithZeroElsewhere) {
  Data x(2, 2, 1, 5, 6, 3, 2);
  x.add_bias(1, 2, 5, 6);
  x.in.mask = causal();
  const std::vector<Row> rows = {{0, 1, 4}, {1, 0, 0}, {1, 0, 3}};
  const Outputs whole = forward(x.in), some = forward_rows(x.in, rows);
  ASSERT_EQ(some.logsumexp.size(), rows.size());
  std::vector<double> grad_o(x.grad_o.size(), 0), grad_lse(x.grad_lse.size(), 0);
  for (size_t r = 0; r < rows.size(); ++r) {
    const int64_t row = (rows[r].batch * 2 + rows[r].head) * 5 + rows[r].query;
    EXPECT_EQ(some.logsumexp[r], whole.logsumexp[row]);
    EXPECT_EQ(some.output[r * 2 + 1], whole.output[row * 2 + 1]);
    grad_o[row * 2] = x.grad_o[row * 2], grad_o[row * 2 + 1] = x.grad_o[row * 2 + 1];
    grad_lse[row] = x.grad_lse[row];
  }
  const Gradients sampled = backward_rows(x.in, rows);
  x.in.grad_output.data = grad_o.data();
  x.in.grad_logsumexp.data = grad_lse.data();
  const Gradients expected = backward(x.in);
  EXPECT_EQ(sampled.query, expected.query);
  EXPECT_EQ(sampled.key, expected.key);
  EXPECT_EQ(sampled.value, expected.value);
  EXPECT_EQ(sampled.bias, expected.bias);
}

TEST(ReferenceStrides, NegativeZeroAndPermutedStridesReadTheSameNumbers) {
  Data x(2, 2, 2, 3, 4, 3, 2);
  const auto at = [](const std::vector<double>& data, const Tensor& t, int64_t b, int64_t h,
                     int64_t i, int64_t c) {
    return data[((b * t.shape[1] + h) * t.shape[2] + i) * t.shape[3] + c];
  };
  // Keys stored backwards along the length, dim outermost; values the same for every batch entry.
  std::vector<double> key(x.k.size()), value(x.v.begin(), x.v.begin() + 16);
  const int64_t strides[4] = {8, 4, -1, 16};
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t h = 0; h < 2; ++h)
      for (int64_t j = 0; j < 4; ++j)
        for (int64_t c = 0; c < 3; ++c)
          key[3 + b * 8 + h * 4 - j + c * 16] = at(x.k, x.in.key, b, h, j, c);
  std::copy(value.begin(), value.end(), x.v.begin() + 16);
  const Outputs dense = forward(x.in);
  const Gradients dense_grad = backward(x.in);
  std::copy(strides, strides + 4, x.in.key.strides);
  x.in.key.data = key.data() + 3;
  x.in.value.data = value.data();
  x.in.value.strides[0] = 0;
  EXPECT_EQ(forward(x.in).output, dense.output);
  EXPECT_EQ(backward(x.in).key, dense_grad.key);
}

TEST(Reference, EmptyProblemsGiveEmptyOrZeroResults) {
  Data no_keys(1, 2, 1, 3, 0, 2, 2);
  EXPECT_EQ(forward(no_keys.in).output, std::vector<double>(12, 0.0));
  EXPECT_EQ(forward(no_keys.in).logsumexp, std::vector<double>(6, -kInfinity));
  Data no_queries(1, 2, 1, 0, 3, 2, 2);
  EXPECT_TRUE(forward(no_queries.in).output.empty());
  EXPECT_EQ(backward(no_queries.in).key, std::vector<double>(6, 0.0));
}

}  // namespace
}  // namespace tilewise::reference
