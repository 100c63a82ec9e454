// SPDX-License-Identifier: Apache-2.0
// Which tiles exist, and of which kind: the two run-length coded lists that kernels walk.
#pragma once

#include <cstdint>

#include "base/tile_row_list.h"

namespace tilewise {

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
