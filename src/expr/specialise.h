// SPDX-License-Identifier: Apache-2.0
// The expression that is left of a mask for one sequence, one head and one box of pairs.
#pragma once

#include <cstdint>

#include "expr/bounds.h"

namespace tilewise::expr {

// Equal to the expression at every pair of the box for this batch and head. Named scalars, lengths,
// offsets, b and h have become constants, and so has everything that intervals over the box decide;
// the rest is in the normal form of simplify.h. So heads that mean the same hash alike (hash_of).
// The result has the symbols of the expression: the same values fit.
[[nodiscard]] Expression specialise(const Expression& expression, const Values& values,
                                    int64_t batch, int64_t head, const Box& box);

}  // namespace tilewise::expr
