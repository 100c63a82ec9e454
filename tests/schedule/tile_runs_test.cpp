// SPDX-License-Identifier: Apache-2.0
// Every tile of random bands against counting its visible pairs one by one.
#include "schedule/tile_runs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/random.h"
#include "tilewise/error.h"

namespace tilewise {
namespace {

struct Case {
  Band band;
  int64_t query_length, kv_length, tile_queries, tile_keys;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << "band [" << c.band.lo << ", " << c.band.hi << "] N " << c.query_length << " M "
             << c.kv_length << " tiles " << c.tile_queries << " x " << c.tile_keys;
}

TileKind count_pairs(const Band& band, int64_t q0, int64_t q1, int64_t k0, int64_t k1) {
  int64_t visible = 0;
  for (int64_t q = q0; q < q1; ++q)
    for (int64_t k = k0; k < k1; ++k) visible += band.lo <= k - q && k - q <= band.hi;
  if (visible == 0) return TileKind::kEmpty;
  return visible == (q1 - q0) * (k1 - k0) ? TileKind::kFull : TileKind::kPartial;
}

// kinds[row][column], from the runs; checks that runs ascend, are not empty and are maximal.
std::vector<std::vector<TileKind>> expand(const TileRowList& list, int64_t columns) {
  const TileRows rows = list.view();
  std::vector<std::vector<TileKind>> kinds;
  EXPECT_EQ(rows.begin[0], 0);
  EXPECT_EQ(rows.begin[rows.rows], static_cast<int64_t>(list.runs.size()));
  for (int64_t row = 0; row < rows.rows; ++row) {
    std::vector<TileKind> line(static_cast<size_t>(columns), TileKind::kEmpty);
    const TileRun* before = nullptr;
    for (int64_t i = rows.begin[row]; i < rows.begin[row + 1]; ++i) {
      const TileRun& run = rows.runs[i];
      EXPECT_LT(run.first, run.last);
      EXPECT_NE(run.kind, TileKind::kEmpty);
      EXPECT_GE(run.first, 0);
      EXPECT_LE(run.last, columns);
      if (before != nullptr) {
        EXPECT_EQ(before->last, run.first) << "the visited tiles of a band are contiguous";
        EXPECT_NE(before->kind, run.kind) << "neighbours of one kind are one run";
      }
      for (int64_t t = run.first; t < run.last && t < columns; ++t)
        line[static_cast<size_t>(t)] = run.kind;
      before = &run;
    }
    kinds.push_back(std::move(line));
  }
  return kinds;
}

void check(const Case& c) {
  SCOPED_TRACE(testing::Message() << c);
  const int64_t rows = (c.query_length + c.tile_queries - 1) / c.tile_queries;
  const int64_t columns = (c.kv_length + c.tile_keys - 1) / c.tile_keys;
  const TileRowList by_query =
      tile_rows_by_query(c.band, c.query_length, c.kv_length, c.tile_queries, c.tile_keys);
  const TileRowList by_key =
      tile_rows_by_key(c.band, c.query_length, c.kv_length, c.tile_queries, c.tile_keys);
  EXPECT_EQ(by_query.tile_rows, c.tile_queries);
  EXPECT_EQ(by_query.tile_columns, c.tile_keys);
  EXPECT_EQ(by_key.tile_rows, c.tile_keys);
  EXPECT_EQ(by_key.tile_columns, c.tile_queries);
  ASSERT_EQ(by_query.view().rows, rows);
  ASSERT_EQ(by_key.view().rows, columns);
  const auto query_kinds = expand(by_query, columns);
  const auto key_kinds = expand(by_key, rows);
  int64_t visited = 0;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t t = 0; t < columns; ++t) {
      const int64_t q0 = r * c.tile_queries, q1 = std::min(q0 + c.tile_queries, c.query_length);
      const int64_t k0 = t * c.tile_keys, k1 = std::min(k0 + c.tile_keys, c.kv_length);
      const TileKind expected = count_pairs(c.band, q0, q1, k0, k1);
      EXPECT_EQ(classify(c.band, q0, q1, k0, k1), expected) << "tile " << r << ", " << t;
      EXPECT_EQ(query_kinds[static_cast<size_t>(r)][static_cast<size_t>(t)], expected)
          << "by query, tile " << r << ", " << t;
      EXPECT_EQ(key_kinds[static_cast<size_t>(t)][static_cast<size_t>(r)], expected)
          << "by key, tile " << r << ", " << t;
      visited += expected != TileKind::kEmpty;
    }
  }
  EXPECT_EQ(by_query.visited(), visited);
  EXPECT_EQ(by_key.visited(), visited);
}

