// SPDX-License-Identifier: Apache-2.0
#include "engine/tiling.h"

#include <gtest/gtest.h>

#include "engine/stub_plan.h"

namespace tilewise {
namespace {

int64_t query_tile(int64_t batch, int64_t heads, int64_t length, int threads) {
  const Kernel kernel = testing::stub_kernel();  // proposes 64 queries, in units of 8
  return choose_geometry(kernel, {batch, heads, heads, length, length, 64, 64}, threads).query_tile;
}

TEST(Tiling, OneThreadKeepsTheProposal) { EXPECT_EQ(query_tile(1, 1, 4096, 1), 64); }

TEST(Tiling, ManyItemsKeepTheProposal) {
  EXPECT_EQ(query_tile(8, 12, 512, 2), 64);
  EXPECT_EQ(query_tile(1, 1, 4096, 8), 64);
}

TEST(Tiling, FewItemsShortenTheTileInUnits) {
  // 1 head, 2 threads: 8 items wanted of 200 queries: 25 each, in units of 8.
  EXPECT_EQ(query_tile(1, 1, 200, 2), 32);
  // 2 heads: 4 items each.
  EXPECT_EQ(query_tile(1, 2, 200, 2), 56);
  EXPECT_EQ(query_tile(1, 1, 16, 8), 8);
}

TEST(Tiling, ShortSequencesShortenTheTile) {
  EXPECT_EQ(query_tile(8, 12, 1, 1), 8);
  EXPECT_EQ(query_tile(8, 12, 17, 1), 24);
  EXPECT_EQ(query_tile(0, 12, 0, 4), 8);
}

TEST(Tiling, TheKernelKeepsItsOtherTiles) {
  const Geometry geometry = choose_geometry(testing::stub_kernel(), {1, 1, 1, 100, 100, 64, 64}, 4);
  EXPECT_EQ(geometry.key_tile, 32);
  EXPECT_EQ(geometry.backward_query_tile, 16);
  EXPECT_EQ(geometry.backward_key_tile, 16);
}

TEST(Tiling, WorkersNeedWorkAndItems) {
  EXPECT_EQ(choose_workers(0, 0, 8), 1);
  EXPECT_EQ(choose_workers(399'999, 100, 8), 1);
  EXPECT_EQ(choose_workers(400'000, 100, 8), 2);
  EXPECT_EQ(choose_workers(int64_t{1} << 62, 100, 8), 8);
  EXPECT_EQ(choose_workers(int64_t{1} << 62, 3, 8), 3);
}

TEST(Tiling, SharesCoverEveryHeadOnce) {
  for (int workers = 1; workers <= 9; ++workers) {
    for (int64_t heads = 0; heads <= 30; ++heads) {
      const BackwardShares shares = share_backward(heads, 7, workers);
      EXPECT_EQ(shares.whole_heads + shares.shared_heads, heads);
      EXPECT_EQ(shares.whole_heads % workers, 0);
      EXPECT_LT(shares.shared_heads, workers);
      EXPECT_EQ(shares.claims(), shares.whole_heads + 7 * shares.shared_heads);
    }
  }
}

TEST(Tiling, MaxSlotsBoundsEverySmallerSchedule) {
  for (int threads = 1; threads <= 6; ++threads) {
    for (int64_t most = 0; most <= 20; ++most) {
      int64_t needed = 0;
      for (int workers = 1; workers <= threads; ++workers) {
        for (int64_t heads = 0; heads <= most; ++heads) {
          needed = std::max(needed, share_backward(heads, 1, workers).slots());
        }
      }
      EXPECT_EQ(max_slots(most, threads), needed) << most << " heads, " << threads << " threads";
    }
  }
}

}  // namespace
}  // namespace tilewise
