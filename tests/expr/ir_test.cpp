// SPDX-License-Identifier: Apache-2.0
#include "expr/ir.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "support/error_of.h"
#include "tilewise/error.h"

namespace tilewise::expr {
namespace {

using test::error_of;

TEST(Graph, EqualNodesAreOne) {
  Graph graph;
  const int32_t q = graph.variable(Variable::kQuery);
  const int32_t one = graph.constant(int64_t{1});
  const int32_t sum = graph.binary(Op::kAdd, q, one);
  EXPECT_EQ(graph.binary(Op::kAdd, graph.variable(Variable::kQuery), graph.constant(int64_t{1})),
            sum);
  EXPECT_EQ(graph.nodes().size(), 3u);
  EXPECT_NE(graph.binary(Op::kAdd, one, q), sum);
  EXPECT_NE(graph.binary(Op::kSub, q, one), sum);
}

TEST(Graph, EqualNodesAreOneAlsoAmongThousands) {
  Graph graph;
  std::vector<int32_t> added;
  for (int64_t i = 0; i < 5000; ++i) added.push_back(graph.constant(i * 64));
  for (int64_t i = 0; i < 5000; ++i) {
    ASSERT_EQ(graph.constant(i * 64), added[static_cast<size_t>(i)]);
    ASSERT_EQ(graph.node(added[static_cast<size_t>(i)]).immediate, i * 64);
  }
  EXPECT_EQ(graph.nodes().size(), 5000u);
}

TEST(Graph, ConstantsOfDifferentTypesDiffer) {
  Graph graph;
  const int32_t integer = graph.constant(int64_t{1});
  const int32_t boolean = graph.constant(true);
  const int32_t real = graph.constant(1.0);
  EXPECT_NE(integer, boolean);
  EXPECT_NE(integer, real);
  EXPECT_EQ(graph.node(real).real(), 1.0);
  EXPECT_NE(graph.constant(0.0), graph.constant(-0.0));
}

TEST(Graph, EveryNaNIsOne) {
  Graph graph;
  const int32_t nan = graph.constant(std::numeric_limits<double>::quiet_NaN());
  EXPECT_EQ(graph.constant(-std::numeric_limits<double>::quiet_NaN()), nan);
  EXPECT_EQ(graph.constant(std::bit_cast<double>(0x7FF8000000001234)), nan);
}

TEST(Graph, TypesOfResults) {
  Graph graph;
  const int32_t q = graph.variable(Variable::kQuery);
  const int32_t s = graph.variable(Variable::kScore);
  const int32_t less = graph.binary(Op::kLess, q, q);
  const int32_t index[] = {q, q};
  const auto type = [&graph](int32_t node) { return graph.node(node).type; };
  EXPECT_EQ(type(q), Type::kInt);
  EXPECT_EQ(type(s), Type::kReal);
  EXPECT_EQ(type(less), Type::kBool);
  EXPECT_EQ(type(graph.binary(Op::kNotEqual, s, s)), Type::kBool);
  EXPECT_EQ(type(graph.binary(Op::kMin, s, s)), Type::kReal);
  EXPECT_EQ(type(graph.binary(Op::kMod, q, q)), Type::kInt);
  EXPECT_EQ(type(graph.unary(Op::kToReal, q)), Type::kReal);
  EXPECT_EQ(type(graph.where(less, less, less)), Type::kBool);
  EXPECT_EQ(type(graph.where(less, s, s)), Type::kReal);
  EXPECT_EQ(type(graph.lookup("bias", Type::kReal, index, 2)), Type::kReal);
  EXPECT_EQ(type(graph.scalar("window", Type::kInt)), Type::kInt);
}

TEST(Graph, WrongTypesAreOurMistake) {
  Graph graph;
  const int32_t q = graph.variable(Variable::kQuery);
  const int32_t s = graph.variable(Variable::kScore);
  const int32_t yes = graph.constant(true);
  for (const Op op : {Op::kAdd, Op::kSub, Op::kMul, Op::kMin, Op::kMax, Op::kLess, Op::kLessEqual,
                      Op::kEqual, Op::kNotEqual}) {
    EXPECT_THROW(graph.binary(op, q, s), InternalError) << static_cast<int>(op);
    EXPECT_THROW(graph.binary(op, yes, yes), InternalError) << static_cast<int>(op);
  }
  for (const Op op : {Op::kFloorDiv, Op::kMod})
    EXPECT_THROW(graph.binary(op, s, s), InternalError) << static_cast<int>(op);
  EXPECT_THROW(graph.binary(Op::kDiv, q, q), InternalError);
  for (const Op op : {Op::kAnd, Op::kOr})
    EXPECT_THROW(graph.binary(op, q, q), InternalError) << static_cast<int>(op);
  for (const Op op : {Op::kExp, Op::kLog, Op::kTanh, Op::kSqrt, Op::kNot})
    EXPECT_THROW(graph.unary(op, q), InternalError) << static_cast<int>(op);
  for (const Op op : {Op::kAbs, Op::kNeg})
    EXPECT_THROW(graph.unary(op, yes), InternalError) << static_cast<int>(op);
  EXPECT_THROW(graph.unary(Op::kToReal, s), InternalError);
  EXPECT_THROW(graph.unary(Op::kAdd, q), InternalError);
  EXPECT_THROW(graph.binary(Op::kNeg, q, q), InternalError);
  EXPECT_THROW(graph.where(q, q, q), InternalError);
  EXPECT_THROW(graph.where(yes, q, s), InternalError);
  EXPECT_THROW(graph.lookup("t", Type::kInt, &s, 1), InternalError);
  EXPECT_THROW(graph.lookup("t", Type::kBool, &q, 1), InternalError);
  EXPECT_THROW(graph.lookup("t", Type::kInt, &q, 0), InternalError);
  const int32_t five[] = {q, q, q, q, q};
  EXPECT_THROW(graph.lookup("t", Type::kInt, five, 5), InternalError);
}

TEST(Graph, NumbersBecomeRealsAndBools) {
  Graph graph;
  const int32_t q = graph.variable(Variable::kQuery);
  const int32_t s = graph.variable(Variable::kScore);
  const int32_t yes = graph.constant(true);
  EXPECT_EQ(graph.promoted(s), s);
  EXPECT_EQ(graph.promoted(q), graph.unary(Op::kToReal, q));
  EXPECT_EQ(graph.promoted(graph.constant(int64_t{-3})), graph.constant(-3.0));
  EXPECT_THROW(graph.promoted(yes), InternalError);
  EXPECT_EQ(graph.truth(yes), yes);
  EXPECT_EQ(graph.truth(q), graph.binary(Op::kNotEqual, q, graph.constant(int64_t{0})));
  EXPECT_EQ(graph.truth(s), graph.binary(Op::kNotEqual, s, graph.constant(0.0)));
}

TEST(Graph, ANameHasOneMeaning) {
  Graph graph;
  const int32_t q = graph.variable(Variable::kQuery);
  const int32_t index[] = {q, q};
  graph.lookup("doc", Type::kInt, &q, 1);
  graph.scalar("cap", Type::kReal);
  EXPECT_EQ(graph.lookup("doc", Type::kInt, &q, 1), 1);
  EXPECT_EQ(error_of([&] { graph.lookup("doc", Type::kInt, index, 2); }),
            "expression: doc is a table of integer numbers with 2 indices, expected a table of "
            "integer numbers with 1 index, as elsewhere in the expression; one name has one "
            "meaning");
  EXPECT_EQ(error_of([&] { graph.scalar("cap", Type::kInt); }),
            "expression: cap is a named integer number, expected a named real number, as elsewhere "
            "in the expression; one name has one meaning");
}

TEST(Graph, SizesAreBounded) {
  Graph graph;
  for (int64_t i = 0; i < Graph::kMaxNodes; ++i) graph.constant(i);
  EXPECT_EQ(graph.constant(int64_t{5}), 5);  // nothing new
  EXPECT_EQ(error_of([&] { graph.constant(int64_t{-1}); }),
            "expression: size is more than 16384, expected at most 16384 different parts; put what "
            "it enumerates into a table");
  Graph names;
  for (size_t i = 0; i < Graph::kMaxSymbols; ++i) names.scalar("n" + std::to_string(i), Type::kInt);
  EXPECT_EQ(error_of([&] { names.scalar("one_more", Type::kInt); }),
            "expression: names is more than 256, expected at most 256");
}

TEST(Graph, ReachableIsWhatTheRootDependsOn) {
  auto graph = std::make_shared<Graph>();
  const int32_t q = graph->variable(Variable::kQuery);
  const int32_t k = graph->variable(Variable::kKey);
  const int32_t sum = graph->binary(Op::kAdd, q, k);
  const int32_t root = graph->unary(Op::kNeg, q);
  EXPECT_EQ(reachable(*graph, root), (std::vector<bool>{true, false, false, true}));
  EXPECT_TRUE(depends_on({graph, root}, Variable::kQuery));
  EXPECT_FALSE(depends_on({graph, root}, Variable::kKey));
  EXPECT_TRUE(depends_on({graph, sum}, Variable::kKey));
}

uint64_t hash(const std::function<int32_t(Graph&)>& build) {
  Graph graph;
  const int32_t root = build(graph);
  return hash_of(graph, root);
}

TEST(Hash, DoesNotDependOnTheOrderOfBuilding) {
  const auto straight = [](Graph& g) {
    const int32_t q = g.variable(Variable::kQuery);
    const int32_t a = g.lookup("a", Type::kInt, &q, 1);
    const int32_t b = g.lookup("b", Type::kInt, &q, 1);
    return g.binary(Op::kLess, a, b);
  };
  const auto other = [](Graph& g) {
    g.constant(int64_t{42});  // nobody needs it
    const int32_t q = g.variable(Variable::kQuery);
    const int32_t b = g.lookup("b", Type::kInt, &q, 1);
    const int32_t a = g.lookup("a", Type::kInt, &q, 1);
    return g.binary(Op::kLess, a, b);
  };
  EXPECT_EQ(hash(straight), hash(other));
}

TEST(Hash, DependsOnEverythingThatMatters) {
  const auto compare = [](Op op, const char* table, Variable a, int64_t c) {
    return hash([=](Graph& g) {
      const int32_t left = g.variable(a);
      const int32_t look = g.lookup(table, Type::kInt, &left, 1);
      return g.binary(op, look, g.constant(c));
    });
  };
  const uint64_t one = compare(Op::kLess, "t", Variable::kQuery, 7);
  EXPECT_EQ(one, compare(Op::kLess, "t", Variable::kQuery, 7));
  EXPECT_NE(one, compare(Op::kLessEqual, "t", Variable::kQuery, 7));
  EXPECT_NE(one, compare(Op::kLess, "u", Variable::kQuery, 7));
  EXPECT_NE(one, compare(Op::kLess, "t", Variable::kKey, 7));
  EXPECT_NE(one, compare(Op::kLess, "t", Variable::kQuery, 8));
  EXPECT_NE(hash([](Graph& g) { return g.constant(true); }),
            hash([](Graph& g) { return g.constant(int64_t{1}); }));
  EXPECT_NE(hash([](Graph& g) { return g.scalar("w", Type::kInt); }),
            hash([](Graph& g) { return g.scalar("w", Type::kReal); }));
  const auto minus = [](bool swapped) {
    return hash([=](Graph& g) {
      const int32_t q = g.variable(Variable::kQuery), k = g.variable(Variable::kKey);
      return swapped ? g.binary(Op::kSub, k, q) : g.binary(Op::kSub, q, k);
    });
  };
  EXPECT_NE(minus(false), minus(true));
}

TEST(Variables, AreCalledAsInTheText) {
  const char* const names[] = {
      "b", "h", "q", "k", "query_length", "kv_length", "query_offset", "key_offset", "s"};
  for (int i = 0; i < kVariables; ++i) EXPECT_STREQ(name_of(static_cast<Variable>(i)), names[i]);
}

}  // namespace
}  // namespace tilewise::expr
