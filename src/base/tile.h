// SPDX-License-Identifier: Apache-2.0
// Tiles and runs of tiles as plain data: made in schedule/, walked by kernels.
#pragma once

#include <cstdint>

namespace tilewise {

// Key j is visible to query i iff lo <= j - i <= hi; i and j are local (counted from the first
// query and key given). lo or hi is +-kUnbounded where there is no limit. lo > hi: nothing is
// visible.
struct Band {
  static constexpr int64_t kUnbounded = int64_t{1} << 62;
  int64_t lo = -kUnbounded;
  int64_t hi = kUnbounded;
};

enum class TileKind : int32_t { kEmpty = 0, kFull = 1, kPartial = 2 };

// Which pairs of a partial tile are visible: those inside the band, the range of keys, the range of
// queries, and where the program, if there is one, says so. Local indices, as in Band.
struct TileRule {
  Band band;
  int64_t key_begin = 0, key_end = Band::kUnbounded;
  int64_t query_begin = 0, query_end = Band::kUnbounded;
  int32_t program = -1;  // index among the programs of the mask; -1: none
};

// Local index 0 in the positions that expressions see.
struct TileOrigin {
  int64_t batch = 0, head = 0, query = 0, key = 0;
};

// Tiles [first, last) of one row of tiles, all of one kind. Empty tiles have no run.
struct TileRun {
  int32_t first;
  int32_t last;
  TileKind kind;
  int32_t rule = 0;  // of a partial run: index of its TileRule
};

// Tiles [first, last) of a row.
struct TileRange {
  int32_t first;
  int32_t last;
};

// Run-length coded rows of tiles; row r owns runs [begin[r], begin[r + 1]), ascending.
// By query: a row is a tile of queries and its runs are of key tiles. By key: the transpose.
struct TileRows {
  const TileRun* runs = nullptr;
  const int64_t* begin = nullptr;  // (rows + 1)
  int64_t rows = 0;
};

}  // namespace tilewise
