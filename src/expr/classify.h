// SPDX-License-Identifier: Apache-2.0
// From a mask to its tiles, by interval analysis on boxes that get smaller where nothing is
// decided: empty and full tiles are proved, every other one is partial, which is always safe. Costs
// boxes, never pairs; memory O(rows + runs).
#pragma once

#include <cstdint>
#include <vector>

#include "base/tile_row_list.h"
#include "expr/tile_grid.h"
#include "expr/tile_rules.h"

namespace tilewise::expr {

struct MaskTiles {
  TileRowList rows;  // by query; runs of equal kind and rule are one. transpose() makes rows by key
  std::vector<TileRule> rules;       // what TileRun::rule counts
  std::vector<Expression> programs;  // what TileRule::program counts; kernels compile them
  std::vector<OpenPart> open_parts;  // what made tiles partial, most tiles first
  bool within_budget = true;         // false: some tiles are partial without having been looked at
};

// Evaluations of boxes, four at a time, and steps of them, that one mask may cost: about a second.
// A mask of a stranger cannot ask for more.
struct DescentBudget {
  int64_t batches = int64_t{1} << 22;
  int64_t steps = int64_t{1} << 27;
};

// The mask is specialised for the grid's box. One without a graph is true everywhere. Throws
// InvalidArgument if rows or columns of tiles exceed what a TileRun can count.
[[nodiscard]] MaskTiles classify(const Expression& mask, const Values& values, const TileGrid& grid,
                                 const DescentBudget& budget = {});

}  // namespace tilewise::expr
