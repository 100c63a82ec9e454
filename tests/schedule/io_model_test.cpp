// SPDX-License-Identifier: Apache-2.0
// The formulas against the paper's, written out, and against numbers worked out by hand.
#include "schedule/io_model.h"

#include <gtest/gtest.h>

#include <limits>

namespace tilewise::io_model {
namespace {

constexpr int64_t kN = 1024, kD = 64;
constexpr Sizes kOneHead{1, 1, 1, kN, kN, kD, kD};

TileCounts by_query(int64_t query_tile, int64_t key_tile, const Band& band = {}) {
  return count_tiles(tile_rows_by_query(band, kN, kN, query_tile, key_tile), kN, kN);
}
TileCounts by_key(int64_t query_tile, int64_t key_tile, const Band& band = {}) {
  return count_tiles(tile_rows_by_key(band, kN, kN, query_tile, key_tile), kN, kN);
}

TEST(IoModel, StandardIsTheoremTwo) {
  EXPECT_EQ(standard_forward(kOneHead).total(), 4 * kN * kN + 4 * kN * kD);
  EXPECT_EQ(standard_forward(kOneHead, 2).total(), 8 * kN * kN + 4 * kN * kD);
  EXPECT_EQ(megatron_forward(kOneHead), standard_forward(kOneHead, 0));
}

TEST(IoModel, StandardBackwardIsAlgorithmThree) {
  EXPECT_EQ(standard_backward(kOneHead).total(), 7 * kN * kN + 8 * kN * kD);
  EXPECT_EQ(standard_backward(kOneHead, 1).total(), 9 * kN * kN + 8 * kN * kD);
  EXPECT_EQ(megatron_backward(kOneHead), standard_backward(kOneHead, 0));
}

TEST(IoModel, TiledForwardReadsKeysOncePerQueryTile) {
  const int64_t query_tiles = 1000 / 96 + 1;  // ragged, and not the number for 1024
  const Sizes sizes{1, 1, 1, 1000, 1000, kD, kD};
  const TileCounts counts = count_tiles(tile_rows_by_query({}, 1000, 1000, 96, 48), 1000, 1000);
  EXPECT_EQ(tiled_forward(sizes, counts).total(),
            2 * 1000 * kD + 2 * 1000 * kD * query_tiles + 1000);
}

TEST(IoModel, PaperOrders) {
  const int64_t t_c = kN / 128;
  EXPECT_EQ(algorithm1_forward(kOneHead, by_key(64, 128)).total(),
            2 * kN * kD + t_c * (3 * kN * kD + 4 * kN) + kN * kD + 2 * kN);
  EXPECT_EQ(algorithm4_backward(kOneHead, by_key(64, 128)).total(),
            4 * kN * kD + t_c * (5 * kN * kD + 2 * kN) + kN * kD);
  EXPECT_EQ(tiled_backward(kOneHead, by_key(64, 128)).total(),
            4 * kN * kD + t_c * (4 * kN * kD + 2 * kN));
  EXPECT_EQ(tiled_backward_prepare(kOneHead).total(), 2 * kN * kD + 3 * kN);
}

TEST(IoModel, CausalVisitsHalfOfTheTiles) {
  const Band causal{-Band::kUnbounded, 0};
  // 8 x 8 tiles of 128: 36 visited, each reads 128 keys and values.
  EXPECT_EQ(tiled_forward(kOneHead, by_query(128, 128, causal)).read, kN * kD + 36 * 128 * 2 * kD);
  EXPECT_EQ(standard_forward(kOneHead).total(), 4 * kN * kN + 4 * kN * kD) << "masks save nothing";
}

// Worked out by hand: 2 batches, 4 heads over 2, N 5 in tiles of 2, M 3 in tiles of 2, d 2, e 3.
TEST(IoModel, GroupedHeadsByHand) {
  const Sizes sizes{2, 4, 2, 5, 3, 2, 3};
  const TileCounts q = count_tiles(tile_rows_by_query({}, 5, 3, 2, 2), 5, 3);
  const TileCounts k = count_tiles(tile_rows_by_key({}, 5, 3, 2, 2), 3, 5);
  // Forward, per query head: Q 10; 3 query tiles x 3 keys x 5 = 45. O 15, LSE 5.
  EXPECT_EQ(tiled_forward(sizes, q), (Words{8 * 55, 8 * 20}));
  // Backward, per kv head: K, V 15. Per query head: 2 key tiles x 5 queries x (2 + 3 + 2 + 2).
  EXPECT_EQ(tiled_backward(sizes, k), (Words{4 * 15 + 8 * 90, 4 * 15 + 8 * 2 * 5 * 2}));
  // Standard backward, per query head: P, P, dP, dS, dS 5 x 15; dO twice 30; V 9; K 6; Q 10; and
  // the second head of each of the 4 groups reads dK, dV of the first, 15.
  EXPECT_EQ(standard_backward(sizes).read, 8 * (75 + 30 + 9 + 6 + 10) + 4 * 15);
  // dV 9, dP 15, dS 15, dQ 10, dK 6.
  EXPECT_EQ(standard_backward(sizes).written, 8 * 55);
  // Packing Q once and V once per visit: 10 + 3 x 3 x 3.
  EXPECT_EQ(packed_forward(sizes, q, {.query = 1, .value = 1}), 8 * 37);
  // K twice and V once per key tile 3 x (4 + 3); Q and dO per visit 2 x 5 x 5.
  EXPECT_EQ(packed_backward(sizes, k, {.query = 1, .key = 2, .value = 1, .grad_output = 1}),
            4 * 21 + 8 * 50);
  EXPECT_EQ(forward_flops(sizes, 15), 2 * 15 * 5);
  EXPECT_EQ(backward_flops(sizes, 15), 5 * 15 * 5);
}

TEST(IoModel, BackwardFlopsAreFiveProducts) {
  EXPECT_EQ(backward_flops(kOneHead, kN * kN), 5 * 2 * kN * kN * kD);
}

TEST(IoModel, PaperBlocks) {
  EXPECT_EQ(paper_blocks(25600, 64).keys, 100);
  EXPECT_EQ(paper_blocks(25600, 64).queries, 64);
  EXPECT_EQ(paper_blocks(25601, 64).keys, 101);
  EXPECT_EQ(paper_blocks(2560, 64).queries, 10);
  EXPECT_EQ(paper_blocks(1, 64).keys, 1);
}

TEST(IoModel, LowerBound) {
  EXPECT_EQ(forward_lower_bound(kOneHead, 16 * kN * kD), 4 * kN * kD);
  EXPECT_EQ(forward_lower_bound(kOneHead, kD * kD), kN * kN - kD * kD);
  for (int64_t memory = kD * kD; memory <= kN * kD; memory *= 2) {
    const Blocks blocks = paper_blocks(memory, kD);
    EXPECT_GE(tiled_forward(kOneHead, by_query(blocks.keys, blocks.queries)).total(),
              forward_lower_bound(kOneHead, memory));
  }
}

TEST(IoModel, BlockSizeSweepFallsAndFlattens) {
  const auto points = block_size_sweep(kOneHead, {});
  ASSERT_EQ(points.size(), 7u);
  EXPECT_EQ(points.front().block, 16);
  EXPECT_EQ(points.back().block, 1024);
  for (size_t i = 0; i < points.size(); ++i) {
    const int64_t tiles = kN / points[i].block;
    EXPECT_EQ(points[i].tiled_forward.total(), 2 * kN * kD + 2 * kN * kD * tiles + kN);
    EXPECT_EQ(points[i].tiled_backward.total(),
              2 * kN * kD + 3 * kN + 4 * kN * kD + tiles * (4 * kN * kD + 2 * kN));
    EXPECT_EQ(points[i].algorithm4.total(), 4 * kN * kD + tiles * (5 * kN * kD + 2 * kN) + kN * kD);
    EXPECT_EQ(points[i].algorithm1.total(),
              2 * kN * kD + tiles * (3 * kN * kD + 4 * kN) + kN * kD + 2 * kN);
  }
}

TEST(IoModel, NothingCostsNothingAndHugeSaturates) {
  const Sizes none{1, 1, 1, 0, 0, kD, kD};
  EXPECT_EQ(standard_forward(none).total(), 0);
  const int64_t huge = int64_t{1} << 40;
  const Sizes all{huge, 1, 1, huge, huge, 1, 1};
  EXPECT_EQ(standard_forward(all).total(), std::numeric_limits<int64_t>::max());
}

}  // namespace
}  // namespace tilewise::io_model
