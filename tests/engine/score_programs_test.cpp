// SPDX-License-Identifier: Apache-2.0
#include "engine/score_programs.h"

#include <gtest/gtest.h>

#include "engine/plan_data.h"
#include "problem/bind.h"
#include "tilewise/error.h"

namespace tilewise {
namespace {

constexpr int64_t kHeads = 3;

ScorePrograms programs_of(const Score& score, const Step& step) {
  const expr::Values values = bind(*score.expression(), step, "schedule");
  return make_score_programs(score, values, step, kHeads, "schedule");
}
ScorePrograms programs_of(const char* text, const Step& step) {
  return programs_of(score_from_text(text), step);
}

TEST(ScorePrograms, NoScoreHasNoPrograms) {
  const ScorePrograms none = make_score_programs({}, {}, {.query_length = 4}, kHeads, "schedule");
  EXPECT_TRUE(none.forward.outputs.empty());
  EXPECT_FALSE(programs_of("s / 2", {.query_length = 4, .kv_length = 4}).forward.outputs.empty());
}

TEST(ScorePrograms, ExtentsHoldEveryIndexOfTheStep) {
  const ScorePrograms score =
      programs_of("s + a[h, q - k + 9] * a[1, 3] + c[k // 4]",
                  {.query_length = 10, .kv_length = 9, .query_offset = 5, .head_offset = 2});
  ASSERT_EQ(score.tables.size(), 2u);
  const ScoreTable &a = score.tables[0], &c = score.tables[1];
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(a.extent[0], 1);
  EXPECT_EQ(a.extent[1], 1);
  EXPECT_EQ(a.extent[2], 5);   // heads 2 to 4
  EXPECT_EQ(a.extent[3], 24);  // queries to 14, keys from 0
  EXPECT_EQ(c.extent[3], 3);
  EXPECT_EQ(a.first, 0);
  EXPECT_EQ(c.first, 5 * 24);
  EXPECT_EQ(score.table_elements, 5 * 24 + 3);
}

TEST(ScorePrograms, LookupsFollowTheScoreAndItsDerivative) {
  const ScorePrograms score =
      programs_of("s + a[h, q] * a[0, k] + c[k // 4]", {.query_length = 6, .kv_length = 8});
  EXPECT_EQ(score.backward.outputs.size(), 2u);
  EXPECT_EQ(score.backward_with_tables.outputs.size(), 2u + 3 + 3 + 2);
  ASSERT_EQ(score.lookups.size(), 3u);
  int32_t output = 2;
  for (const TableLookup& lookup : score.lookups) {
    EXPECT_EQ(lookup.output, output);
    output += 1 + lookup.rank;
    const ScoreTable& table = score.tables[lookup.rank == 2 ? 0 : 1];
    EXPECT_EQ(lookup.first, table.first);
    for (int axis = 0; axis < lookup.rank; ++axis)
      EXPECT_EQ(lookup.extent[axis], table.extent[4 - lookup.rank + axis]);
  }
}

TEST(ScorePrograms, ALookupWithoutInfluenceHasNoGradient) {
  const ScorePrograms score =
      programs_of("where(a[q] < 0, s, 2 * s)", {.query_length = 6, .kv_length = 8});
  EXPECT_EQ(score.tables.size(), 1u);
  EXPECT_EQ(score.table_elements, 6);
  const Score text = score_from_text("where(a[q] < 0, s, 2 * s)");
  EXPECT_EQ(static_cast<size_t>(largest_tables({.score = text}).lookups), score.lookups.size());
}

TEST(ScorePrograms, TablesOfSequencesAreWidenedToTheLargestIndex) {
  const Score score = score_from_text("s + a[h, k] + c[q]");
  ScorePrograms whole = programs_of(score, {.batch = 0});
  EXPECT_EQ(whole.table_elements, 2);
  widen_tables(whole, score, programs_of(score, {.query_length = 4, .kv_length = 9}));
  widen_tables(whole, score, programs_of(score, {.query_length = 7, .kv_length = 5}));
  EXPECT_EQ(whole.table_elements, kHeads * 9 + 7);
  ASSERT_EQ(whole.lookups.size(), 2u);
  const ScorePrograms one = programs_of(score, {.query_length = 7, .kv_length = 9});
  for (size_t i = 0; i < whole.lookups.size(); ++i) {
    EXPECT_EQ(whole.lookups[i].output, one.lookups[i].output);
    EXPECT_EQ(whole.lookups[i].first, one.lookups[i].first);
    for (int axis = 0; axis < whole.lookups[i].rank; ++axis)
      EXPECT_EQ(whole.lookups[i].extent[axis], one.lookups[i].extent[axis]);
  }
}

TEST(ScorePrograms, NoStepNeedsMoreThanTheLargestProgram) {
  const Score score = score_from_text("s * a[h, q // w] + c[abs(q - k) % w] * tanh(s / v)");
  const ProgramSizes most = largest_program(score);
  for (const int64_t w : {1, 2, 7, 64}) {
    const ScorePrograms one = programs_of(
        score,
        {.query_length = 50, .kv_length = 30, .scalars = {{"w", w}, {"v", w == 7 ? 3.0 : 4.0}}});
    for (const expr::ProgramStorage* program :
         {&one.forward, &one.decode, &one.backward, &one.backward_with_tables}) {
      EXPECT_LE(program->sizes.total, most.total);
      for (int type = 0; type < kProgramTypes; ++type)
        for (int stage = 0; stage < kProgramStages; ++stage)
          EXPECT_LE(program->sizes.registers[type][stage], most.registers[type][stage]);
    }
  }
}

TEST(ScorePrograms, TablesWithoutPairsAreKnown) {
  const ScorePrograms score = programs_of("s + a[h]", {.batch = 0});
  ASSERT_EQ(score.tables.size(), 1u);
  EXPECT_EQ(score.table_elements, 1);
}

TEST(ScorePrograms, ElementsAreLimitedWhereGradientsAreWanted) {
  const Problem problem{.max_table_elements = 10};
  const ScorePrograms score = programs_of("s + a[k]", {.query_length = 2, .kv_length = 11});
  BackwardTensors tensors;
  EXPECT_NO_THROW(validate_table_elements(problem, score, tensors, "backward"));
  EXPECT_EQ(table_sizes(problem, score).elements, 0);
  EXPECT_EQ(table_sizes({.max_table_elements = 11}, score).elements, 11);
  tensors.grad_tables = {{"a", {}}};
  try {
    validate_table_elements(problem, score, tensors, "backward");
    FAIL();
  } catch (const InvalidArgument& error) {
    EXPECT_STREQ(error.what(),
                 "backward: grad_tables is of tables with 11 elements, expected at most 10; raise "
                 "Problem::max_table_elements, which counts up to the largest index of the step");
  }
}

}  // namespace
}  // namespace tilewise
