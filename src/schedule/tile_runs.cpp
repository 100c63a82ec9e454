// SPDX-License-Identifier: Apache-2.0
#include "schedule/tile_runs.h"

#include <algorithm>
#include <limits>
#include <string>

#include "base/message.h"
#include "tilewise/error.h"

namespace tilewise {
namespace {

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Limits that no difference j - i of [0, rows) x [0, columns) reaches, so that sums of a limit and
// an index cannot overflow and the visible pairs stay the same.
Band clamp(const Band& band, int64_t rows, int64_t columns) {
  return {std::clamp(band.lo, -rows, columns), std::clamp(band.hi, -rows, columns)};
}

void require_positive(const char* argument, int64_t tile) {
  if (tile > 0) return;
  throw InvalidArgument(message("tile_rows", argument, std::to_string(tile), "at least 1"));
}

void require_tiles(const char* argument, int64_t length, int64_t tile) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  if (divide_up(length, tile) <= kMost) return;
  throw InvalidArgument(
      message("tile_rows", argument, std::to_string(length),
              "at most " + std::to_string(kMost) + " tiles of " + std::to_string(tile),
              "use larger tiles"));
}

// The tiles along one row as three ascending groups: partial, full, partial. The differences j - i
// of a tile are all the integers between its corners, so comparing corners with lo and hi is exact.
void append_row(const Band& band, int64_t i0, int64_t i1, int64_t columns, int64_t tile,
                std::vector<TileRun>& runs) {
  const int64_t first_seen = std::max<int64_t>(0, i0 + band.lo);
  const int64_t last_seen = std::min(columns - 1, i1 - 1 + band.hi);
  if (band.lo > band.hi || first_seen > last_seen) return;
  const int64_t first = first_seen / tile;
  const int64_t last = last_seen / tile + 1;

  // Columns [full_begin, full_end) are seen by every row of the tile row; the ragged last tile is
  // full when the true end of the columns is inside.
  const int64_t full_begin = std::max<int64_t>(0, i1 - 1 + band.lo);
  const int64_t full_end = std::clamp<int64_t>(i0 + band.hi + 1, 0, columns);
  const int64_t full_first = std::clamp(divide_up(full_begin, tile), first, last);
  const int64_t full_last =
      std::clamp(full_end == columns ? divide_up(columns, tile) : full_end / tile, first, last);

  const auto append = [&](int64_t begin, int64_t end, TileKind kind) {
    if (begin < end) runs.push_back({static_cast<int32_t>(begin), static_cast<int32_t>(end), kind});
  };
  if (full_first >= full_last) return append(first, last, TileKind::kPartial);
  append(first, full_first, TileKind::kPartial);
  append(full_first, full_last, TileKind::kFull);
  append(full_last, last, TileKind::kPartial);
}

TileRowList make_rows(const Band& band, int64_t rows, int64_t columns, int64_t tile_rows,
                      int64_t tile_columns) {
  TileRowList list;
  list.tile_rows = tile_rows;
  list.tile_columns = tile_columns;
  list.begin.reserve(static_cast<size_t>(divide_up(rows, tile_rows) + 1));
  list.begin.push_back(0);
  for (int64_t i0 = 0; i0 < rows; i0 += tile_rows) {
    append_row(band, i0, std::min(i0 + tile_rows, rows), columns, tile_columns, list.runs);
    list.begin.push_back(static_cast<int64_t>(list.runs.size()));
  }
  return list;
}

void require_arguments(int64_t query_length, int64_t kv_length, int64_t tile_queries,
                       int64_t tile_keys) {
  require_positive("tile_queries", tile_queries);
  require_positive("tile_keys", tile_keys);
  require_tiles("query_length", query_length, tile_queries);
  require_tiles("kv_length", kv_length, tile_keys);
}

}  // namespace

TileKind classify(const Band& band, int64_t q0, int64_t q1, int64_t k0, int64_t k1) {
  if (q0 >= q1 || k0 >= k1 || band.lo > band.hi) return TileKind::kEmpty;
  const int64_t least = k0 - (q1 - 1);
  const int64_t most = k1 - 1 - q0;
  if (most < band.lo || least > band.hi) return TileKind::kEmpty;
  return least >= band.lo && most <= band.hi ? TileKind::kFull : TileKind::kPartial;
}

TileRowList tile_rows_by_query(const Band& band, int64_t query_length, int64_t kv_length,
                               int64_t tile_queries, int64_t tile_keys) {
  require_arguments(query_length, kv_length, tile_queries, tile_keys);
  return make_rows(clamp(band, query_length, kv_length), query_length, kv_length, tile_queries,
                   tile_keys);
}

TileRowList tile_rows_by_key(const Band& band, int64_t query_length, int64_t kv_length,
                             int64_t tile_queries, int64_t tile_keys) {
  require_arguments(query_length, kv_length, tile_queries, tile_keys);
  const Band clamped = clamp(band, query_length, kv_length);
  return make_rows({-clamped.hi, -clamped.lo}, kv_length, query_length, tile_keys, tile_queries);
}

}  // namespace tilewise
