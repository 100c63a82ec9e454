// SPDX-License-Identifier: Apache-2.0
#include "expr/grad.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "expr/eval_scalar.h"
#include "expr/parse.h"
#include "expr/print.h"
#include "tilewise/error.h"
#include "verify/random_expression.h"

namespace tilewise::expr {
namespace {

std::string by_score(const char* text) { return print(derivatives(parse_score(text)).by_score); }
std::string by_lookup(const char* text) {
  const Derivatives d = derivatives(parse_score(text));
  return d.by_lookup.empty() ? "none" : print(d.by_lookup[0].derivative);
}
double at(const Expression& e, double s) {
  const Values none;
  return ScalarEvaluator(e, none).real({.query = 7, .key = 2, .score = s});
}

TEST(Grad, IsSimple) {
  EXPECT_EQ(by_score("s"), "1.0");
  EXPECT_EQ(by_score("s - slope[h] * (q - k)"), "1.0");
  EXPECT_EQ(by_lookup("s - slope[h] * (q - k)"), "-float(q - k)");
  EXPECT_EQ(by_score("s + bias[h, q]"), "1.0");
  EXPECT_EQ(by_lookup("s + bias[h, q]"), "1.0");
  EXPECT_EQ(by_score("30 * tanh(s / 30)"), "1.0 - tanh(s / 30.0) * tanh(s / 30.0)");
  EXPECT_EQ(by_score("where(k <= q, s, -1e9)"), "where(k <= q, 1.0, 0.0)");
  EXPECT_EQ(by_score("q - k"), "0.0");
  EXPECT_EQ(by_score("2 * s + 3 * s"), "5.0");
  EXPECT_EQ(by_score("-(-s)"), "1.0");
  EXPECT_EQ(by_score("s * s"), "s + s");
  EXPECT_EQ(by_lookup("s * 2"), "none");
}

TEST(Grad, OfEveryOperator) {
  const struct {
    const char* text;
    double s;
    double derivative;
  } kCases[] = {{"s + q * s", 3, 8},
                {"q - s", 3, -1},
                {"s * s * s", 2, 12},
                {"1 / s", 2, -0.25},
                {"s / q", 2, 1.0 / 7},
                {"-s", 2, -1},
                {"abs(s)", 2, 1},
                {"abs(s)", -2, -1},
                {"abs(s)", 0, 0},
                {"min(s, 1)", 0.5, 1},
                {"min(s, 1)", 2, 0},
                {"min(s, 1)", 1, 1},  // a tie: the first
                {"min(1, s)", 1, 0},
                {"max(s, 1)", 0.5, 0},
                {"max(s, 1)", 2, 1},
                {"max(s, 1)", 1, 1},
                {"max(1, s)", 1, 0},
                {"min(s, s)", 1, 1},
                {"exp(s)", 1, std::exp(1.0)},
                {"log(s)", 4, 0.25},
                {"sqrt(s)", 4, 0.25},
                {"tanh(s)", 0, 1},
                {"where(s < 1, 2 * s, 3 * s)", 0, 2},
                {"where(s < 1, 2 * s, 3 * s)", 1, 3},
                {"where(s < 1, s, s)", 1, 1}};
  for (const auto& c : kCases)
    EXPECT_DOUBLE_EQ(at(derivatives(parse_score(c.text)).by_score, c.s), c.derivative)
        << c.text << " at " << c.s;
}

TEST(Grad, ABranchNotTakenAddsNothing) {
  EXPECT_EQ(at(derivatives(parse_score("where(s > 0, sqrt(s), 0)")).by_score, 0), 0);
  EXPECT_EQ(at(derivatives(parse_score("where(s > 0, log(s) * 2, s) * 3")).by_score, -1), 3);
  EXPECT_EQ(at(derivatives(parse_score("log(max(s, 0))")).by_score, -1), 0);
  EXPECT_EQ(at(derivatives(parse_score("1 / where(s > 0, s, 1)")).by_score, -1), 0);
}

TEST(Grad, LookupsKeepTheirNodes) {
  const Expression score = parse_score("bias[q] * s + bias[k] + other[0] * bias[q]");
  const Derivatives d = derivatives(score);
  ASSERT_EQ(d.by_lookup.size(), 3u);
  for (const LookupDerivative& one : d.by_lookup) {
    EXPECT_EQ(score.graph->node(one.lookup), d.by_score.graph->node(one.lookup));
    EXPECT_EQ(score.graph->node(one.lookup).op, Op::kLookup);
    EXPECT_EQ(one.derivative.graph, d.by_score.graph);
  }
}

TEST(Grad, StaysInTheBudget) {
  std::string text = "s";
  for (int i = 0; i < 8000; ++i) text = text + " * s";
  EXPECT_THROW((void)derivatives(parse_score(text)), InvalidArgument);
}

// A central difference of f at 0 and how far off it may be, by comparing three steps. Nothing if f
// is not smooth there, or not accurate.
struct Difference {
  double value;
  double error;
};
template <class F>
std::optional<Difference> difference(const F& f) {
  const auto central = [&f](double h) { return (f(h) - f(-h)) / (2 * h); };
  const double h = 1.0 / 1024;
  const double one = central(h), half = central(h / 2), quarter = central(h / 4);
  const double error = std::abs(one - half) + std::abs(half - quarter);
  const bool is_useful = std::isfinite(error) && error <= 1e-3 * std::max(std::abs(half), 1e-3);
  if (!is_useful) return std::nullopt;
  // Rounding: each value of f may be off by some ulps of its size.
  const double noise = 64 * std::numeric_limits<double>::epsilon() * std::abs(f(0)) / h;
  return Difference{quarter, error + noise};
}

// d score / d (element of a real table): the sum over the lookups that read it.
double by_element(const Derivatives& d, const Values& values, const Point& point, int64_t symbol,
                  int64_t element) {
  double sum = 0;
  for (const LookupDerivative& one : d.by_lookup) {
    const Node& node = d.by_score.graph->node(one.lookup);
    if (node.immediate != symbol) continue;
    int64_t read = 0;
    for (int i = 0; i < node.count; ++i) {
      const Expression index{d.by_score.graph, node.operand[i]};
      read =
          read * values.symbols[static_cast<size_t>(symbol)].real_table.shape[4 - node.count + i] +
          ScalarEvaluator(index, values).integer(point);
    }
    if (read == element) sum += ScalarEvaluator(one.derivative, values).real(point);
  }
  return sum;
}

// Whether the chain rule has values: everything that the score is computed from has a derivative
// and is of a moderate size. (exp(s / 0) and sqrt(0 * s) are constant, but not by the chain rule.)
bool is_regular(const Expression& score, const Values& values, const Point& point) {
  const std::vector<bool> reached = reachable(*score.graph, score.root);
  for (size_t i = 0; i < reached.size(); ++i) {
    if (!reached[i] || score.graph->nodes()[i].type != Type::kReal) continue;
    const Expression part{score.graph, static_cast<int32_t>(i)};
    const double value = ScalarEvaluator(part, values).real(point);
    if (part.node().op == Op::kSqrt && value == 0) return false;
    if (value != 0 && !(std::abs(value) > 1e-30 && std::abs(value) < 1e30)) return false;
  }
  return true;
}

TEST(Grad, AgreesWithFiniteDifferencesOnRandomScores) {
  int judged = 0, judged_tables = 0;
  for (uint64_t i = 0; i < 3000; ++i) {
    verify::RandomExpression r =
        verify::random_expression(11, i, {.is_score = true, .is_bindable = true, .operators = 12});
    const Derivatives d = derivatives(r.expression);
    ScalarEvaluator score(r.expression, r.values), slope(d.by_score, r.values);
    Random random(12, i);
    for (int n = 0; n < 4; ++n) {
      const Point point = verify::random_point(r.values, random);
      if (!is_regular(r.expression, r.values, point)) continue;
      const auto by_s = difference([&](double h) {
        Point moved = point;
        moved.score += h;
        return score.real(moved);
      });
      if (by_s) {
        ASSERT_NEAR(slope.real(point), by_s->value, by_s->error)
            << "expression " << i << ", point " << n << ": " << print(r.expression);
        judged += by_s->value != 0;
      }
      for (size_t symbol = 0; symbol < r.values.symbols.size(); ++symbol) {
        const Tensor& table = r.values.symbols[symbol].real_table;
        if (table.data == nullptr) continue;
        // An element that is read, if there is one.
        int64_t element = 0;
        for (int64_t e = 0; e < table.shape[2] * table.shape[3]; ++e) {
          if (by_element(d, r.values, point, static_cast<int64_t>(symbol), e) != 0) element = e;
        }
        double& value = static_cast<double*>(table.data)[element];
        const double kept = value;
        const auto by_value = difference([&](double h) {
          value = kept + h;
          const double result = score.real(point);
          value = kept;
          return result;
        });
        if (!by_value) continue;
        ASSERT_NEAR(by_element(d, r.values, point, static_cast<int64_t>(symbol), element),
                    by_value->value, by_value->error)
            << "expression " << i << ", point " << n << ": " << print(r.expression);
        judged_tables += by_value->value != 0;
      }
    }
  }
  EXPECT_GT(judged, 1000);
  EXPECT_GT(judged_tables, 1000);
}

}  // namespace
}  // namespace tilewise::expr
