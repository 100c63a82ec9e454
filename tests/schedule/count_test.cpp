// SPDX-License-Identifier: Apache-2.0
// The walkers report what their loops move; that formulas agree is tests/paper/io_test.cpp.
#include "schedule/count.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "schedule/tile_runs.h"

namespace tilewise::io_model {
namespace {

TEST(Count, CounterAddsUpPerOperand) {
  Counter counter;
  counter.load(Operand::kKey, 3);
  counter.load(Operand::kKey, 4);
  counter.store(Operand::kOutput, 5);
  EXPECT_EQ(counter[Operand::kKey], (Words{7, 0}));
  EXPECT_EQ(counter[Operand::kOutput], (Words{0, 5}));
  EXPECT_EQ(counter[Operand::kValue], Words{});
  EXPECT_EQ(counter.total(), (Words{7, 5}));
}

TEST(Count, TilesAreVisitedInOrderWithTheirExtent) {
  const TileRowList rows = tile_rows_by_query({-Band::kUnbounded, 0}, 5, 5, 2, 2);
  std::vector<std::string> visits;
  for (int64_t row = 0; row < rows.view().rows; ++row)
    for_each_tile(rows.view(), row, 2, 5, [&](int64_t tile, int64_t keys) {
      visits.push_back(std::to_string(row) + ":" + std::to_string(tile) + "x" +
                       std::to_string(keys));
    });
  EXPECT_EQ(visits,
            (std::vector<std::string>{"0:0x2", "1:0x2", "1:1x2", "2:0x2", "2:1x2", "2:2x1"}));
}

TEST(Count, ForwardPerOperand) {
  // 5 queries in tiles of 2 and 5 keys in tiles of 2, causal: keys read 2 + 4 + 5.
  const Sizes sizes{1, 1, 1, 5, 5, 3, 7};
  const TileRowList rows = tile_rows_by_query({-Band::kUnbounded, 0}, 5, 5, 2, 2);
  Counter counter;
  walk_forward(sizes, rows.view(), 2, 2, counter);
  EXPECT_EQ(counter[Operand::kQuery], (Words{15, 0}));
  EXPECT_EQ(counter[Operand::kKey], (Words{33, 0}));
  EXPECT_EQ(counter[Operand::kValue], (Words{77, 0}));
  EXPECT_EQ(counter[Operand::kOutput], (Words{0, 35}));
  EXPECT_EQ(counter[Operand::kRowState], (Words{0, 5}));
}

TEST(Count, BackwardPerOperand) {
  // By key: the queries that see key tile 0, 1, 2 come to 5 + 3 + 1; two query heads share a head.
  const Sizes sizes{1, 2, 1, 5, 5, 3, 7};
  const TileRowList rows = tile_rows_by_key({-Band::kUnbounded, 0}, 5, 5, 2, 2);
  Counter counter;
  walk_backward(sizes, rows.view(), 2, 2, counter);
  EXPECT_EQ(counter[Operand::kKey], (Words{15, 0}));
  EXPECT_EQ(counter[Operand::kGradKey], (Words{0, 15}));
  EXPECT_EQ(counter[Operand::kGradValue], (Words{0, 35}));
  EXPECT_EQ(counter[Operand::kQuery], (Words{2 * 9 * 3, 0}));
  EXPECT_EQ(counter[Operand::kGradOutput], (Words{2 * 9 * 7, 0}));
  EXPECT_EQ(counter[Operand::kGradQuery], (Words{2 * 9 * 3, 2 * 9 * 3}));
  EXPECT_EQ(counter[Operand::kRowState], (Words{2 * 9 * 2, 0}));
  EXPECT_EQ(counter[Operand::kScores], Words{}) << "S and P never exist in slow memory";
}

}  // namespace
}  // namespace tilewise::io_model
