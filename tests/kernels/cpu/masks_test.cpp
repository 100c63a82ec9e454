// SPDX-License-Identifier: Apache-2.0
// Masks that no band describes, in every kernel, against the reference with a bias of -infinity
// where they hide a pair.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "kernels/cpu/backward_harness.h"

namespace tilewise {
namespace {

using namespace backward_test;
using expr::Expression;
using expr::Graph;
using expr::Op;
using expr::Variable;

// Graphs of the masks below; nodes by short names.
struct Builder {
  std::shared_ptr<Graph> graph = std::make_shared<Graph>();
  int32_t q = graph->variable(Variable::kQuery), k = graph->variable(Variable::kKey);
  int32_t number(int64_t n) { return graph->constant(n); }
  int32_t op(Op o, int32_t a, int32_t b) { return graph->binary(o, a, b); }
  TestMask mask(int32_t root, TileRule rule = {}) {
    rule.program = 0;
    return {rule, Expression{graph, root}};
  }
};

TestMask checkerboard() {
  Builder b;
  return b.mask(
      b.op(Op::kEqual, b.op(Op::kMod, b.op(Op::kAdd, b.q, b.k), b.number(2)), b.number(0)));
}
// Some queries and some keys see nothing, and long gaps lie between what others see.
TestMask sparse() {
  Builder b;
  const int32_t near = b.op(Op::kEqual, b.op(Op::kFloorDiv, b.q, b.number(37)),
                            b.op(Op::kFloorDiv, b.k, b.number(41)));
  const int32_t far =
      b.op(Op::kEqual, b.op(Op::kMod, b.k, b.number(97)), b.op(Op::kMod, b.q, b.number(89)));
  const int32_t some = b.op(Op::kNotEqual, b.op(Op::kMod, b.q, b.number(11)), b.number(5));
  return b.mask(b.op(Op::kAnd, some, b.op(Op::kOr, near, far)));
}
// Causal by its band, with a program and ranges besides.
TestMask banded() {
  Builder b;
  TileRule rule;
  rule.band = {-150, 3};
  rule.key_begin = 5;
  rule.key_end = 290;
  rule.query_begin = 2;
  return b.mask(b.op(Op::kNotEqual, b.op(Op::kMod, b.k, b.number(3)), b.number(1)), rule);
}
// Depends on one axis only.
TestMask of_keys() {
  Builder b;
  return b.mask(b.op(Op::kLess, b.op(Op::kMod, b.k, b.number(50)), b.number(20)));
}
TestMask of_queries() {
  Builder b;
  return b.mask(b.op(Op::kLess, b.op(Op::kMod, b.q, b.number(50)), b.number(20)));
}
TestMask causal_by_program() {
  Builder b;
  return b.mask(b.op(Op::kLessEqual, b.k, b.q));
}

class Masks : public testing::TestWithParam<Named> {
 protected:
  const Kernel& kernel() const {
    return *GetParam().table->kernels[static_cast<int>(GetParam().dtype)];
  }

  // The bias that hides what the masks hide.
  static void hide(Data& data, const TestMasks& masks) {
    const Case& c = data.c;
    for (int64_t b = 0; b < c.batch; ++b)
      for (int64_t h = 0; h < c.query_heads; ++h) {
        const auto pairs = TestMasks::visible(
            masks.of_head(static_cast<size_t>(b * c.query_heads + h)), c.queries, c.keys);
        for (int64_t q = 0; q < c.queries; ++q)
          for (int64_t k = 0; k < c.keys; ++k)
            data.bias.set(b, h, q, k, pairs[static_cast<size_t>(q * c.keys + k)] ? 0 : -kInf);
      }
  }

  static void expect_results(Data& data, const Results& results) {
    const reference::Inputs in = data.inputs();
    const auto rows = reference::all_rows(in.query);
    const auto forward = reference::forward(in);
    const auto naive_forward = reference::naive_forward_rows(in, rows);
    expect_near("O", data.o, forward.output, naive_forward.output);
    expect_near("LSE", data.lse, forward.logsumexp, naive_forward.logsumexp);
    const auto exact = reference::backward(in);
    const auto naive = reference::naive_backward_rows(in, rows);
    expect_near("dQ", results.dq, exact.query, naive.query);
    expect_near("dK", results.dk, exact.key, naive.key);
    expect_near("dV", results.dv, exact.value, naive.value);
  }

