// SPDX-License-Identifier: Apache-2.0
// Reads a mask and a score from the bytes; one that is accepted is printed and read again, must be
// the same, and has a value at any point.
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>
#include <string_view>

#include "expr/eval_scalar.h"
#include "expr/parse.h"
#include "expr/print.h"
#include "fuzz/fuzz_targets.h"
#include "tilewise/error.h"

namespace tilewise::fuzz {
namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

// Tables of one element: every index is clamped to it.
expr::Values some_values(const expr::Graph& graph, double* element) {
  expr::Values values;
  values.query_length = 5, values.kv_length = 7;
  for (const expr::Symbol& symbol : graph.symbols()) {
    expr::Values::Entry entry;
    entry.integer = static_cast<int64_t>(symbol.name.size()) - 3;
    entry.real = 0.5;
    if (symbol.rank > 0) {
      entry.table = std::make_shared<const expr::IntTable>(
          expr::IntTable{{-2}, std::vector<int64_t>(static_cast<size_t>(symbol.rank), 1)});
      entry.real_table = Tensor::bhsd(element, DType::kFloat64, 1, 1, 1, 1);
    }
    values.symbols.push_back(entry);
  }
  return values;
}

void check(const expr::Expression& expression) {
  using expr::Type;
  const bool is_mask = expression.type() == Type::kBool;
  require(is_mask || expression.type() == Type::kReal);
  std::string text;
  try {
    text = expr::print(expression);
  } catch (const InvalidArgument&) {
    return;  // `a == b` of two conditions doubles b: the text may be beyond the budget
  }
  const expr::Expression again = is_mask ? expr::parse_mask(text) : expr::parse_score(text);
  require(hash_of(*again.graph, again.root) == hash_of(*expression.graph, expression.root));
  require(expr::print(again) == text);

  double element = 0.25;
  const expr::Values values = some_values(*expression.graph, &element);
  const expr::Values values_again = some_values(*again.graph, &element);
  expr::ScalarEvaluator one(expression, values), other(again, values_again);
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  for (const expr::Point& point : {expr::Point{0, 0, 3, 4, 0.5}, expr::Point{1, 2, 6, 1, -3},
                                   expr::Point{0, kMost, kMost - 1, -kMost, 1e300}}) {
    if (is_mask) {
      require(one.boolean(point) == other.boolean(point));
    } else {
      const double a = one.real(point), b = other.real(point);
      require(a == b || (std::isnan(a) && std::isnan(b)));
    }
  }
}

}  // namespace

void fuzz_expression(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const auto parse : {expr::parse_mask, expr::parse_score}) {
    expr::Expression expression;
    try {
      expression = parse(text, {});
    } catch (const InvalidArgument&) {
      continue;
    }
    check(expression);
  }
}

}  // namespace tilewise::fuzz
