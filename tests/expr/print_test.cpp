// SPDX-License-Identifier: Apache-2.0
#include "expr/print.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "expr/parse.h"
#include "tilewise/error.h"
#include "verify/random_expression.h"

namespace tilewise::expr {
namespace {

Expression built(const std::function<int32_t(Graph&)>& build) {
  auto graph = std::make_shared<Graph>();
  const int32_t root = build(*graph);
  return {graph, root};
}
Expression parsed(const Expression& e) {
  return e.type() == Type::kBool ? parse_mask(print(e)) : parse_score(print(e));
}
uint64_t hash(const Expression& e) { return hash_of(*e.graph, e.root); }

TEST(Print, AsFewParenthesesAsPythonNeeds) {
  for (const char* text : {
           "k <= q",
           "k <= q and q - k < 128",
           "a[q] == a[k] or k < 4 and not (q < k or q == 7) or True",
           "(q < k or k < 2) and q < 9",
           "not q < k and not (k < q and q < 5)",
           "q - (k - 1) < q - k - 1",
           "q * (k + 1) // 3 % 2 == q * k + 1",
           "q // (k // 2) == 0",
           "-q < -(q + k)",
           "-(5) < -5",
           "--5 < --q",
           "-(q * 2) < -q * 2",
           "min(q, k) <= max(min(q, 3), abs(q - k))",
           "where(q < k, q < 3, k < 3)",
           "layout[h, q // 128, k // 128] != 0",
           "-9223372036854775808 < 9223372036854775807 - q",
           "(q < k or k < 2) and (q < 9 and k < 9)",
       }) {
    EXPECT_EQ(print(parse_mask(text)), text);
  }
}

TEST(Print, ConversionsOnlyWhereTheParserAddsNone) {
  for (const char* text : {
           "s - slope[h] * (q - k)",
           "s + 1.0",
           "q",
           "q / k",
           "float(q) + k",
           "q + s",
           "float(3) + s",
           "s + float(3)",
           "q / float(3)",
           "exp(q)",
           "-float(q)",
           "abs(float(q))",
           "where(q < k, q, s)",
           "where(float(q) < k, float(q), k)",
           "where(q < s, q, float(3))",
           "max(q, s) * tanh(s / 30.0)",
           "bias[h, where(q < k, 3, k)]",
           "s + int(window)",
           "bias[where(s < float(cap) + float(slope[q]), w, 1)]",
           "bias[where(float(int(w)) < w, w, 1)]",
           "where(q < int(doc[k + w]) // int(w), float(int(w)) + int(v), -float(int(w)))",
       }) {
    EXPECT_EQ(print(parse_score(text)), text);
  }
}

TEST(Print, RealLiteralsAreShortestAndExact) {
  const struct {
    double value;
    const char* text;
  } kCases[] = {{0.1, "0.1"},
                {5, "5.0"},
                {-0.0, "-0.0"},
                {1e300, "1e+300"},
                {100000, "1e+05"},
                {5e-324, "5e-324"},
                {1.0 / 3, "0.3333333333333333"},
                {std::numeric_limits<double>::max(), "1.7976931348623157e+308"},
                {std::numeric_limits<double>::infinity(), "inf"},
                {-std::numeric_limits<double>::infinity(), "-inf"},
                {std::nan(""), "nan"}};
  for (const auto& c : kCases) {
    const Expression e = built([&](Graph& graph) { return graph.constant(c.value); });
    EXPECT_EQ(print(e), c.text);
    const Node again = parsed(e).node();
    EXPECT_EQ(again.immediate, e.node().immediate) << c.text;
    const Expression negation =
        built([&](Graph& graph) { return graph.unary(Op::kNeg, graph.constant(c.value)); });
    EXPECT_EQ(hash(parsed(negation)), hash(negation)) << c.text;
  }
}

TEST(Print, TooLongATextIsRefused) {
  const Expression doubled = built([](Graph& graph) {
    int32_t x = graph.variable(Variable::kQuery);
    for (int i = 0; i < 40; ++i) x = graph.binary(Op::kAdd, x, x);
    return graph.truth(x);
  });
  const char* const message =
      "expression: text is longer than 65536 bytes or deeper than 200 levels, expected a shorter "
      "one; put what it enumerates into a table";
  const auto error_of = [](const Expression& e) -> std::string {
    try {
      return print(e);
    } catch (const InvalidArgument& error) {
      return error.what();
    }
  };
  EXPECT_EQ(error_of(doubled), message);
  const Expression deep = built([](Graph& graph) {
    int32_t x = graph.variable(Variable::kQuery);
    for (int i = 0; i < 10'000; ++i) x = graph.unary(i % 2 == 0 ? Op::kNeg : Op::kAbs, x);
    return graph.truth(x);
  });
  EXPECT_EQ(error_of(deep), message);
  // A long chain is not deep.
  const Expression chain = built([](Graph& graph) {
    int32_t x = graph.variable(Variable::kQuery);
    for (int64_t i = 0; i < 5'000; ++i) x = graph.binary(Op::kAdd, x, graph.constant(i));
    return graph.truth(x);
  });
  EXPECT_EQ(hash(parsed(chain)), hash(chain));
}

TEST(Print, TheDeepestPrintedTextIsParsed) {
  // Every kind of level; the number of levels that print accepts is the number that parse accepts.
  const std::function<int32_t(Graph&, int32_t)> wrap[] = {
      [](Graph& g, int32_t x) { return g.unary(Op::kAbs, x); },
      [](Graph& g, int32_t x) { return g.unary(Op::kNeg, x); },
      [](Graph& g, int32_t x) { return g.lookup("t", Type::kInt, &x, 1); },
      [](Graph& g, int32_t x) { return g.binary(Op::kSub, g.constant(int64_t{1}), x); },
  };
  for (const auto& level : wrap) {
    int printed = 0;
    for (int depth = 190; depth < 210; ++depth) {
      const Expression e = built([&](Graph& graph) {
        int32_t x = graph.constant(int64_t{-1});
        for (int i = 0; i < depth; ++i) x = level(graph, x);
        return graph.truth(x);
      });
      try {
        (void)print(e);
      } catch (const InvalidArgument&) {
        continue;
      }
      ++printed;
      EXPECT_EQ(hash(parsed(e)), hash(e));
    }
    EXPECT_GE(printed, 9);
    EXPECT_LE(printed, 11);
  }
}

TEST(Print, ParseIsItsInverseOnRandomExpressions) {
  int printed = 0;
  for (const bool is_score : {false, true}) {
    for (const int operators : {2, 6, 16, 40}) {
      for (uint64_t i = 0; i < 1500; ++i) {
        const Expression e =
            verify::random_expression(
                7, i, {.is_score = is_score, .is_bindable = i % 2 == 0, .operators = operators})
                .expression;
        std::string text;
        try {
          text = print(e);
        } catch (const InvalidArgument&) {
          continue;  // shares its parts so often that its text is too long
        }
        ++printed;
        const Expression again = parsed(e);
        ASSERT_EQ(hash(again), hash(e)) << "expression " << i << ": " << text;
        ASSERT_EQ(print(again), text);
      }
    }
  }
  EXPECT_GT(printed, 11'500);
}

}  // namespace
}  // namespace tilewise::expr
