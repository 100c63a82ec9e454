// SPDX-License-Identifier: Apache-2.0
#include "expr/block_sizes.h"

#include <gtest/gtest.h>

#include "expr/parse.h"

namespace tilewise::expr {
namespace {

BlockSizes sizes_of(const char* text) { return block_sizes(parse_mask(text)); }

TEST(BlockSizes, LargestConstantDivisorOfEachAxis) {
  const BlockSizes layout = sizes_of("layout[h, q // 128, k // 64]");
  EXPECT_EQ(layout.queries, 128);
  EXPECT_EQ(layout.keys, 64);
  const BlockSizes several = sizes_of("q // 16 == k // 16 or q // 96 == k // 48");
  EXPECT_EQ(several.queries, 96);
  EXPECT_EQ(several.keys, 48);
}

TEST(BlockSizes, OnlyOfPositions) {
  const BlockSizes none =
      sizes_of("(q - k) // 7 < 3 and q // w == h and doc[q] // 5 == doc[k] // 5");
  EXPECT_EQ(none.queries, 0);
  EXPECT_EQ(none.keys, 0);
}

}  // namespace
}  // namespace tilewise::expr
