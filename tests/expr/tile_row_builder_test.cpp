// SPDX-License-Identifier: Apache-2.0
#include "expr/tile_row_builder.h"

#include <gtest/gtest.h>

#include <vector>

namespace tilewise::expr {
namespace {

void expect_run(const TileRun& run, int32_t first, int32_t last, TileKind kind, int32_t rule) {
  EXPECT_EQ(run.first, first);
  EXPECT_EQ(run.last, last);
  EXPECT_EQ(run.kind, kind);
  EXPECT_EQ(run.rule, rule);
}

TEST(TileRowBuilder, RunsMergeWhereKindAndRuleAreEqual) {
  TileRowBuilder builder(2);
  builder.add(0, 2, 0, 3, TileKind::kFull, 0);
  builder.add(0, 1, 3, 4, TileKind::kFull, 0);     // extends
  builder.add(1, 2, 3, 5, TileKind::kPartial, 1);  // another kind
  builder.add(1, 2, 5, 6, TileKind::kPartial, 1);  // extends
  builder.add(1, 2, 6, 7, TileKind::kPartial, 2);  // another rule
  builder.add(0, 1, 6, 8, TileKind::kFull, 0);     // a gap
  const TileRowList list = builder.take();
  ASSERT_EQ(list.begin, (std::vector<int64_t>{0, 2, 5}));
  expect_run(list.runs[0], 0, 4, TileKind::kFull, 0);
  expect_run(list.runs[1], 6, 8, TileKind::kFull, 0);
  expect_run(list.runs[2], 0, 3, TileKind::kFull, 0);
  expect_run(list.runs[3], 3, 6, TileKind::kPartial, 1);
  expect_run(list.runs[4], 6, 7, TileKind::kPartial, 2);
}

// More rows than are compared at once, one of which differs.
TEST(TileRowBuilder, RectanglesOverManyRows) {
  TileRowBuilder builder(100);
  builder.add(70, 71, 0, 1, TileKind::kPartial, 0);
  builder.add(0, 100, 1, 5, TileKind::kFull, 0);
  builder.add(0, 100, 5, 9, TileKind::kFull, 0);
  const TileRowList list = builder.take();
  ASSERT_EQ(list.runs.size(), 101u);
  EXPECT_EQ(list.begin[70], 70);
  EXPECT_EQ(list.begin[71], 72);
  expect_run(list.runs[70], 0, 1, TileKind::kPartial, 0);
  for (size_t r = 0; r < 101; ++r) {
    if (r != 70) expect_run(list.runs[r], 1, 9, TileKind::kFull, 0);
  }
}

TEST(TileRowBuilder, RowsWithoutTiles) {
  TileRowBuilder builder(3);
  builder.add(1, 2, 4, 5, TileKind::kFull, 0);
  EXPECT_EQ(builder.take().begin, (std::vector<int64_t>{0, 0, 1, 1}));
  EXPECT_EQ(TileRowBuilder(0).take().begin, (std::vector<int64_t>{0}));
}

}  // namespace
}  // namespace tilewise::expr
