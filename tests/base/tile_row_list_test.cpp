// SPDX-License-Identifier: Apache-2.0
#include "base/tile_row_list.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/random.h"

namespace tilewise {
namespace {

// A tile as one number: 0 is empty.
using Tiles = std::vector<std::vector<int32_t>>;

TileRowList encode(const Tiles& tiles) {
  TileRowList list;
  list.tile_rows = 16;
  list.tile_columns = 32;
  list.begin.push_back(0);
  for (const std::vector<int32_t>& row : tiles) {
    for (size_t c = 0; c < row.size(); ++c) {
      if (row[c] == 0) continue;
      const auto column = static_cast<int32_t>(c);
      if (c > 0 && row[c - 1] == row[c])
        ++list.runs.back().last;
      else if (row[c] == 1)
        list.runs.push_back({column, column + 1, TileKind::kFull, 0});
      else
        list.runs.push_back({column, column + 1, TileKind::kPartial, row[c] - 2});
    }
    list.begin.push_back(static_cast<int64_t>(list.runs.size()));
  }
  return list;
}

void expect_equal(const TileRowList& a, const TileRowList& b) {
  ASSERT_EQ(a.begin, b.begin);
  ASSERT_EQ(a.runs.size(), b.runs.size());
  for (size_t i = 0; i < a.runs.size(); ++i) {
    ASSERT_EQ(a.runs[i].first, b.runs[i].first);
    ASSERT_EQ(a.runs[i].last, b.runs[i].last);
    ASSERT_EQ(a.runs[i].kind, b.runs[i].kind);
    ASSERT_EQ(a.runs[i].rule, b.runs[i].rule);
  }
}

TEST(TileRowList, TransposeOfRandomTiles) {
  Random random(4);
  for (int round = 0; round < 500; ++round) {
    const auto rows = static_cast<size_t>(random.between(0, 12));
    const auto columns = static_cast<size_t>(random.between(1, 12));
    const int64_t kinds = random.between(1, 4);  // 1: all empty; 3: empty, full, one rule
    Tiles tiles(rows, std::vector<int32_t>(columns)),
        transposed(columns, std::vector<int32_t>(rows));
    int64_t visited = 0;
    for (size_t r = 0; r < rows; ++r) {
      for (size_t c = 0; c < columns; ++c) {
        const bool repeats = c > 0 && random.between(0, 1) == 0;
        tiles[r][c] =
            repeats ? tiles[r][c - 1] : static_cast<int32_t>(random.between(0, kinds - 1));
        transposed[c][r] = tiles[r][c];
        visited += tiles[r][c] != 0;
      }
    }
    const TileRowList list = encode(tiles);
    EXPECT_EQ(list.visited(), visited);
    const TileRowList by_column = transpose(list, static_cast<int64_t>(columns));
    expect_equal(by_column, encode(transposed));
    EXPECT_EQ(by_column.tile_rows, 32);
    EXPECT_EQ(by_column.tile_columns, 16);
    expect_equal(transpose(by_column, static_cast<int64_t>(rows)), list);
  }
}

}  // namespace
}  // namespace tilewise
