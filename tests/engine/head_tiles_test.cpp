// SPDX-License-Identifier: Apache-2.0
#include "engine/head_tiles.h"

#include <gtest/gtest.h>

#include <string>

#include "expr/eval_scalar.h"
#include "problem/bind.h"

namespace tilewise {
namespace {

constexpr int64_t kHeads = 4;

HeadClasses classes_of(const Mask& mask, const Step& step) {
  const expr::Values values = bind(*mask.expression(), step, "schedule");
  return classify_heads(mask, values, step, kHeads, "schedule");
}

TEST(HeadTiles, OneClassWhereHeadsSeeTheSame) {
  const HeadClasses heads =
      classes_of(mask_from_text("causal"), {.batch = 3, .query_length = 9, .kv_length = 9});
  ASSERT_EQ(heads.classes.size(), 1u);
  EXPECT_EQ(heads.classes[0].heads, 3 * kHeads);
  EXPECT_EQ(heads.class_of_head, std::vector<int32_t>(3 * kHeads, 0));
}

TEST(HeadTiles, ClassesFollowHeadAndBatch) {
  const HeadClasses heads = classes_of(
      mask_from_text("k <= q and (h % 2 == 0 or q - k < 3) and (b == 6 or k > 1)"),
      {.batch = 3, .query_length = 9, .kv_length = 9, .batch_offset = 5, .head_offset = 1});
  ASSERT_EQ(heads.classes.size(), 4u);
  for (int64_t b = 0; b < 3; ++b)
    for (int64_t h = 0; h < kHeads; ++h)
      for (int64_t b2 = 0; b2 < 3; ++b2)
        for (int64_t h2 = 0; h2 < kHeads; ++h2) {
          const auto at = [](int64_t i, int64_t j) { return static_cast<size_t>(i * kHeads + j); };
          const bool is_same = (b == 1) == (b2 == 1) && h % 2 == h2 % 2;
          EXPECT_EQ(heads.class_of_head[at(b, h)] == heads.class_of_head[at(b2, h2)], is_same);
        }
  for (const HeadClass& one : heads.classes) EXPECT_EQ(one.heads, one.batch == 6 ? 2 : 4);
}

// Pairs that the oracle sees.
int64_t brute_force(const Mask& mask, const Step& step) {
  const expr::Expression& expression = *mask.expression();
  const expr::Values values = bind(expression, step, "schedule");
  expr::ScalarEvaluator evaluator(expression, values);
  int64_t pairs = 0;
  for (int64_t b = 0; b < step.batch; ++b)
    for (int64_t h = 0; h < kHeads; ++h)
      for (int64_t q = 0; q < step.query_length; ++q)
        for (int64_t k = 0; k < step.kv_length; ++k) {
          const expr::Point point{.batch = step.batch_offset + b,
                                  .head = step.head_offset + h,
                                  .query = step.query_offset + q,
                                  .key = step.key_offset + k};
          pairs += evaluator.boolean(point);
        }
  return pairs;
}

constexpr const char* kMasks[] = {
    "causal",
    "window:9,4",
    "(q + k) % 3 == 0",
    "k <= q and (q - k) % (h + 2) != 1",
    "q // 7 == k // 5 or (b + q) * k % 11 == 0",
    "q < 3 and k > 30",
    "k < 0",
};

TEST(HeadTiles, VisiblePairsAreExact) {
  for (const char* text : kMasks) {
    for (const Step& step : {Step{.batch = 2, .query_length = 37, .kv_length = 53},
                             Step{.query_length = 40,
                             .kv_length = 31,
                             .query_offset = 6,
                             .key_offset = 2,
                             .batch_offset = 1,
                             .head_offset = 3},
                             Step{.query_length = 1, .kv_length = 70, .query_offset = 69}}) {
      const Mask mask = mask_from_text(text);
      EXPECT_EQ(count_visible_pairs(mask, step, kHeads), brute_force(mask, step)) << text;
    }
  }
  EXPECT_EQ(count_visible_pairs({}, {.batch = 2, .query_length = 3, .kv_length = 5}, kHeads),
            2 * kHeads * 3 * 5);
}

bool fits(const ProgramSizes& sizes, const ProgramSizes& limit) {
  bool result = sizes.total <= limit.total;
  for (int type = 0; type < kProgramTypes; ++type)
    for (int stage = 0; stage < kProgramStages; ++stage)
      result = result && sizes.registers[type][stage] <= limit.registers[type][stage];
  return result;
}

TEST(HeadTiles, NoProgramIsLargerThanTheLimit) {
  for (const char* text : kMasks) {
    const Mask mask = mask_from_text(text);
    const Step step{.batch = 1, .query_length = 100, .kv_length = 120};
    const expr::Values values = bind(*mask.expression(), step, "schedule");
    const HeadClasses heads = classify_heads(mask, values, step, kHeads, "schedule");
    const ProgramSizes limit = largest_program(mask);
    expr::TileGrid grid = grid_of(step);
    grid.tile_queries = 16;
    grid.tile_keys = 8;
    for (const HeadClass& one : heads.classes) {
      const HeadTiles tiles = make_head_tiles(mask, expr::classify(one.mask, values, grid), values,
                                              grid, limit, Direction::kBackward);
      EXPECT_EQ(tiles.programs.size(), tiles.storages.size());
      for (const expr::ProgramStorage& storage : tiles.storages)
        EXPECT_TRUE(fits(storage.sizes, limit)) << text;
      for (const TileRule& rule : tiles.rules)
        EXPECT_LT(rule.program, static_cast<int32_t>(tiles.programs.size()));
    }
  }
}

TEST(HeadTiles, LargerProgramsBecomeTheWholeMask) {
  const Mask mask = mask_from_text("k <= q and (q - k) % 5 != 1");
  const Step step{.batch = 1, .query_length = 100, .kv_length = 120};
  const expr::Values values = bind(*mask.expression(), step, "schedule");
  expr::TileGrid grid = grid_of(step);
  grid.tile_queries = 16;
  grid.tile_keys = 8;
  const expr::MaskTiles tiles = expr::classify(*mask.expression(), values, grid);
  const size_t whole = expr::compile(*mask.expression(), values, {.is_narrow = true}).code.size();
  const auto code = [&](const ProgramSizes& limit) {
    return make_head_tiles(mask, tiles, values, grid, limit, Direction::kForward)
        .storages.at(0)
        .code.size();
  };
  EXPECT_LT(code(largest_program(mask)), whole);
  EXPECT_EQ(code({}), whole);
}

}  // namespace
}  // namespace tilewise
