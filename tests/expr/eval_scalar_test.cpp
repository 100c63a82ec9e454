// SPDX-License-Identifier: Apache-2.0
// The oracle against numbers worked out by hand, or by Python.
#include "expr/eval_scalar.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/dtype.h"

namespace tilewise::expr {
namespace {

constexpr int64_t kLow = std::numeric_limits<int64_t>::min();
constexpr int64_t kHigh = std::numeric_limits<int64_t>::max();
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// The value of op(a, b), both literals.
template <class Number>
Expression apply(Op op, Number a, Number b) {
  auto graph = std::make_shared<Graph>();
  const int32_t left = graph->constant(a), right = graph->constant(b);
  return {graph, graph->binary(op, left, right)};
}
int64_t integer(Op op, int64_t a, int64_t b) {
  const Expression e = apply(op, a, b);
  return ScalarEvaluator(e, {}).integer({});
}
double real(Op op, double a, double b) {
  const Expression e = apply(op, a, b);
  return ScalarEvaluator(e, {}).real({});
}
template <class Number>
bool boolean(Op op, Number a, Number b) {
  const Expression e = apply(op, a, b);
  return ScalarEvaluator(e, {}).boolean({});
}
template <class Number>
Expression apply(Op op, Number a) {
  auto graph = std::make_shared<Graph>();
  const int32_t operand = graph->constant(a);
  return {graph, graph->unary(op, operand)};
}
int64_t integer(Op op, int64_t a) {
  const Expression e = apply(op, a);
  return ScalarEvaluator(e, {}).integer({});
}
double real(Op op, double a) {
  const Expression e = apply(op, a);
  return ScalarEvaluator(e, {}).real({});
}

TEST(ScalarEvaluator, IntegersWrap) {
  EXPECT_EQ(integer(Op::kAdd, 2, 3), 5);
  EXPECT_EQ(integer(Op::kAdd, kHigh, 1), kLow);
  EXPECT_EQ(integer(Op::kSub, 2, 5), -3);
  EXPECT_EQ(integer(Op::kSub, kLow, 1), kHigh);
  EXPECT_EQ(integer(Op::kMul, -4, 3), -12);
  EXPECT_EQ(integer(Op::kMul, int64_t{1} << 62, 4), 0);
  EXPECT_EQ(integer(Op::kNeg, 5), -5);
  EXPECT_EQ(integer(Op::kNeg, kLow), kLow);
  EXPECT_EQ(integer(Op::kAbs, -5), 5);
  EXPECT_EQ(integer(Op::kAbs, kLow), kLow);
  EXPECT_EQ(integer(Op::kMin, -5, 2), -5);
  EXPECT_EQ(integer(Op::kMax, -5, 2), 2);
}

TEST(ScalarEvaluator, DivisionFloorsAsInPython) {
  const struct {
    int64_t a, b, quotient, rest;
  } kCases[] = {{7, 2, 3, 1},   {-7, 2, -4, 1},        {7, -2, -4, -1}, {-7, -2, 3, -1},
                {6, 3, 2, 0},   {-6, 3, -2, 0},        {0, -5, 0, 0},   {1, kHigh, 0, 1},
                {-1, 2, -1, 1}, {kLow, 2, kLow / 2, 0}};
  for (const auto& c : kCases) {
    EXPECT_EQ(integer(Op::kFloorDiv, c.a, c.b), c.quotient) << c.a << " // " << c.b;
    EXPECT_EQ(integer(Op::kMod, c.a, c.b), c.rest) << c.a << " % " << c.b;
  }
  // No trap: what ir.h defines, or wraps.
  EXPECT_EQ(integer(Op::kFloorDiv, 7, 0), 0);
  EXPECT_EQ(integer(Op::kMod, 7, 0), 0);
  EXPECT_EQ(integer(Op::kFloorDiv, kLow, -1), kLow);
  EXPECT_EQ(integer(Op::kMod, kLow, -1), 0);
}

TEST(ScalarEvaluator, Reals) {
  EXPECT_EQ(real(Op::kAdd, 0.5, 0.25), 0.75);
  EXPECT_EQ(real(Op::kSub, 0.5, 0.75), -0.25);
  EXPECT_EQ(real(Op::kMul, 0.5, -3), -1.5);
  EXPECT_EQ(real(Op::kDiv, 1, 4), 0.25);
  EXPECT_EQ(real(Op::kDiv, 1, 0), kInfinity);
  EXPECT_EQ(real(Op::kMin, 0.5, 0.25), 0.25);
  EXPECT_EQ(real(Op::kMax, 0.5, 0.25), 0.5);
  EXPECT_EQ(real(Op::kAbs, -0.5), 0.5);
  EXPECT_EQ(real(Op::kNeg, 0.5), -0.5);
  EXPECT_EQ(real(Op::kExp, 1), std::exp(1.0));
  EXPECT_EQ(real(Op::kLog, 2), std::log(2.0));
  EXPECT_EQ(real(Op::kTanh, 0.5), std::tanh(0.5));
  EXPECT_EQ(real(Op::kSqrt, 2), std::sqrt(2.0));
  EXPECT_EQ(real(Op::kLog, 0), -kInfinity);
}

TEST(ScalarEvaluator, NaNGoesThroughMinAndMax) {
  for (const Op op : {Op::kMin, Op::kMax}) {
    EXPECT_TRUE(std::isnan(real(op, kNaN, 1)));
    EXPECT_TRUE(std::isnan(real(op, 1, kNaN)));
  }
}

TEST(ScalarEvaluator, Comparisons) {
  const struct {
    Op op;
    bool below, equal, above;
  } kCases[] = {{Op::kLess, true, false, false},
                {Op::kLessEqual, true, true, false},
                {Op::kEqual, false, true, false},
                {Op::kNotEqual, true, false, true}};
  for (const auto& c : kCases) {
    EXPECT_EQ(boolean<int64_t>(c.op, -1, 2), c.below);
    EXPECT_EQ(boolean<int64_t>(c.op, 2, 2), c.equal);
    EXPECT_EQ(boolean<int64_t>(c.op, 2, -1), c.above);
    EXPECT_EQ(boolean<double>(c.op, -1.5, -1.25), c.below);
    EXPECT_EQ(boolean<double>(c.op, 0.0, -0.0), c.equal);
    EXPECT_EQ(boolean<double>(c.op, 1e300, -1e300), c.above);
    EXPECT_EQ(boolean<double>(c.op, kNaN, kNaN), c.op == Op::kNotEqual);
  }
}

TEST(ScalarEvaluator, Bools) {
  for (const bool a : {false, true}) {
    for (const bool b : {false, true}) {
      EXPECT_EQ(boolean(Op::kAnd, a, b), a && b);
      EXPECT_EQ(boolean(Op::kOr, a, b), a || b);
    }
    const Expression no = apply(Op::kNot, a);
    EXPECT_EQ(ScalarEvaluator(no, {}).boolean({}), !a);
  }
}

TEST(ScalarEvaluator, WhereTakesOneOfTwo) {
  auto graph = std::make_shared<Graph>();
  const int32_t q = graph->variable(Variable::kQuery), k = graph->variable(Variable::kKey);
  const int32_t root = graph->where(graph->binary(Op::kLess, q, k), q, graph->unary(Op::kNeg, k));
  const Expression e{graph, root};
  const Values none;
  ScalarEvaluator evaluator(e, none);
  EXPECT_EQ(evaluator.integer({.query = 3, .key = 5}), 3);
  EXPECT_EQ(evaluator.integer({.query = 5, .key = 3}), -3);
}

TEST(ScalarEvaluator, VariablesAndScalars) {
  Values values;
  values.query_length = 11, values.kv_length = 13, values.query_offset = 17, values.key_offset = 19;
  const Point point{.batch = 2, .head = 3, .query = 5, .key = 7, .score = 0.5};
  const int64_t expected[] = {2, 3, 5, 7, 11, 13, 17, 19};
  for (int i = 0; i < kVariables - 1; ++i) {
    auto graph = std::make_shared<Graph>();
    const Expression e{graph, graph->variable(static_cast<Variable>(i))};
    EXPECT_EQ(ScalarEvaluator(e, values).integer(point), expected[i]);
  }
  auto graph = std::make_shared<Graph>();
  const int32_t cap = graph->scalar("cap", Type::kReal);
  const int32_t window = graph->scalar("window", Type::kInt);
  const Expression e{
      graph, graph->binary(Op::kAdd, graph->unary(Op::kToReal, window),
                           graph->binary(Op::kMul, cap, graph->variable(Variable::kScore)))};
  values.symbols = {{.real = 8}, {.integer = -3}};
  EXPECT_EQ(ScalarEvaluator(e, values).real(point), -3 + 8 * 0.5);
}

TEST(ScalarEvaluator, IntegerTablesAreRowMajorAndIndicesAreClamped) {
  auto graph = std::make_shared<Graph>();
  const int32_t index[] = {graph->variable(Variable::kHead), graph->variable(Variable::kQuery),
                           graph->variable(Variable::kKey)};
  const Expression e{graph, graph->lookup("t", Type::kInt, index, 3)};
  auto table = std::make_shared<IntTable>();
  table->shape = {2, 3, 4};
  for (int32_t i = 0; i < 24; ++i) table->data.push_back(100 + i);
  Values values;
  values.symbols = {{.table = table}};
  ScalarEvaluator evaluator(e, values);
  for (int64_t h = -1; h <= 2; ++h) {
    for (int64_t q = -1; q <= 3; ++q) {
      for (int64_t k = -1; k <= 4; ++k) {
        const auto inside = [](int64_t i, int64_t n) { return i < 0 ? 0 : i >= n ? n - 1 : i; };
        ASSERT_EQ(evaluator.integer({.head = h, .query = q, .key = k}),
                  100 + inside(h, 2) * 12 + inside(q, 3) * 4 + inside(k, 4));
      }
    }
  }
}

TEST(ScalarEvaluator, RealTablesHaveDtypesAndStrides) {
  auto graph = std::make_shared<Graph>();
  const int32_t index[] = {graph->variable(Variable::kHead), graph->variable(Variable::kKey)};
  const Expression e{graph, graph->lookup("bias", Type::kReal, index, 2)};
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kFloat64}) {
    double memory[12] = {};
    for (int i = 0; i < 12; ++i) store_element(memory, dtype, i, i * 0.25);
    Values values;  // the last two axes, transposed: 3 heads, 4 keys
    values.symbols = {{.real_table = {memory, dtype, {1, 1, 3, 4}, {0, 0, 1, 3}}}};
    ScalarEvaluator evaluator(e, values);
    for (int64_t h = 0; h < 3; ++h) {
      for (int64_t k = 0; k < 4; ++k) {
        ASSERT_EQ(evaluator.real({.head = h, .key = k}), static_cast<double>(k * 3 + h) * 0.25);
      }
    }
    EXPECT_EQ(evaluator.real({.head = 7, .key = -2}), 2 * 0.25);  // clamped
  }
}

TEST(ScalarEvaluator, IgnoresWhatTheRootDoesNotNeed) {
  auto graph = std::make_shared<Graph>();
  const int32_t q = graph->variable(Variable::kQuery);
  graph->lookup("unbound", Type::kInt, &q, 1);  // would fail: no values are given
  const Expression e{graph, graph->unary(Op::kNeg, q)};
  EXPECT_EQ(ScalarEvaluator(e, {}).integer({.query = 4}), -4);
}

}  // namespace
}  // namespace tilewise::expr
