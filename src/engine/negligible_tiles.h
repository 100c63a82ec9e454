// SPDX-License-Identifier: Apache-2.0
// Tiles whose probabilities are exactly 0 because their scores are so far below others of the same
// rows: distant keys under ALiBi or a decay. Proved per run, from the bounds of the score and, by
// Cauchy and Schwarz, |s| <= scale * largest |query| * largest |key|.
//
// A tile is left out if its highest score lies ln(2) (127 + 17) below the lowest one of a full tile
// of the same rows: its P underflows beside a reference m that is at most 16 below the maximum. So
// O, LSE and all gradients keep their bits, but for elements of O below 2^-100 of the largest
// |value|, which may lose what the tile would have added. Nothing is left out near NaN or infinity.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/head_tiles.h"
#include "engine/score_bounds.h"
#include "engine/workspace_layout.h"
#include "tilewise/executor.h"

namespace tilewise {

// What the search reads. Tensors as in plan.h.
struct NegligibleSearch {
  const ScoreBounds* score;
  const ScoreBounds* derivative;  // by s; null in the forward
  const std::vector<HeadTiles>* tiles;
  const int32_t* class_of_head;
  expr::TileGrid grid;
  TileOrigin origin;
  double scale;
  Tensor query, key, value;
  Tensor grad_output;         // the backward's; data is null in the forward
  const void* lse = nullptr;  // of BackwardLaunch: Real [batch, query_heads, queries]
  const void* delta = nullptr;
  const Tensor* real_tables;  // by symbol
};

// Fills layout.ranges as launch.h has `significant`; null if no tile is negligible or the search
// would cost more than it saves. counter: 8 bytes. Allocates nothing.
[[nodiscard]] const TileRange* find_negligible_tiles(const NegligibleSearch& search,
                                                     const NegligibleLayout& layout,
                                                     Executor& executor, int workers,
                                                     int64_t* counter, void* workspace) noexcept;

}  // namespace tilewise
