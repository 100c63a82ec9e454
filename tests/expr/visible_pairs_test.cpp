// SPDX-License-Identifier: Apache-2.0
#include "expr/visible_pairs.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "expr/mask_builder.h"
#include "expr/specialise.h"

namespace tilewise::expr {
namespace {

TEST(PairsIn, ClosedFormEqualsCounting) {
  Random random(8);
  for (int round = 0; round < 4000; ++round) {
    const int64_t i0 = random.between(0, 20), i1 = i0 + random.between(0, 12);
    const int64_t j0 = random.between(0, 20), j1 = j0 + random.between(0, 12);
    TileRule rule;
    if (random.between(0, 3) != 0) rule.band.lo = random.between(-30, 30);
    if (random.between(0, 3) != 0) rule.band.hi = random.between(-30, 30);
    if (random.between(0, 3) == 0) rule.key_begin = random.between(0, 30);
    if (random.between(0, 3) == 0) rule.key_end = random.between(0, 30);
    if (random.between(0, 3) == 0) rule.query_begin = random.between(0, 30);
    if (random.between(0, 3) == 0) rule.query_end = random.between(0, 30);
    int64_t counted = 0;
    for (int64_t i = std::max(i0, rule.query_begin); i < std::min(i1, rule.query_end); ++i) {
      for (int64_t j = std::max(j0, rule.key_begin); j < std::min(j1, rule.key_end); ++j)
        counted += j - i >= rule.band.lo && j - i <= rule.band.hi;
    }
    ASSERT_EQ(pairs_in(rule, i0, i1, j0, j1), counted) << "round " << round;
  }
}

TEST(VisiblePairs, ExactWithoutPrograms) {
  MaskBuilder m;
  const int64_t n = 1 << 20, w = 4096;
  const TileGrid grid{n, n, 0, 0, 128, 96};
  const auto pairs = [&](Term mask) {
    return visible_pairs(
        classify(specialise(m.expression(mask), m.values, 0, 0, grid.box()), m.values, grid), grid);
  };
  const VisiblePairs causal = pairs(m.q() >= m.k());
  EXPECT_TRUE(causal.is_exact);
  EXPECT_EQ(causal.pairs, n * (n + 1) / 2);
  const VisiblePairs window = pairs(m.q() >= m.k() && m.q() - m.k() <= w);
  EXPECT_TRUE(window.is_exact);
  EXPECT_EQ(window.pairs, n * (n + 1) / 2 - (n - w - 1) * (n - w) / 2);
  EXPECT_EQ(visible_pairs(classify({}, {}, grid), grid).pairs, n * n);
}

TEST(VisiblePairs, ProgramsAreEstimatedOrCounted) {
  MaskBuilder m;
  const TileGrid grid{100, 70, 3, 5, 16, 32};
  const Expression mask = m.expression((m.q() + m.k()) % 3 == 0 && m.q() >= m.k());
  const MaskTiles tiles = classify(specialise(mask, m.values, 0, 0, grid.box()), m.values, grid);
  const VisiblePairs estimate = visible_pairs(tiles, grid);
  EXPECT_FALSE(estimate.is_exact);
  EXPECT_GT(estimate.pairs, 0);
  int64_t counted = 0;
  for (int64_t q = 3; q < 103; ++q) {
    for (int64_t k = 5; k < 75; ++k) counted += (q + k) % 3 == 0 && q >= k;
  }
  EXPECT_EQ(count_visible_pairs(tiles, grid, m.values, 0, 0), counted);
}

}  // namespace
}  // namespace tilewise::expr
