// SPDX-License-Identifier: Apache-2.0
// The conjuncts of a mask that kernels have a direct path for: comparisons that bound k - q, k or q
// by constants.
#pragma once

#include "base/tile.h"
#include "expr/tile_grid.h"

namespace tilewise::expr {

struct Recognised {
  TileRule rule;    // without a program
  Expression rest;  // root -1: nothing is left
};

// On every pair of the grid the mask is true where the rule and the rest are.
[[nodiscard]] Recognised recognise(const Expression& mask, const TileGrid& grid);

}  // namespace tilewise::expr
