// SPDX-License-Identifier: Apache-2.0
// Which tiles exist, and of which kind: the two run-length coded lists that kernels walk.
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

// The kind of the tile queries [q0, q1) x keys [k0, k1). Full: every pair visible. Exact, both
// ways.
[[nodiscard]] TileKind classify(const Band& band, int64_t q0, int64_t q1, int64_t k0, int64_t k1);

// Rows are tiles of queries; runs are of key tiles.
[[nodiscard]] TileRowList tile_rows_by_query(const Band& band, int64_t query_length,
                                             int64_t kv_length, int64_t tile_queries,
                                             int64_t tile_keys);
// Rows are tiles of keys; runs are of query tiles.
[[nodiscard]] TileRowList tile_rows_by_key(const Band& band, int64_t query_length,
                                           int64_t kv_length, int64_t tile_queries,
                                           int64_t tile_keys);

}  // namespace tilewise
