// SPDX-License-Identifier: Apache-2.0
#include "expr/axis_bounds.h"

#include <gtest/gtest.h>

#include "expr/mask_builder.h"

namespace tilewise::expr {
namespace {

// What is loaded for a range of tiles is what evaluating its positions gives.
TEST(AxisBounds, HoldsEveryAlignedRange) {
  MaskBuilder m;
  std::vector<int32_t> ids(200);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * 37 % 11);
  const auto table = int_table(ids);
  const auto id = [&](Term i) { return m.look_up("ids", table, {i}); };
  const Expression mask = m.expression(id(m.q() + 3) == id(m.k()) && m.q() % 5 <= m.k());
  const IntervalProgram program(mask, m.values, IntervalProgram::Refine::kNo);
  const TileGrid grid{77, 100, 10, 20, 8, 7};
  const std::vector<bool> read(program.steps().size(), true);
  for (const AxisBounds::Axis axis : {AxisBounds::Axis::kQuery, AxisBounds::Axis::kKey}) {
    const bool is_query = axis == AxisBounds::Axis::kQuery;
    const int64_t tiles = is_query ? grid.rows() : grid.columns();
    const int64_t tile = is_query ? grid.tile_queries : grid.tile_keys;
    const int64_t length = is_query ? grid.queries : grid.keys;
    const int64_t offset = is_query ? grid.query_offset : grid.key_offset;
    const auto input =
        static_cast<size_t>(is_query ? IntervalProgram::kQuery : IntervalProgram::kKey);
    const size_t begin = is_query ? program.q_begin() : program.k_begin();
    const size_t end = is_query ? program.k_begin() : program.mixed_begin();
    AxisBounds bounds(program, grid, axis, read);
    std::vector<IntervalRegister> loaded = program.start(), expected = program.start();
    bounds.fill(loaded);
    for (int level = 0; (int64_t{1} << level) < tiles; ++level) {
      const int64_t width = int64_t{1} << level;
      for (int64_t first = 0; first + width < tiles; first += width) {
        bounds.load(loaded, level, first, {false, true, true, false});
        for (int l = 0; l < kLanes; ++l) {
          const int64_t from = first + (l == 1 || l == 2 ? width : 0);
          expected[input].lo[l] = offset + from * tile;
          expected[input].hi[l] = offset + std::min(length, (from + width) * tile) - 1;
        }
        program.evaluate(expected, begin, end);
        for (size_t i = begin; i < end; ++i) {
          for (int l = 0; l < kLanes; ++l) {
            ASSERT_EQ(loaded[i].lo[l], expected[i].lo[l]) << i << ' ' << level << ' ' << first;
            ASSERT_EQ(loaded[i].hi[l], expected[i].hi[l]);
            if (program.steps()[i].keeps_set) {
              ASSERT_EQ(loaded[i].set[l], expected[i].set[l]);
            }
          }
        }
        EXPECT_EQ(loaded[input].lo[1], expected[input].lo[1]);
        EXPECT_EQ(loaded[input].hi[0], expected[input].hi[0]);
      }
    }
  }
}

}  // namespace
}  // namespace tilewise::expr
