// SPDX-License-Identifier: Apache-2.0
#include "problem/ragged.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "problem/validate.h"
#include "tilewise/error.h"

namespace tilewise {
namespace {

const std::vector<int32_t> kQueries = {0, 3, 3, 8};
const std::vector<int64_t> kKeys = {0, 4, 6, 6};

Step ragged_step() {
  Step step;
  step.batch = 3;
  step.query_length = 10;
  step.kv_length = 7;
  step.query_starts = {kQueries.data(), IntegerType::kInt32, 4};
  step.key_starts = {kKeys.data(), IntegerType::kInt64, 4};
  return step;
}

Problem ragged_problem() {
  Problem problem;
  problem.head_dim = 8;
  problem.max_batch = 3;
  problem.max_query_length = 5;
  problem.max_kv_length = 4;
  problem.max_total_queries = 8;
  return problem;
}

TEST(RaggedSteps, StartsOfBothTypesAreRead) {
  const Step step = ragged_step();
  EXPECT_TRUE(is_ragged(step));
  EXPECT_FALSE(is_ragged(Step{}));
  EXPECT_EQ(longest_sequence(step.query_starts), 5);
  EXPECT_EQ(longest_sequence(step.key_starts), 4);
  EXPECT_EQ(total_length(step.query_starts), 8);
  EXPECT_EQ(total_length(step.key_starts), 6);
}

TEST(RaggedSteps, StartsAreComparedByContent) {
  const std::vector<int64_t> wide(kQueries.begin(), kQueries.end());
  const SequenceStarts queries = ragged_step().query_starts;
  EXPECT_TRUE(same_starts(queries, {wide.data(), IntegerType::kInt64, 4}));
  EXPECT_FALSE(same_starts(queries, {wide.data(), IntegerType::kInt64, 3}));
  EXPECT_FALSE(same_starts(queries, ragged_step().key_starts));
  EXPECT_FALSE(same_starts(queries, {}));
  EXPECT_TRUE(same_starts({}, {}));
}

TEST(RaggedSteps, SequenceIsAStepOfItsOwn) {
  Step step = ragged_step();
  step.query_offset = 5;
  step.key_offset = 6;
  step.batch_offset = 70;
  step.head_offset = 8;
  const Step two = sequence_step(step, 2);
  EXPECT_EQ(two.batch, 1);
  EXPECT_EQ(two.query_length, 5);
  EXPECT_EQ(two.kv_length, 0);
  EXPECT_EQ(two.query_offset, 5);
  EXPECT_EQ(two.key_offset, 6);
  EXPECT_EQ(two.batch_offset, 72);
  EXPECT_EQ(two.head_offset, 8);
  EXPECT_FALSE(is_ragged(two));
}

TEST(RaggedSteps, RowsAreAView) {
  float data[64];
  const Tensor all = Tensor::bshd(data, DType::kFloat32, 1, 8, 2, 4);
  const Tensor rows = rows_of(all, 3, 2);
  EXPECT_EQ(rows.data, data + 3 * 8);
  EXPECT_EQ(rows.shape[2], 2);
  EXPECT_EQ(rows.strides[2], 8);
  EXPECT_EQ(rows_of({}, 3, 2).data, nullptr);
  EXPECT_EQ(rows_of(all, 8, 0).data, data);  // no address behind the tensor
}

TEST(RaggedSteps, BiasOfASequenceIsItsEntryUnlessBroadcast) {
  float data[3 * 2 * 6 * 5];
  const Tensor own = bias_of(Tensor::bhsd(data, DType::kFloat32, 3, 2, 6, 5), 2, 4, 3);
  EXPECT_EQ(own.data, data + 2 * 60);
  EXPECT_EQ(own.shape[0], 1);
  EXPECT_EQ(own.shape[2], 4);
  EXPECT_EQ(own.shape[3], 3);
  const Tensor shared = bias_of(Tensor::bhsd(data, DType::kFloat32, 1, 2, 1, 5), 2, 4, 3);
  EXPECT_EQ(shared.data, data);
  EXPECT_EQ(shared.shape[2], 1);
}

TEST(RaggedSteps, AValidStepIsAccepted) {
  EXPECT_NO_THROW(validate_step(normalized(ragged_problem()), ragged_step()));
  Step none;  // no sequence at all, but rows
  const int32_t zero = 0;
  none.batch = 0;
  none.query_length = none.kv_length = 9;
  none.query_starts = none.key_starts = {&zero, IntegerType::kInt32, 1};
  EXPECT_NO_THROW(validate_step(normalized(ragged_problem()), none));
}

TEST(RaggedSteps, EveryMistakeIsNamed) {
  static std::vector<int32_t> starts;  // of the case at hand
  struct Mistake {
    std::function<void(Problem&, Step&)> make;
    const char* message;
  };
  const auto with = [](std::vector<int32_t> given) {
    starts = std::move(given);
    return SequenceStarts{starts.data(), IntegerType::kInt32, static_cast<int64_t>(starts.size())};
  };
  const Mistake mistakes[] = {
      {[](Problem&, Step& s) { s.query_starts = {}; },
       "schedule: step.query_starts is missing, expected given together with the other starts; a "
       "ragged batch has starts of queries and of keys, which may be the same"},
      {[](Problem&, Step& s) { s.key_starts = {}; },
       "schedule: step.key_starts is missing, expected given together with the other starts; a "
       "ragged batch has starts of queries and of keys, which may be the same"},
      {[](Problem&, Step& s) { s.key_starts.type = IntegerType::kBool; },
       "schedule: step.key_starts.type is 2, expected 0 (int32) or 1 (int64)"},
      {[](Problem&, Step& s) { s.query_starts.size = 3; },
       "schedule: step.query_starts.size is 3, expected 4 (batch + 1); the last start is the end "
       "of the last sequence"},
      {[&](Problem&, Step& s) {
         s.query_starts = with({1, 3, 3, 8});
       },
       "schedule: step.query_starts[0] is 1, expected 0"},
      {[&](Problem&, Step& s) {
         s.query_starts = with({0, 3, 2, 8});
       },
       "schedule: step.query_starts[2] is 2, expected 3 to 10; starts ascend, and the last is at "
       "most query_length"},
      {[&](Problem&, Step& s) {
         s.key_starts = with({0, 3, 6, 8});
       },
       "schedule: step.key_starts[3] is 8, expected 6 to 7; starts ascend, and the last is at most "
       "kv_length"},
      {[&](Problem&, Step& s) {
         s.query_starts = with({0, 0, 0, 6});
       },
       "schedule: step.query_starts[3] is the end of a sequence of length 6, expected at most 5; "
       "raise the plan's max_query_length"},
      {[&](Problem&, Step& s) {
         s.key_starts = with({0, 5, 5, 5});
       },
       "schedule: step.key_starts[1] is the end of a sequence of length 5, expected at most 4; "
       "raise the plan's max_kv_length"},
      {[](Problem& p, Step&) { p.max_total_queries = 7; },
       "schedule: step.query_starts[3] is 8, expected at most 7 queries in all sequences; raise "
       "the plan's max_total_queries"},
      {[](Problem& p, Step&) { p.max_batch = 2; },
       "schedule: batch is 3, expected 0 to 2; the upper bound is the plan's max_batch"},
      {[](Problem&, Step& s) { s.query_length = -1; },
       "schedule: query_length is -1, expected 0 to 2147483647"},
      {[](Problem&, Step& s) {
         s.query_starts = s.key_starts = {};
         s.query_length = s.kv_length = 3;
       },
       "schedule: query_length is 3, expected at most 8 queries in all batch entries; raise the "
       "plan's max_total_queries"},
      {[](Problem& p, Step&) { p.max_total_queries = -1; },
       "make_plan: max_total_queries is -1, expected 0 to 2147483647; 0 means max_batch * "
       "max_query_length"},
  };
  for (const Mistake& mistake : mistakes) {
    Problem problem = ragged_problem();
    Step step = ragged_step();
    mistake.make(problem, step);
    try {
      validate_step(normalized(problem), step);
      ADD_FAILURE() << "accepted; expected: " << mistake.message;
    } catch (const InvalidArgument& error) {
      EXPECT_STREQ(error.what(), mistake.message);
    }
  }
}

TEST(RaggedSteps, TotalQueriesDefaultToTheProductAndAreNoMore) {
  Problem problem = ragged_problem();
  problem.max_total_queries = 0;
  EXPECT_EQ(normalized(problem).max_total_queries, 15);
  problem.max_total_queries = 1000;
  EXPECT_EQ(normalized(problem).max_total_queries, 15);
}

}  // namespace
}  // namespace tilewise
