// SPDX-License-Identifier: Apache-2.0
// How many tiles of each kind, and how many elements they cover: all that the IO model needs to
// know of a mask.
#pragma once

#include <cstdint>

#include "schedule/tile_runs.h"

namespace tilewise {

// Counts of one list of tile rows. Every tile has tile_rows x tile_columns elements, except in the
// last row and the last column, which may be ragged.
struct TileCounts {
  int64_t rows = 0;           // tiles
  int64_t columns = 0;        // tiles
  int64_t row_length = 0;     // elements in all rows together
  int64_t column_length = 0;  // elements in all columns together
  int64_t tile_rows = 1;      // elements
  int64_t tile_columns = 1;   // elements
  int64_t full = 0;
  int64_t partial = 0;
  int64_t in_last_row = 0;     // visited tiles of the last row
  int64_t in_last_column = 0;  // visited tiles of the last column

  [[nodiscard]] int64_t visited() const noexcept { return full + partial; }
  [[nodiscard]] int64_t empty() const noexcept { return rows * columns - visited(); }
  // Sum of the heights of the visited tiles, and of their widths.
  [[nodiscard]] int64_t row_elements() const noexcept {
    return visited() * tile_rows - in_last_row * (rows * tile_rows - row_length);
  }
  [[nodiscard]] int64_t column_elements() const noexcept {
    return visited() * tile_columns - in_last_column * (columns * tile_columns - column_length);
  }
};

// O(runs): tiles are not walked one by one. By query: row_length is the query length and
// column_length the kv length. By key: the transpose.
[[nodiscard]] TileCounts count_tiles(const TileRowList& list, int64_t row_length,
                                     int64_t column_length);

}  // namespace tilewise
