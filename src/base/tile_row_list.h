// SPDX-License-Identifier: Apache-2.0
// Rows of tiles that own their memory.
#pragma once

#include <cstdint>
#include <vector>

#include "base/tile.h"

namespace tilewise {

// Owns the arrays behind a TileRows.
struct TileRowList {
  std::vector<TileRun> runs;
  std::vector<int64_t> begin;
  int64_t tile_rows = 0;     // elements per row of tiles
  int64_t tile_columns = 0;  // elements per tile along the row
  [[nodiscard]] TileRows view() const noexcept {
    return {runs.data(), begin.data(), static_cast<int64_t>(begin.size()) - 1};
  }
  [[nodiscard]] int64_t visited() const noexcept;  // tiles in all runs
};

// The same tiles, a row for each of the `columns` columns of the list: rows by query become rows by
// key. O(runs of both + tiles where a row differs from the one before it).
[[nodiscard]] TileRowList transpose(const TileRowList& list, int64_t columns);

}  // namespace tilewise
