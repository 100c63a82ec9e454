// SPDX-License-Identifier: Apache-2.0
// Symbolic derivatives of a score, in reverse: from the result towards s and the real tables.
#pragma once

#include <vector>

#include "expr/ir.h"

namespace tilewise::expr {

struct LookupDerivative {
  int32_t lookup;         // node of the score: a lookup in a real table
  Expression derivative;  // d score / d (value of this lookup)
};

// All derivatives share one graph, whose first nodes are those of the score.
//
// Where there is no derivative this is a subgradient: min and max of two equal values follow the
// first operand, abs at 0 has 0, conditions are constant. A branch of `where` that is not taken
// adds exactly 0, also where its derivative is infinite or NaN.
struct Derivatives {
  Expression by_score;  // d score / d s
  std::vector<LookupDerivative>
      by_lookup;  // every lookup of a real table that the score depends on
};

// Throws InvalidArgument if the graph would exceed its budget.
[[nodiscard]] Derivatives derivatives(const Expression& score);

}  // namespace tilewise::expr