  Results run(Data& data, const TestMasks& masks, const Setting& how = {}) {
    run_forward(kernel(), data, &masks);
    Results results(data);
    run_backward(kernel(), data, how, results, &masks);
    return results;
  }
};

INSTANTIATE_TEST_SUITE_P(Kernels, Masks, testing::ValuesIn(all_kernels()), name_of_kernel);

const Case kShapes[] = {
    {.query_heads = 2, .queries = 300, .keys = 331, .head_dim = 24, .value_dim = 40, .bias = 1},
    {.batch = 2,
     .query_heads = 4,
     .kv_heads = 2,
     .queries = 97,
     .keys = 70,
     .head_dim = 8,
     .value_dim = 8,
     .bias = 1},
};

TEST_P(Masks, WithinTheErrorOfNaive) {
  const std::vector<TestMask> sets[] = {
      {checkerboard()}, {sparse(), banded()}, {of_keys(), of_queries(), causal_by_program()}};
  for (const Case& c : kShapes)
    for (const auto& set : sets) {
      SCOPED_TRACE(testing::PrintToString(c));
      Data data(c, GetParam().dtype);
      const TestMasks masks(set, true, false);
      hide(data, masks);
      expect_results(data, run(data, masks, {.threads = 2}));
    }
}

// Neither how tiles were classified, nor their size, nor the width of ints changes a bit.
TEST_P(Masks, BitsDoNotDependOnTheClassification) {
  const std::vector<TestMask> set = {sparse(), causal_by_program(), of_queries()};
  for (const Case& c : kShapes) {
    SCOPED_TRACE(testing::PrintToString(c));
    Data exact(c, GetParam().dtype), careless(c, GetParam().dtype);
    const Results a = run(exact, TestMasks(set, true, false));
    const Results b = run(careless, TestMasks(set, false, true), {.query_tile = 64});
    EXPECT_EQ(exact.o.bytes(), careless.o.bytes());
    EXPECT_EQ(exact.lse.bytes(), careless.lse.bytes());
    EXPECT_EQ(a.dq.bytes(), b.dq.bytes());
    EXPECT_EQ(a.dk.bytes(), b.dk.bytes());
    EXPECT_EQ(a.dv.bytes(), b.dv.bytes());
  }
}

// k <= q + 31 as a program and as a band.
TEST_P(Masks, AProgramGivesTheBitsOfItsBand) {
  const Case c = {.queries = 300, .keys = 331, .head_dim = 24, .value_dim = 40};
  Data by_band(c, GetParam().dtype), by_program(c, GetParam().dtype);
  Builder b;
  TestMask band;
  band.rule.band.hi = 31;
  const Results x = run(by_band, TestMasks({band}, true, false));
  const Results y = run(
      by_program, TestMasks({b.mask(b.op(Op::kLessEqual, b.k, b.op(Op::kAdd, b.q, b.number(31))))},
                            true, true));
  EXPECT_EQ(by_band.o.bytes(), by_program.o.bytes());
  EXPECT_EQ(by_band.lse.bytes(), by_program.lse.bytes());
  EXPECT_EQ(x.bits(), y.bits());
}

// Lanes are queries of several heads, whose masks differ.
TEST_P(Masks, FewQueriesWithinTheErrorOfNaive) {
  for (const int64_t queries : {1, 5, 13}) {
    const Case c = {.batch = 2,
                    .query_heads = 6,
                    .kv_heads = 2,
                    .queries = queries,
                    .keys = 700,
                    .head_dim = 24,
                    .value_dim = 40,
                    .bias = 1};
    SCOPED_TRACE(testing::PrintToString(c));
    for (const bool is_careless : {false, true}) {
      Data data(c, GetParam().dtype);
      const TestMasks masks({checkerboard(), sparse(), of_keys(), banded(), {}}, true, is_careless);
      hide(data, masks);
      run_decode(kernel(), data, masks);
      const reference::Inputs in = data.inputs();
      const auto naive = reference::naive_forward_rows(in, reference::all_rows(in.query));
      const auto exact = reference::forward(in);
      expect_near("O", data.o, exact.output, naive.output);
      expect_near("LSE", data.lse, exact.logsumexp, naive.logsumexp);
    }
  }
}

// NaN in keys and values reaches exactly the rows that see them.
TEST_P(Masks, NaNStaysBehindTheMask) {
  const Case c = {.query_heads = 2, .queries = 90, .keys = 120, .head_dim = 16, .value_dim = 16};
  const TestMasks masks({checkerboard(), sparse()}, true, false);
  Data plain(c, GetParam().dtype), damaged(c, GetParam().dtype);
  damaged.k.set(0, 0, 50, 3, kNan);
  damaged.v.set(0, 0, 61, 5, kNan);
  run_forward(kernel(), plain, &masks);
  run_forward(kernel(), damaged, &masks);
  for (int64_t h = 0; h < 2; ++h) {
    const auto pairs = TestMasks::visible(masks.of_head(static_cast<size_t>(h)), c.queries, c.keys);
    for (int64_t q = 0; q < c.queries; ++q) {
      const auto sees = [&](int64_t k) { return pairs[static_cast<size_t>(q * c.keys + k)]; };
      for (int64_t d = 0; d < c.value_dim; ++d) {
        const double x =
            load_element(damaged.o.view.data, damaged.dtype, damaged.o.offset(0, h, q, d));
        const double y = load_element(plain.o.view.data, plain.dtype, plain.o.offset(0, h, q, d));
        if (sees(50) || (sees(61) && d == 5))
          EXPECT_TRUE(std::isnan(x)) << h << " " << q << " " << d;
        else
          EXPECT_EQ(x, y) << h << " " << q << " " << d;
      }
    }
  }
}

}  // namespace
}  // namespace tilewise
