// SPDX-License-Identifier: Apache-2.0
// From the names in an expression to the data of a step.
#pragma once

#include <cstdint>
#include <vector>

#include "expr/values.h"
#include "tilewise/step.h"

namespace tilewise {

// The symbols of the expression with the step's data, in order, tables copied; lengths and offsets.
// Real tables, which come at run time, are left out. Throws InvalidArgument where a name is missing
// or is given data that does not fit.
[[nodiscard]] expr::Values bind(const expr::Expression& expression, const Step& step,
                                const char* operation);

// Every table and scalar of the step is used by one of the expressions (null: none), and no two
// have one name. Throws InvalidArgument.
void require_used(const expr::Expression* mask, const expr::Expression* score, const Step& step,
                  const char* operation);

// Whether the step's tables and scalars still have the values that were bound.
[[nodiscard]] bool has_values(const expr::Expression& expression, const expr::Values& values,
                              const Step& step);

}  // namespace tilewise
