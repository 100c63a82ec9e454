// SPDX-License-Identifier: Apache-2.0
// Random masks and scores with data for their names, the same for a seed on every machine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/random.h"
#include "expr/values.h"

namespace tilewise::verify {

// The extents of the tables that random expressions look values up in: doc[97], step[7],
// layout[4, 5], tree[2, 6, 5], links[2, 3, 4, 3]; and of reals slope[4], bias[4, 31]. Empty for
// other names.
[[nodiscard]] std::vector<int64_t> table_shape(const std::string& name);

struct RandomExpressionOptions {
  bool is_score = false;  // else a mask
  // Never refused when its data is bound: divisors are literals other than 0, indices are inside
  // their tables by min and max, real literals and data are finite. Else anything.
  bool is_bindable = false;
  int operators = 16;  // about
};

struct RandomExpression {
  expr::Expression expression;
  expr::Values values;  // for every symbol of the graph; lengths below 100, offsets below 50
  std::vector<std::vector<double>> memory;  // what the real tables of `values` point to
};

[[nodiscard]] RandomExpression random_expression(uint64_t seed, uint64_t index,
                                                 const RandomExpressionOptions& options);

// A pair inside the lengths and offsets of `values`, batch and head below 4.
[[nodiscard]] expr::Point random_point(const expr::Values& values, Random& random);

}  // namespace tilewise::verify
