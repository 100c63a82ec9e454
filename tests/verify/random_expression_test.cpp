// SPDX-License-Identifier: Apache-2.0
#include "verify/random_expression.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "expr/eval_scalar.h"

namespace tilewise::verify {
namespace {

using expr::Node;
using expr::Op;
using expr::Type;

TEST(RandomExpression, IsAFunctionOfSeedAndIndex) {
  const auto hash = [](uint64_t seed, uint64_t index) {
    const auto e = random_expression(seed, index, {.is_score = true}).expression;
    return hash_of(*e.graph, e.root);
  };
  EXPECT_EQ(hash(3, 5), hash(3, 5));
  std::set<uint64_t> different;
  for (uint64_t i = 0; i < 100; ++i) different.insert(hash(3, i));
  EXPECT_GT(different.size(), 90u);
  EXPECT_NE(hash(3, 5), hash(4, 5));
}

TEST(RandomExpression, HasTheTypeAndTheDataItShould) {
  for (const bool is_score : {false, true}) {
    for (uint64_t i = 0; i < 300; ++i) {
      const RandomExpression r = random_expression(1, i, {.is_score = is_score});
      EXPECT_EQ(r.expression.type(), is_score ? Type::kReal : Type::kBool);
      EXPECT_EQ(r.values.symbols.size(), r.expression.graph->symbols().size());
      if (is_score) continue;
      for (const Node& node : r.expression.graph->nodes()) EXPECT_NE(node.type, Type::kReal);
    }
  }
}

TEST(RandomExpression, EveryOperatorComesUp) {
  std::set<Op> found;
  for (uint64_t i = 0; i < 200; ++i) {
    const auto e = random_expression(2, i, {.is_score = true, .operators = 30}).expression;
    for (const Node& node : e.graph->nodes()) found.insert(node.op);
  }
  EXPECT_EQ(found.size(), static_cast<size_t>(Op::kLookup) + 1);
}

// Evaluates divisors and indices of bindable expressions at many points.
TEST(RandomExpression, BindableMeansBindable) {
  Random random(9);
  int lookups = 0, divisions = 0;
  for (uint64_t i = 0; i < 400; ++i) {
    const RandomExpression r =
        random_expression(4, i, {.is_score = i % 2 == 0, .is_bindable = true, .operators = 24});
    for (const Node& node : r.expression.graph->nodes()) {
      if (node.op == Op::kFloorDiv || node.op == Op::kMod) {
        ++divisions;
        const Node& divisor = r.expression.graph->node(node.operand[1]);
        EXPECT_TRUE(divisor.is_const() && divisor.immediate != 0);
      }
      if (node.op == Op::kConst && node.type == Type::kReal) {
        EXPECT_TRUE(std::isfinite(node.real()));
      }
      if (node.op != Op::kLookup) continue;
      ++lookups;
      const auto& entry = r.values.symbols[static_cast<size_t>(node.immediate)];
      for (int axis = 0; axis < node.count; ++axis) {
        const expr::Expression index{r.expression.graph, node.operand[axis]};
        expr::ScalarEvaluator evaluator(index, r.values);
        const int64_t extent = node.type == Type::kInt
                                   ? entry.table->shape[static_cast<size_t>(axis)]
                                   : entry.real_table.shape[4 - node.count + axis];
        for (int point = 0; point < 10; ++point) {
          const int64_t at = evaluator.integer(random_point(r.values, random));
          ASSERT_TRUE(0 <= at && at < extent);
        }
      }
    }
  }
  EXPECT_GT(lookups, 100);
  EXPECT_GT(divisions, 100);
}

TEST(RandomExpression, PointsLieInsideTheStep) {
  Random random(5);
  expr::Values values;
  values.query_length = 3, values.kv_length = 5, values.query_offset = 100, values.key_offset = 7;
  std::set<int64_t> queries, keys;
  for (int i = 0; i < 300; ++i) {
    const expr::Point point = random_point(values, random);
    queries.insert(point.query);
    keys.insert(point.key);
  }
  EXPECT_EQ(queries, (std::set<int64_t>{100, 101, 102}));
  EXPECT_EQ(keys, (std::set<int64_t>{7, 8, 9, 10, 11}));
}

}  // namespace
}  // namespace tilewise::verify
