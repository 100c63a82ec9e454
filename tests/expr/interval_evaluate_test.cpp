// SPDX-License-Identifier: Apache-2.0
// The intervals of every node, not of the root alone, against sampled points.
#include <gtest/gtest.h>

#include <bit>
#include <memory>
#include <vector>

#include "expr/bounds.h"
#include "expr/eval_scalar.h"
#include "expr/random_mask.h"

namespace tilewise::expr {
namespace {

Point sample(RandomMask& random, const Domain& domain) {
  const auto in = [&](int64_t lo, int64_t hi) { return lo + random.below(hi - lo + 1); };
  return {in(domain.batch.lo, domain.batch.hi), in(domain.head.lo, domain.head.hi),
          in(domain.box.q0, domain.box.q1), in(domain.box.k0, domain.box.k1),
          static_cast<double>(random.below(100) - 50)};
}

void expect_inside(const Bounds& bounds, const Expression& part, const Values& values,
                   const std::vector<Point>& points, int seed) {
  ScalarEvaluator evaluator(part, values);
  for (const Point& point : points) {
    if (part.type() == Type::kReal) {
      const RealInterval range = bounds.real(part.root);
      const double value = evaluator.real(point);
      ASSERT_TRUE(!range.is_known() || (range.lo <= value && value <= range.hi))
          << "seed " << seed << ", node " << part.root << ", operator "
          << static_cast<int>(part.node().op) << ": " << value << " outside " << range.lo << ' '
          << range.hi;
    } else {
      const Interval range = bounds.integer(part.root);
      const int64_t value =
          part.type() == Type::kInt ? evaluator.integer(point) : evaluator.boolean(point);
      ASSERT_TRUE(range.contains(value))
          << "seed " << seed << ", node " << part.root << ", operator "
          << static_cast<int>(part.node().op) << ": " << value << " outside " << range.lo << ' '
          << range.hi;
    }
  }
}

TEST(IntervalEvaluate, EveryNodeContainsItsValues) {
  constexpr int kExpressions = 4000, kPoints = 12;
  int64_t known_reals = 0, narrow = 0, nodes = 0;
  for (int seed = 0; seed < kExpressions; ++seed) {
    RandomMask random(static_cast<uint64_t>(seed) + 2'000'000);
    const int depth = static_cast<int>(1 + random.below(5));
    const Term root = random.one_in(3)   ? random.boolean(depth)
                      : random.one_in(2) ? random.integer(depth)
                                         : random.real(depth);
    const auto span = [&](int64_t from, int64_t length) {
      const int64_t lo = from + random.below(200);
      return Interval{lo, lo + random.below(length)};
    };
    const Interval q = span(-100, 40), k = span(-100, 40);
    const Domain domain{span(0, 3), span(0, 3), {q.lo, q.hi, k.lo, k.hi}};
    Values& values = random.builder.values;
    values.query_length = 100;
    values.kv_length = 200;
    const Expression expression = random.builder.expression(root);
    const Bounds bounds(expression, values, domain);
    std::vector<Point> points;
    for (int i = 0; i < kPoints; ++i) points.push_back(sample(random, domain));
    for (int32_t node = 0; node <= expression.root; ++node) {
      if (!bounds.has(node)) continue;
      expect_inside(bounds, {expression.graph, node}, values, points, seed);
      if (testing::Test::HasFatalFailure()) return;
      ++nodes;
      const Type type = expression.graph->node(node).type;
      known_reals += type == Type::kReal && bounds.real(node).is_known();
      narrow += type == Type::kInt && bounds.integer(node) != kAnyInteger;
    }
  }
  EXPECT_GT(nodes, 20'000);
  EXPECT_GT(known_reals, 1000);
  EXPECT_GT(narrow, 10'000);
}

// The fast path of a constant divisor, at the smallest integers, where products wrap.
TEST(IntervalEvaluate, ConstantDivisors) {
  for (const int64_t divisor : {1, 2, 3, 7, 64, 1000}) {
    for (const int64_t lo : {kMinInt, int64_t{-9}, int64_t{0}, int64_t{62}, kMaxInt - 9}) {
      for (int64_t length = 0; length < 9; ++length) {
        MaskBuilder m;
        const Term quotient = m.q() / divisor, rest = m.q() % divisor;
        const Expression both = m.expression(quotient + rest);
        const Bounds bounds(both, m.values, {{0, 0}, {0, 0}, {lo, lo + length, 0, 0}});
        Interval quotients{kMaxInt, kMinInt}, rests{kMaxInt, kMinInt};
        for (int64_t x = lo; x <= lo + length; ++x) {
          quotients = hull(quotients, {floor_div(x, divisor), floor_div(x, divisor)});
          rests = hull(rests, {floor_mod(x, divisor), floor_mod(x, divisor)});
          if (x == kMaxInt) break;
        }
        EXPECT_EQ(bounds.integer(quotient.node), quotients);
        EXPECT_LE(bounds.integer(rest.node).lo, rests.lo) << lo << ' ' << length << ' ' << divisor;
        EXPECT_GE(bounds.integer(rest.node).hi, rests.hi);
        if (quotients.is_one()) {
          EXPECT_EQ(bounds.integer(rest.node), rests);
        }
      }
    }
  }
}

TEST(IntervalEvaluate, RealComparisons) {
  MaskBuilder m;
  const Term x = to_real(m.q()), y = to_real(m.k());
  const auto on_box = [&](Term mask, const Box& box) {
    const Expression expression = m.expression(mask);
    return Bounds(expression, m.values, {{0, 0}, {0, 0}, box}).integer(expression.root);
  };
  const Interval is_false{0, 0}, is_true{1, 1}, is_open{0, 1};
  const Box touching{0, 4, 4, 8}, apart{0, 3, 4, 8}, point{4, 4, 4, 4};
  EXPECT_EQ(on_box(x < y, touching), is_open);
  EXPECT_EQ(on_box(x <= y, touching), is_true);
  EXPECT_EQ(on_box(y < x, touching), is_false);
  EXPECT_EQ(on_box(y <= x, touching), is_open);
  EXPECT_EQ(on_box(x < y, apart), is_true);
  EXPECT_EQ(on_box(y <= x, apart), is_false);
  EXPECT_EQ(on_box(x == y, apart), is_false);
  EXPECT_EQ(on_box(x != y, apart), is_true);
  EXPECT_EQ(on_box(x == y, point), is_true);
  EXPECT_EQ(on_box(x != y, point), is_false);
  // The score may be anything, NaN too.
  const Term s = m.variable(Variable::kScore);
  EXPECT_EQ(on_box(s == s, point), is_open);
  EXPECT_EQ(on_box(s < m.real(1), point), is_open);
}

}  // namespace
}  // namespace tilewise::expr
