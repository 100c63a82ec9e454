// SPDX-License-Identifier: Apache-2.0
// Functions of the score in every kernel, against plain loops.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <vector>

#include "kernels/cpu/backward_harness.h"
#include "kernels/cpu/scored_attention.h"

namespace tilewise {
namespace {

using namespace backward_test;
using expr::Expression;
using expr::Graph;
using expr::Op;
using expr::Type;
using expr::Variable;

// 5 tanh(s / 5) + (k - q) / 2^(1 + h): soft cap and slopes per head.
struct SoftcapWithSlopes {
  template <class Real>
  static Real value(Real s, int64_t h, int64_t q, int64_t k) {
    const auto slope = static_cast<Real>(std::ldexp(1.0, static_cast<int>(-1 - h)));
    return Real(5) * std::tanh(s * Real(0.2)) + slope * static_cast<Real>(k - q);
  }
  template <class Real>
  static Real derivative(Real s, int64_t, int64_t, int64_t) {
    const Real t = std::tanh(s * Real(0.2));
    return 1 - t * t;
  }
  static std::vector<int32_t> roots(Graph& g) {
    const auto op = [&](Op o, int32_t a, int32_t b) { return g.binary(o, a, b); };
    const int32_t s = g.variable(Variable::kScore), h = g.variable(Variable::kHead);
    const int32_t t = g.unary(Op::kTanh, op(Op::kDiv, s, g.constant(5.0)));
    const int32_t log2 = g.constant(0.69314718055994531);
    const int32_t slope =
        g.unary(Op::kExp,
                op(Op::kMul, g.unary(Op::kToReal, op(Op::kSub, g.constant(int64_t{-1}), h)), log2));
    const int32_t distance = g.unary(
        Op::kToReal, op(Op::kSub, g.variable(Variable::kKey), g.variable(Variable::kQuery)));
    return {op(Op::kAdd, op(Op::kMul, g.constant(5.0), t), op(Op::kMul, slope, distance)),
            op(Op::kSub, g.constant(1.0), op(Op::kMul, t, t))};
  }
};

// -infinity where (q + 2 k) % 3 == 0: a mask by a score.
struct Hiding {
  template <class Real>
  static Real value(Real s, int64_t, int64_t q, int64_t k) {
    return (q + 2 * k) % 3 == 0 ? -std::numeric_limits<Real>::infinity() : s;
  }
  template <class Real>
  static Real derivative(Real, int64_t, int64_t, int64_t) {
    return 1;
  }
  static std::vector<int32_t> roots(Graph& g) {
    const int32_t q = g.variable(Variable::kQuery), k = g.variable(Variable::kKey);
    const int32_t sum = g.binary(Op::kAdd, q, g.binary(Op::kMul, g.constant(int64_t{2}), k));
    const int32_t is_hidden = g.binary(Op::kEqual, g.binary(Op::kMod, sum, g.constant(int64_t{3})),
                                       g.constant(int64_t{0}));
    return {g.where(is_hidden, g.constant(-kInf), g.variable(Variable::kScore)), g.constant(1.0)};
  }
};

// s + k / 16: the maximum grows by 6 (in powers of two) every 64 keys. Odd queries see
// `kKeysOfOdd`.
template <int kKeysOfOdd>
struct Growing {
  template <class Real>
  static Real value(Real s, int64_t, int64_t q, int64_t k) {
    if (q % 2 == 1 && k >= kKeysOfOdd) return -std::numeric_limits<Real>::infinity();
    return s + static_cast<Real>(k) / 16;
  }
  template <class Real>
  static Real derivative(Real, int64_t, int64_t, int64_t) {
    return 1;
  }
  static std::vector<int32_t> roots(Graph& g) {
    const int32_t q = g.variable(Variable::kQuery), k = g.variable(Variable::kKey);
    const int32_t is_odd =
        g.binary(Op::kEqual, g.binary(Op::kMod, q, g.constant(int64_t{2})), g.constant(int64_t{1}));
    const int32_t is_late = g.binary(Op::kLessEqual, g.constant(int64_t{kKeysOfOdd}), k);
    const int32_t slope = g.binary(Op::kMul, g.constant(0.0625), g.unary(Op::kToReal, k));
    return {g.where(g.binary(Op::kAnd, is_odd, is_late), g.constant(-kInf),
                    g.binary(Op::kAdd, g.variable(Variable::kScore), slope)),
            g.constant(1.0)};
  }
};

class Scores : public testing::TestWithParam<Named> {
 protected:
  const Kernel& kernel() const {
    return *GetParam().table->kernels[static_cast<int>(GetParam().dtype)];
  }
  template <class Score>
  static TestMasks masks(const std::vector<TestMask>& masks) {
    auto graph = std::make_shared<Graph>();
    const std::vector<int32_t> roots = Score::roots(*graph);
    TestMasks result(masks, true, false);
    result.set_score(graph, roots);
    return result;
  }
  template <class Real, class Score>
  static ScoredResults attention(const Data& data, const TestMask& mask) {
    const auto pairs = TestMasks::visible(mask, data.c.queries, data.c.keys);
    return scored_attention<Real>(
        data, [](Real s, int64_t h, int64_t q, int64_t k) { return Score::value(s, h, q, k); },
        [](Real s, int64_t h, int64_t q, int64_t k) { return Score::derivative(s, h, q, k); },
        [&](int64_t q, int64_t k) { return pairs[static_cast<size_t>(q * data.c.keys + k)]; });
  }
  template <class Score>
  void check(const Case& c, const TestMask& mask, bool only_forward = false) {
    SCOPED_TRACE(testing::PrintToString(c));
    Data data(c, GetParam().dtype);
    const TestMasks both = masks<Score>({mask});
    run_forward(kernel(), data, &both);
    const bool is_double = GetParam().dtype == DType::kFloat64;
    const ScoredResults exact = attention<long double, Score>(data, mask);
    const ScoredResults naive =
        is_double ? attention<double, Score>(data, mask) : attention<float, Score>(data, mask);
    expect_near("O", data.o, exact.output, naive.output);
    expect_near("LSE", data.lse, exact.logsumexp, naive.logsumexp);
    if (only_forward) return;
    Results results(data);
    run_backward(kernel(), data, {.threads = 2}, results, &both);
    expect_near("dQ", results.dq, exact.dq, naive.dq);
    expect_near("dK", results.dk, exact.dk, naive.dk);
    expect_near("dV", results.dv, exact.dv, naive.dv);
    if (c.bias) expect_near("dbias", results.dbias, exact.dbias, naive.dbias);
  }
};

INSTANTIATE_TEST_SUITE_P(Kernels, Scores, testing::ValuesIn(all_kernels()), name_of_kernel);

const Case kShapes[] = {
    {.query_heads = 2, .queries = 150, .keys = 131, .head_dim = 24, .value_dim = 40},
    {.batch = 2,
     .query_heads = 4,
     .kv_heads = 2,
     .queries = 37,
     .keys = 70,
     .head_dim = 8,
     .value_dim = 8,
     .dlse = true},
    {.query_heads = 2, .queries = 150, .keys = 161, .head_dim = 16, .value_dim = 16, .bias = 1},
};

TestMask causal_mask(int64_t diagonal = 0) {
  TestMask mask;
  mask.rule.band.hi = diagonal;
  return mask;
}

TEST_P(Scores, WithinTheErrorOfNaive) {
  for (const Case& c : kShapes) {
    check<SoftcapWithSlopes>(c, {});
    check<SoftcapWithSlopes>(c, causal_mask());
    check<Hiding>(c, {});
  }
}

const Case kGrowing = {.queries = 70, .keys = 900, .head_dim = 16, .value_dim = 24};

// The backward rounds a logsumexp of 56, where the naive one subtracts the maximum first.
TEST_P(Scores, GrowingWithinTheErrorOfNaive) {
  check<Growing<900>>(kGrowing, {}, true);
  check<Growing<300>>(kGrowing, causal_mask(500), true);
}

// m follows the sums where 64 keys end, wherever tiles do.
TEST_P(Scores, BitsOfGrowingScoresDoNotDependOnTilesOrNeighbours) {
  const TestMasks all = masks<Growing<900>>({{}}), some = masks<Growing<300>>({{}});
  Data model(kGrowing, GetParam().dtype), odd(kGrowing, GetParam().dtype);
  run_forward(kernel(), model, &all);
  for (const int64_t key_tile : {32, 96, 160, 256}) {
    Data data(kGrowing, GetParam().dtype);
    run_forward(kernel(), data, &all, key_tile);
    EXPECT_EQ(data.o.bytes(), model.o.bytes()) << key_tile;
    EXPECT_EQ(data.lse.bytes(), model.lse.bytes()) << key_tile;
  }
  run_forward(kernel(), odd, &some);
  const std::vector<double> o = odd.o.values(), lse = odd.lse.values();
  const std::vector<double> model_o = model.o.values(), model_lse = model.lse.values();
  for (size_t q = 0; q < static_cast<size_t>(kGrowing.queries); q += 2) {
    EXPECT_EQ(lse[q], model_lse[q]) << q;
    const auto dim = static_cast<size_t>(kGrowing.value_dim);
    for (size_t d = 0; d < dim; ++d) EXPECT_EQ(o[q * dim + d], model_o[q * dim + d]) << q;
  }
}

// Lanes are queries of several heads, and the score depends on the head.
TEST_P(Scores, FewQueriesWithinTheErrorOfNaive) {
  for (const int64_t queries : {1, 5}) {
    const Case c = {.batch = 2,
                    .query_heads = 6,
                    .kv_heads = 2,
                    .queries = queries,
                    .keys = 300,
                    .head_dim = 24,
                    .value_dim = 40};
    SCOPED_TRACE(testing::PrintToString(c));
    Data data(c, GetParam().dtype);
    auto graph = std::make_shared<Graph>();
    const std::vector<int32_t> roots = SoftcapWithSlopes::roots(*graph);
    TestMasks both({causal_mask(300 - queries)}, true, false);
    both.set_score(graph, roots, true);
    run_decode(kernel(), data, both);
    const TestMask& mask = both.of_head(0);
    const ScoredResults exact = attention<long double, SoftcapWithSlopes>(data, mask);
    const ScoredResults naive = GetParam().dtype == DType::kFloat64
                                    ? attention<double, SoftcapWithSlopes>(data, mask)
                                    : attention<float, SoftcapWithSlopes>(data, mask);
    expect_near("O", data.o, exact.output, naive.output);
    expect_near("LSE", data.lse, exact.logsumexp, naive.logsumexp);
  }
}

// A number of the key alone is that of s + the number where s is 0.
TEST_P(Scores, MayIgnoreS) {
  const Case c = {.queries = 60, .keys = 70, .head_dim = 16, .value_dim = 16};
  auto graph = std::make_shared<Graph>();
  Graph& g = *graph;
  const int32_t rest =
      g.unary(Op::kToReal, g.binary(Op::kMod, g.variable(Variable::kKey), g.constant(int64_t{7})));
  TestMasks alone({causal_mask(3)}, true, false), with_s({causal_mask(3)}, true, false);
  alone.set_score(graph, {rest});
  with_s.set_score(graph, {g.binary(Op::kAdd, g.variable(Variable::kScore), rest)});
  Data a(c, GetParam().dtype), b(c, GetParam().dtype);
  b.q.fill(std::vector<double>(b.q.values().size()));
  run_forward(kernel(), a, &alone);
  run_forward(kernel(), b, &with_s);
  EXPECT_EQ(a.o.bytes(), b.o.bytes());
  EXPECT_EQ(a.lse.bytes(), b.lse.bytes());
}

// What the score makes of a hidden pair does not matter, not even NaN.
TEST_P(Scores, MaskedPairsStayHidden) {
  const Case c = {.queries = 60, .keys = 70, .head_dim = 16, .value_dim = 16};
  auto graph = std::make_shared<Graph>();
  Graph& g = *graph;
  const int32_t q = g.variable(Variable::kQuery), k = g.variable(Variable::kKey);
  const int32_t s = g.variable(Variable::kScore);
  const int32_t bad = g.unary(Op::kLog, g.constant(-1.0));
  TestMasks plain({causal_mask()}, true, false), poisoned({causal_mask()}, true, false);
  plain.set_score(graph, {s});
  poisoned.set_score(graph, {g.where(g.binary(Op::kLess, q, k), bad, s)});
  Data a(c, GetParam().dtype), b(c, GetParam().dtype);
  // P of a hidden pair is exactly 0: keys that nobody sees, in units that are computed.
  for (int64_t key = c.queries; key < c.keys; ++key)
    for (int64_t d = 0; d < c.value_dim; ++d)
      b.v.set(0, 0, key, d, GetParam().dtype == DType::kFloat16 ? 6e4 : 3e38);
  run_forward(kernel(), a, &plain);
  run_forward(kernel(), b, &poisoned);
  EXPECT_EQ(a.o.bytes(), b.o.bytes());
  EXPECT_EQ(a.lse.bytes(), b.lse.bytes());
}

}  // namespace
}  // namespace tilewise
