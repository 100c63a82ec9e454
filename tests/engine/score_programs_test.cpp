// SPDX-License-Identifier: Apache-2.0
#include "engine/score_programs.h"

#include <gtest/gtest.h>

#include <array>
#include <functional>

#include "engine/plan_data.h"
#include "tilewise/error.h"

namespace tilewise {
namespace {

constexpr int64_t kHeads = 3;

ScorePrograms programs_of(const char* text, const Step& step) {
  return make_score_programs(score_from_text(text), step, kHeads, "schedule");
}

TEST(ScorePrograms, NoScoreIsTheIdentity) {
  const ScorePrograms none = make_score_programs({}, {.query_length = 4, .kv_length = 4}, 1, "x");
  EXPECT_TRUE(none.is_identity());
  EXPECT_FALSE(programs_of("s / 2", {.query_length = 4, .kv_length = 4}).is_identity());
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

TEST(ScorePrograms, NoStepNeedsMoreThanTheLargestProgram) {
  const Score score = score_from_text("s * a[h, q // w] + c[abs(q - k) % w] * tanh(s / v)");
  const ProgramSizes most = largest_program(score);
  for (const int64_t w : {1, 2, 7, 64}) {
    const ScorePrograms one = make_score_programs(
        score,
        {.query_length = 50, .kv_length = 30, .scalars = {{"w", w}, {"v", w == 7 ? 3.0 : 4.0}}},
        kHeads, "schedule");
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

TEST(ScorePrograms, RealTablesAreBySymbol) {
  const ScorePrograms score = programs_of("s * c[q] + a[h]", {.query_length = 6, .kv_length = 8});
  float memory[16];
  const Tensor a = Tensor::bhsd(memory, DType::kFloat32, 1, 1, 1, 3);
  const Tensor c = Tensor::bhsd(memory + 3, DType::kFloat32, 1, 1, 1, 6);
  const RealTables tables(score, {{"a", a}, {"c", c}});
  for (const ScoreTable& table : score.tables)
    EXPECT_EQ(tables.by_symbol[table.symbol].data, table.name == "a" ? a.data : c.data);
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

// A valid call of a score with tables a [2, 4] and c [5].
struct Call {
  ScorePrograms score = programs_of("s + a[h // 2, q] + c[k]", {.query_length = 4, .kv_length = 5});
  std::array<double, 64> memory{};
  BackwardTensors tensors;
  Call() {
    tensors.query = Tensor::bhsd(memory.data() + 40, DType::kFloat32, 1, 1, 1, 2);
    tensors.grad_query = Tensor::bhsd(memory.data() + 42, DType::kFloat32, 1, 1, 1, 2);
    tensors.tables = {{"a", Tensor::bhsd(memory.data(), DType::kBFloat16, 1, 1, 2, 4)},
                      {"c", Tensor::bhsd(memory.data() + 8, DType::kFloat64, 1, 1, 1, 5)}};
    tensors.grad_tables = {{"c", Tensor::bhsd(memory.data() + 16, DType::kFloat32, 1, 1, 1, 5)},
                           {"a", Tensor::bhsd(memory.data() + 24, DType::kFloat32, 1, 1, 2, 4)}};
  }
};

TEST(ScorePrograms, TablesThatFitAreAccepted) {
  Call call;
  EXPECT_NO_THROW(validate_tables(call.score, call.tensors, "backward"));
  call.tensors.grad_tables.clear();
  EXPECT_NO_THROW(validate_tables(call.score, call.tensors, "backward"));
  call.tensors.tables[1].tensor.strides[3] = 0;  // an input may repeat its elements
  EXPECT_NO_THROW(validate_tables(call.score, call.tensors, "backward"));
}

TEST(ScorePrograms, WhatDoesNotFitIsNamed) {
  struct Wrong {
    std::function<void(BackwardTensors&)> spoil;
    const char* text;
  };
  const Wrong all[] = {
      {[](auto& t) { t.tables.pop_back(); },
       "backward: table \"c\" is missing, expected a tensor of real numbers with 1 axis; the score "
       "uses it"},
      {[](auto& t) { t.tables[1].name = "a"; }, "backward: table \"a\" is given twice, "},
      {[](auto& t) { t.tables[1].name = "d"; }, "backward: table \"d\" is given, "},
      {[](auto& t) { t.tables[0].tensor.shape[3] = 3; },
       "backward: table \"a\".shape is [1, 1, 2, 3], expected at least 4 in axis 3; "},
      {[](auto& t) { t.tables[0].tensor.shape[1] = 2; },
       "backward: table \"a\".shape is [1, 2, 2, 4], expected extent 1 in the first 2 axes; "},
      {[](auto& t) { t.tables[0].tensor.data = nullptr; }, "backward: table \"a\".data is null, "},
      {[](auto& t) { t.tables[0].tensor.dtype = static_cast<DType>(9); },
       "backward: table \"a\".dtype is code 9, "},
      {[](auto& t) { t.grad_query.data = t.tables[0].tensor.data; },
       "backward: grad_query is in the memory of table \"a\", expected memory of its own"},
      {[](auto& t) { t.grad_tables[0].name = "d"; }, "backward: grad_table \"d\" is given, "},
      {[](auto& t) { t.grad_tables[0].name = "a"; }, "backward: grad_table \"a\" is given twice, "},
      {[](auto& t) { t.grad_tables[0].tensor.dtype = DType::kFloat64; },
       "backward: grad_table \"c\".dtype is fp64, expected fp32"},
      {[](auto& t) { t.grad_tables[0].tensor.shape[3] = 6; },
       "backward: grad_table \"c\".shape is [1, 1, 1, 6], expected [1, 1, 1, 5]; as the table"},
      {[](auto& t) { t.grad_tables[1].tensor.data = nullptr; },
       "backward: grad_table \"a\".data is null, "},
      {[](auto& t) {
         t.grad_tables[1].tensor.data = static_cast<char*>(t.grad_tables[1].tensor.data) + 1;
       },
       "backward: grad_table \"a\".data is not aligned, expected a multiple of 4 bytes"},
      {[](auto& t) { t.grad_tables[0].tensor.strides[3] = 0; },
       "backward: grad_table \"c\".strides is "},
      {[](auto& t) { t.grad_tables[0].tensor.data = t.query.data; },
       "backward: grad_table \"c\" is in the memory of query, "},
      {[](auto& t) { t.grad_tables[0].tensor.data = t.grad_query.data; },
       "backward: grad_table \"c\" is in the memory of grad_query, "},
      {[](auto& t) { t.grad_tables[0].tensor.data = t.tables[0].tensor.data; },
       "backward: grad_table \"c\" is in the memory of table \"a\", "},
      {[](auto& t) { t.grad_tables[1].tensor.data = t.grad_tables[0].tensor.data; },
       "backward: grad_table \"a\" is in the memory of grad_table \"c\", "},
  };
  for (const Wrong& wrong : all) {
    Call call;
    wrong.spoil(call.tensors);
    try {
      validate_tables(call.score, call.tensors, "backward");
      ADD_FAILURE() << "accepted: " << wrong.text;
    } catch (const InvalidArgument& error) {
      EXPECT_EQ(std::string(error.what()).substr(0, std::string(wrong.text).size()), wrong.text);
    }
  }
}

}  // namespace
}  // namespace tilewise
