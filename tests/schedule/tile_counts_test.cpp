// SPDX-License-Identifier: Apache-2.0
#include "schedule/tile_counts.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/random.h"

namespace tilewise {
namespace {

// Tile by tile, from pairs alone.
void check(const Band& band, int64_t n, int64_t m, int64_t query_tile, int64_t key_tile) {
  SCOPED_TRACE(testing::Message() << "band [" << band.lo << ", " << band.hi << "] N " << n << " M "
                                  << m << " tiles " << query_tile << " x " << key_tile);
  int64_t full = 0, partial = 0, tiles = 0, heights = 0, widths = 0;
  for (int64_t q0 = 0; q0 < n; q0 += query_tile) {
    for (int64_t k0 = 0; k0 < m; k0 += key_tile) {
      const int64_t q1 = std::min(q0 + query_tile, n), k1 = std::min(k0 + key_tile, m);
      int64_t visible = 0;
      for (int64_t q = q0; q < q1; ++q)
        for (int64_t k = k0; k < k1; ++k) visible += band.lo <= k - q && k - q <= band.hi;
      ++tiles;
      if (visible == 0) continue;
      (visible == (q1 - q0) * (k1 - k0) ? full : partial) += 1;
      heights += q1 - q0;
      widths += k1 - k0;
    }
  }
  const TileCounts by_query =
      count_tiles(tile_rows_by_query(band, n, m, query_tile, key_tile), n, m);
  EXPECT_EQ(by_query.full, full);
  EXPECT_EQ(by_query.partial, partial);
  EXPECT_EQ(by_query.empty(), tiles - full - partial);
  EXPECT_EQ(by_query.row_elements(), heights);
  EXPECT_EQ(by_query.column_elements(), widths);
  const TileCounts by_key = count_tiles(tile_rows_by_key(band, n, m, query_tile, key_tile), m, n);
  EXPECT_EQ(by_key.full, full);
  EXPECT_EQ(by_key.partial, partial);
  EXPECT_EQ(by_key.empty(), tiles - full - partial);
  EXPECT_EQ(by_key.row_elements(), widths);
  EXPECT_EQ(by_key.column_elements(), heights);
}

TEST(TileCounts, MatchBruteForce) {
  Random random(2);
  for (int i = 0; i < 2000 && !HasFailure(); ++i) {
    const int64_t a = random.between(-40, 40), b = random.between(-40, 40);
    Band band{std::min(a, b), std::max(a, b)};
    if (random.between(0, 3) == 0) band.lo = -Band::kUnbounded;
    if (random.between(0, 3) == 0) band.hi = Band::kUnbounded;
    check(band, random.between(0, 33), random.between(0, 33), random.between(1, 12),
          random.between(1, 12));
  }
}

TEST(TileCounts, OfNothingAreZero) {
  const TileCounts none = count_tiles(tile_rows_by_query({}, 0, 8, 4, 4), 0, 8);
  EXPECT_EQ(none.visited(), 0);
  EXPECT_EQ(none.empty(), 0);
  EXPECT_EQ(none.row_elements(), 0);
}

}  // namespace
}  // namespace tilewise