int64_t random_limit(Random& random, int64_t reach) {
  switch (random.between(0, 5)) {
    case 0:
      return -Band::kUnbounded;
    case 1:
      return Band::kUnbounded;
    default:
      return random.between(-reach, reach);
  }
}

TEST(TileRuns, MatchBruteForceOnRandomBands) {
  Random random(1);
  for (int i = 0; i < 4000 && !testing::Test::HasFailure(); ++i) {
    Case c;
    c.query_length = random.between(0, 40);
    c.kv_length = random.between(0, 40);
    c.tile_queries = random.between(1, random.between(0, 3) == 0 ? 64 : 9);
    c.tile_keys = random.between(1, random.between(0, 3) == 0 ? 64 : 9);
    c.band = {random_limit(random, 50), random_limit(random, 50)};
    if (c.band.lo > c.band.hi && random.between(0, 3) != 0) std::swap(c.band.lo, c.band.hi);
    check(c);
  }
}

TEST(TileRuns, EveryBandOfASmallProblem) {
  for (int64_t lo = -6; lo <= 8; ++lo)
    for (int64_t hi = -6; hi <= 8; ++hi) check({{lo, hi}, 5, 7, 2, 3});
}

TEST(TileRuns, ExtremeLimitsDoNotOverflow) {
  for (const int64_t limit :
       {INT64_MIN, INT64_MIN + 1, -Band::kUnbounded, Band::kUnbounded, INT64_MAX - 1, INT64_MAX}) {
    check({{limit, 0}, 9, 11, 4, 3});
    check({{0, limit}, 9, 11, 4, 3});
    check({{limit, limit}, 9, 11, 4, 3});
  }
}

TEST(TileRuns, RaggedLastTileOfAFullBandIsFull) {
  const TileRowList list = tile_rows_by_query({}, 10, 10, 8, 8);
  ASSERT_EQ(list.runs.size(), 2u);
  for (const TileRun& run : list.runs) {
    EXPECT_EQ(run.kind, TileKind::kFull);
    EXPECT_EQ(run.first, 0);
    EXPECT_EQ(run.last, 2);
  }
}

TEST(TileRuns, CausalRowsOfAMillionTokensAreTwoRunsEach) {
  const int64_t length = int64_t{1} << 20;
  const TileRowList list = tile_rows_by_query({-Band::kUnbounded, 0}, length, length, 128, 64);
  EXPECT_EQ(list.view().rows, 8192);
  EXPECT_LE(list.runs.size(), 2u * 8192u);
  // Row r of 128 queries sees 2 r full tiles and two partial ones.
  EXPECT_EQ(list.visited(), 8192 * 8191 + 2 * 8192);
}

TEST(TileRuns, RefusesTilesThatDoNotExist) {
  EXPECT_THROW((void)tile_rows_by_query({}, 4, 4, 0, 4), InvalidArgument);
  EXPECT_THROW((void)tile_rows_by_key({}, 4, 4, 4, -1), InvalidArgument);
  EXPECT_THROW((void)tile_rows_by_query({}, 4, int64_t{1} << 40, 4, 1), InvalidArgument);
}

}  // namespace
}  // namespace tilewise
