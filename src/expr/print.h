// SPDX-License-Identifier: Apache-2.0
// Expression to text: the inverse of parse.h.
#pragma once

#include <string>

#include "expr/ir.h"

namespace tilewise::expr {

// With as few parentheses as Python needs. Parsed, it gives a graph of the same hash; real literals
// are exact, in their shortest form. Throws InvalidArgument
// if the text would be beyond the budgets of parse.h (a graph that shares its parts many times over
// can have a text of any length).
[[nodiscard]] std::string print(const Expression& expression);

}  // namespace tilewise::expr
