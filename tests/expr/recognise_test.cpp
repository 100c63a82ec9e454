// SPDX-License-Identifier: Apache-2.0
#include "expr/recognise.h"

#include <gtest/gtest.h>

#include "expr/eval_scalar.h"
#include "expr/mask_builder.h"
#include "expr/random_mask.h"
#include "expr/rewrite.h"

namespace tilewise::expr {
namespace {

bool allows(const TileRule& rule, int64_t i, int64_t j) {
  return j - i >= rule.band.lo && j - i <= rule.band.hi && j >= rule.key_begin &&
         j < rule.key_end && i >= rule.query_begin && i < rule.query_end;
}

// Rule and rest together are the mask, at every pair.
void expect_equal(const Expression& mask, const Values& values, const TileGrid& grid,
                  const Recognised& found) {
  ScalarEvaluator whole(mask, values);
  for (int64_t i = 0; i < grid.queries; ++i) {
    for (int64_t j = 0; j < grid.keys; ++j) {
      const Point point{0, 0, i + grid.query_offset, j + grid.key_offset};
      const bool rest = found.rest.root < 0 || ScalarEvaluator(found.rest, values).boolean(point);
      ASSERT_EQ(allows(found.rule, i, j) && rest, whole.boolean(point)) << i << ' ' << j;
    }
  }
}

TEST(Recognise, ComparisonsThatBoundADifferenceOrAPosition) {
  const TileGrid grid{40, 30, 7, -5, 8, 8};
  MaskBuilder m;
  const Term q = m.q(), k = m.k();
  const Term masks[] = {
      q >= k,
      q > k,
      q - k <= 11,
      k - q < -3,
      q + 4 >= k,
      k - 3 <= q + 2,
      q * 3 - k * 3 <= 10,
      q * 3 - k * 3 >= 10,
      k * 3 - q * 3 < -10,
      q - k == 9,
      q * 2 - k * 2 == 8,
      q * 3 - k * 3 == 10,  // never
      k < 9,
      k >= 9,
      k == 9,
      k * 4 < 30,
      k * -4 < 30,
      m.integer(5) - k <= 3,
      q<20, q * 2 >= 31, abs(q - k) <= 12, abs(k - q - 5) < 6, max(q - k, k - 8) <= 6,
        min(k, q + 3) >= 9, k / 8 <= 1, k / 8 < 1, k / 8 >= 1, k / 8> 1,
      k / 8 == 1,
      (q - k) / 5 == 3,
      (q - k) / 5 < 3,
      m.integer(3) < (q - k) / 5,
      q >= k && q - k <= 11 && k >= 2 && q < 35,
      !(q < k || k < 5),
      q >= k && q < k - 3,
  };
  for (const Term& term : masks) {
    SCOPED_TRACE(&term - masks);
    const Expression mask = simplify(m.expression(term));
    const Recognised found = recognise(mask, grid);
    EXPECT_EQ(found.rest.root, -1);
    expect_equal(mask, m.values, grid, found);
    // Masks that are in no normal form give up less of themselves.
    expect_equal(m.expression(term), m.values, grid, recognise(m.expression(term), grid));
  }
}

TEST(Recognise, WhatIsLeftStaysAProgram) {
  const TileGrid grid{40, 30, 7, -5, 8, 8};
  MaskBuilder m;
  const Term q = m.q(), k = m.k();
  const Term masks[] = {
      (q - k) % 4 == 0 && q >= k,
      q >= k || k < 4,
      q != k,
      q + k <= 20,
      q * 2 >= k,
      q / 8 >= k / 8,
      q >= k && (k < 3 || q >= k) && q * k > 4,
      q * q >= k,
      abs(q - k) >= 3,
  };
  for (const Term& term : masks) {
    SCOPED_TRACE(&term - masks);
    const Expression mask = simplify(m.expression(term));
    const Recognised found = recognise(mask, grid);
    EXPECT_GE(found.rest.root, 0);
    expect_equal(mask, m.values, grid, found);
  }
  const Recognised dilated =
      recognise(simplify(m.expression(abs(q - k) <= 9 && (q - k) % 4 == 0)), grid);
  EXPECT_EQ(dilated.rule.band.lo, -9 + 7 + 5);
  EXPECT_EQ(dilated.rule.band.hi, 9 + 7 + 5);
  EXPECT_EQ(dilated.rest.node().op, Op::kEqual);
}

TEST(Recognise, Constants) {
  const TileGrid grid{4, 4, 0, 0, 2, 2};
  MaskBuilder m;
  const Recognised all = recognise(m.expression(m.boolean(true)), grid);
  const Recognised none = recognise(m.expression(m.boolean(false)), grid);
  EXPECT_EQ(all.rest.root, -1);
  EXPECT_EQ(none.rest.root, -1);
  EXPECT_TRUE(allows(all.rule, 0, 3));
  EXPECT_GT(none.rule.band.lo, none.rule.band.hi);
}

// Arithmetic that may wrap on the grid is no bound.
TEST(Recognise, OverflowIsNotABound) {
  MaskBuilder m;
  const TileGrid grid{8, 8, 0, 0, 4, 4};
  for (const Term& term :
       {m.q() + kMaxInt >= m.k(), m.q() * (int64_t{1} << 62) > m.k(), m.k() - kMinInt >= m.q()}) {
    const Expression mask = simplify(m.expression(term));
    const Recognised found = recognise(mask, grid);
    EXPECT_GE(found.rest.root, 0);
    expect_equal(mask, m.values, grid, found);
  }
  const TileGrid far{8, 8, kMaxInt - 100, kMaxInt - 100, 4, 4};
  const Expression causal = m.expression(m.q() >= m.k());
  expect_equal(causal, m.values, far, recognise(causal, far));
}

// Bounds far outside of the grid, in int64 at its ends.
TEST(Recognise, FarBounds) {
  MaskBuilder m;
  const TileGrid grid{8, 8, 1000, -1000, 4, 4};
  for (const int64_t limit :
       {kMinInt + 1, kMinInt / 2, int64_t{-5000}, int64_t{5000}, kMaxInt / 2, kMaxInt - 1}) {
    for (const Term& term : {m.q() - m.k() <= limit, m.q() - m.k() >= limit, m.k() <= limit,
                             m.k() >= limit, m.q() == limit}) {
      const Expression mask = m.expression(term);
      expect_equal(mask, m.values, grid, recognise(mask, grid));
    }
  }
}

TEST(Recognise, RandomMasks) {
  int64_t absorbed = 0;
  for (int seed = 0; seed < 3000; ++seed) {
    RandomMask random(static_cast<uint64_t>(seed) + 5'000'000);
    const Term root = random.boolean(static_cast<int>(1 + random.below(3)));
    const TileGrid grid{1 + random.below(7),
                        1 + random.below(7),
                        random.below(100) - 50,
                        random.below(100) - 50,
                        4,
                        4};
    const Expression mask = simplify(random.builder.expression(root));
    const Recognised found = recognise(mask, grid);
    absorbed += found.rest.root < 0;
    expect_equal(mask, random.builder.values, grid, found);
    if (testing::Test::HasFatalFailure()) FAIL() << "seed " << seed;
  }
  EXPECT_GT(absorbed, 100);
}

}  // namespace
}  // namespace tilewise::expr
