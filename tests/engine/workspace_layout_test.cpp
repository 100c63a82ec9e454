// SPDX-License-Identifier: Apache-2.0
#include "engine/workspace_layout.h"

#include <gtest/gtest.h>

#include "engine/stub_plan.h"
#include "tilewise/error.h"

namespace tilewise {
namespace {

constexpr AttentionShape kShape = {2, 6, 3, 100, 70, 24, 12};
// 3 slots, tiles of 16 queries and 16 keys.
constexpr BackwardExtents kBackward = {.batch = 2,
                                       .queries = 2 * 100,
                                       .tile_rows = 2 * 7,
                                       .slot_queries = 3 * 100,
                                       .slot_tiles = 3 * 7,
                                       .key_tiles = 5,
                                       .key_tile = 16,
                                       .scratch_bytes = 100};

TEST(WorkspaceLayout, Forward) {
  const ForwardExtents extents = {.batch = 2, .tile_rows = 4, .scratch_bytes = 100};
  const ForwardLayout layout = forward_layout(kShape, extents, 0, 3, 4);
  EXPECT_EQ(layout.scratch_stride, 128);  // 100 bytes, to the next cache line
  EXPECT_EQ(layout.scratch.bytes, 3 * 128);
  EXPECT_EQ(layout.bytes, 64 + 3 * 128);
}

TEST(WorkspaceLayout, ForwardOfFewQueriesKeepsTheSumsOfChunks) {
  const ForwardExtents extents = {
      .batch = 2, .scratch_bytes = 100, .decode_queries = 2 * 5, .decode_tiles = 2 * 2};
  const ForwardLayout layout = forward_layout(kShape, extents, 0, 3, 4);
  EXPECT_EQ(layout.decode_sums.bytes, 4 * 6 * 10 * 15);
  EXPECT_EQ(layout.decode_turn.bytes, 4 * 3 * 4);
}

TEST(WorkspaceLayout, NegligibleTilesTakeARangeForEachRowOfTiles) {
  const BackwardLayout layout =
      backward_layout(testing::stub_kernel(), kShape, kBackward, {}, 7, 2, 4);
  EXPECT_EQ(layout.negligible.is_searched.bytes, 4 * 2);
  EXPECT_EQ(layout.negligible.norms.bytes, 8 * 2 * 2 * 3);
  EXPECT_EQ(layout.negligible.ranges.bytes, 8 * 6 * 14);
  EXPECT_EQ(layout.negligible.register_stride, 7);
}

TEST(WorkspaceLayout, BackwardHoldsWhatTheKernelsAreTold) {
  const BackwardLayout layout =
      backward_layout(testing::stub_kernel(), kShape, kBackward, {10, 3}, 0, 2, 4);
  EXPECT_EQ(layout.lse.bytes, 4 * 2 * 6 * 100);
  EXPECT_EQ(layout.delta.bytes, 4 * 2 * 6 * 100);
  EXPECT_EQ(layout.grad_sink.bytes, 8 * 2 * 6);  // 100 rows are one item
  EXPECT_EQ(layout.accumulator.bytes, 4 * 3 * 2 * 100 * 24);
  EXPECT_EQ(layout.turn.bytes, 4 * 3 * 2 * 7);
  EXPECT_EQ(layout.bias_turn.bytes, 4 * 5);
  EXPECT_EQ(layout.careful.bytes, 4 * 2 * 3);
  EXPECT_EQ(layout.table_sums.bytes, 4 * 6 * 10);  // a copy for each kv head
  EXPECT_EQ(layout.table_turn.bytes, 4 * 64);
  EXPECT_EQ(layout.table_stride, 128);  // two panels of 10 sums and 3 * 16 of keys are 68
  EXPECT_EQ(layout.table_parts.bytes, 4 * 2 * 128);
  EXPECT_EQ(layout.table_elements.bytes, 4 * 2 * 3 * 16);
  EXPECT_EQ(layout.scratch.bytes, 2 * 128);
}

TEST(WorkspaceLayout, PartsAreAlignedAndDisjoint) {
  const BackwardLayout layout =
      backward_layout(testing::stub_kernel(), kShape, kBackward, {10, 3}, 0, 2, 8);
  const WorkspacePart* parts[] = {&layout.counter,    &layout.lse,         &layout.delta,
                                  &layout.grad_sink,  &layout.accumulator, &layout.turn,
                                  &layout.bias_turn,  &layout.careful,     &layout.table_sums,
                                  &layout.table_turn, &layout.table_parts, &layout.table_elements,
                                  &layout.scratch};
  int64_t end = 0;
  for (const WorkspacePart* part : parts) {
    EXPECT_EQ(part->offset % 64, 0);
    EXPECT_GE(part->offset, end);
    end = part->offset + part->bytes;
  }
  EXPECT_LE(end, layout.bytes);
  EXPECT_LT(layout.bytes - end, 64);
}

TEST(WorkspaceLayout, NoLengthNeedsNoRows) {
  const BackwardLayout layout =
      backward_layout(testing::stub_kernel(), kShape, {.scratch_bytes = 100}, {}, 0, 1, 4);
  EXPECT_EQ(layout.bytes, 64 + 128);
}

TEST(WorkspaceLayout, OverflowIsAnError) {
  constexpr int64_t kMost = (int64_t{1} << 31) - 1;
  const BackwardExtents huge = {.batch = kMost, .queries = kMost * kMost};
  EXPECT_THROW((void)backward_layout(testing::stub_kernel(), kShape, huge, {}, 0, 1, 8),
               InvalidArgument);
}

}  // namespace
}  // namespace tilewise
