// SPDX-License-Identifier: Apache-2.0
// How many pairs of query and key a mask lets see each other.
#pragma once

#include <cstdint>

#include "expr/classify.h"

namespace tilewise::expr {

struct VisiblePairs {
  int64_t pairs = 0;
  bool is_exact = true;  // false: of tiles with a program, half of what their rule lets through
};

// In closed form: O(runs).
[[nodiscard]] VisiblePairs visible_pairs(const MaskTiles& tiles, const TileGrid& grid);

// Exact, by evaluating the programs at every pair of their tiles. They were made for this batch and
// head.
[[nodiscard]] int64_t count_visible_pairs(const MaskTiles& tiles, const TileGrid& grid,
                                          const Values& values, int64_t batch, int64_t head);

// Pairs of local queries [i0, i1) and keys [j0, j1) inside the rule's band and ranges.
[[nodiscard]] int64_t pairs_in(const TileRule& rule, int64_t i0, int64_t i1, int64_t j0,
                               int64_t j1);

}  // namespace tilewise::expr
