// SPDX-License-Identifier: Apache-2.0
// How the pairs of one head are cut into tiles.
#pragma once

#include <algorithm>
#include <cstdint>

#include "expr/bounds.h"

namespace tilewise::expr {

// Local query i is at global position i + query_offset; keys alike.
struct TileGrid {
  int64_t queries = 0, keys = 0;  // how many are given
  int64_t query_offset = 0, key_offset = 0;
  int64_t tile_queries = 1, tile_keys = 1;

  [[nodiscard]] int64_t rows() const { return (queries + tile_queries - 1) / tile_queries; }
  [[nodiscard]] int64_t columns() const { return (keys + tile_keys - 1) / tile_keys; }
  // The box of tile rows [row, row_end) and tile columns [column, column_end), cut at the ends of
  // the grid; the first row and column must lie inside.
  [[nodiscard]] Box box(int64_t row, int64_t row_end, int64_t column, int64_t column_end) const {
    return {query_offset + row * tile_queries,
            query_offset + std::min(row_end * tile_queries, queries) - 1,
            key_offset + column * tile_keys,
            key_offset + std::min(column_end * tile_keys, keys) - 1};
  }
  [[nodiscard]] Box box() const { return box(0, rows(), 0, columns()); }
};

}  // namespace tilewise::expr
