// SPDX-License-Identifier: Apache-2.0
#include "engine/parts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/random.h"
#include "engine/stub_plan.h"
#include "problem/ragged.h"

namespace tilewise {
namespace {

TEST(PartItems, AreNumberedOnePartAfterAnother) {
  PartItems items;
  for (const int64_t count : {3, 0, 2}) items.add(count);
  EXPECT_EQ(items.total(), 5);
  EXPECT_EQ(items.parts(), 3);
  const int64_t parts[] = {0, 0, 0, 2, 2}, within[] = {0, 1, 2, 0, 1};
  for (int64_t i = 0; i < 5; ++i) {
    EXPECT_EQ(items.find(i).part, parts[i]);
    EXPECT_EQ(items.find(i).item, within[i]);
  }
  EXPECT_EQ(items.first(2), 3);
  EXPECT_EQ(items.end(2), 5);
  EXPECT_EQ(PartItems().total(), 0);
}

TEST(FillRows, FillsTheEndOfTheLengthAxisAlone) {
  std::vector<float> data(2 * 3 * 700 * 2, 5.0F);
  const Tensor tensor = Tensor::bshd(data.data(), DType::kFloat32, 2, 700, 3, 2);
  int64_t counter = 0;
  const double infinity = std::numeric_limits<double>::infinity();
  fill_rows(tensor, 41, -infinity, default_executor(), 2, &counter);
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t i = 0; i < 700; ++i)
      for (int64_t c = 0; c < 6; ++c)
        ASSERT_EQ(data[static_cast<size_t>((b * 700 + i) * 6 + c)], i < 41 ? 5.0F : -infinity);
  fill_rows({}, 0, 1, default_executor(), 2, &counter);
}

struct RaggedStep {
  std::vector<int64_t> queries = {0}, keys = {0};
  Step step;
  void add(int64_t query_length, int64_t kv_length) {
    queries.push_back(queries.back() + query_length);
    keys.push_back(keys.back() + kv_length);
  }
  const Step& finish() {
    step.batch = static_cast<int64_t>(queries.size()) - 1;
    step.query_length = queries.back();
    step.kv_length = keys.back();
    step.query_starts = {queries.data(), IntegerType::kInt64, step.batch + 1};
    step.key_starts = {keys.data(), IntegerType::kInt64, step.batch + 1};
    return step;
  }
};

Problem random_problem(Random& random) {
  Problem problem;
  problem.kv_heads = random.between(1, 3);
  problem.query_heads = problem.kv_heads * random.between(1, 3);
  problem.max_batch = random.between(1, 12);
  problem.max_query_length = random.between(1, 300);
  problem.max_kv_length = random.between(1, 300);
  problem.max_total_queries = random.between(1, problem.max_batch * problem.max_query_length);
  problem.head_dim = 16;
  problem.has_bias = random.between(0, 3) == 0;
  const char* const masks[] = {"causal", "k // 24 == q // 40", "full"};
  if (const auto mask = random.between(0, 2); mask < 2) problem.mask = mask_from_text(masks[mask]);
  if (random.between(0, 1) == 0) problem.score = score_from_text("s - c[h] * (q - k)");
  return problem;
}

RaggedStep random_step(const Problem& problem, Random& random) {
  RaggedStep ragged;
  int64_t left = problem.max_total_queries;
  for (int64_t n = random.between(0, problem.max_batch); n > 0; --n) {
    const bool is_long = random.between(0, 1) == 0;
    const int64_t most = std::min(left, problem.max_query_length);
    const int64_t queries = is_long ? most : random.between(0, std::min<int64_t>(most, 20));
    left -= queries;
    ragged.add(queries, random.between(0, 3) == 0 ? problem.max_kv_length
                                                  : random.between(0, problem.max_kv_length));
  }
  return ragged;
}

// lay_out() throws InternalError where a plan's workspace is too small.
TEST(Parts, TheWorkspaceOfAPlanIsEnoughForEveryStep) {
  Random random(20261126, 7);
  const Kernel kernel = testing::stub_kernel();
  for (int n = 0; n < 80; ++n) {
    const Problem problem = random_problem(random);
    const int threads = static_cast<int>(random.between(1, 9));
    const auto plan = testing::stub_plan(problem, kernel, default_executor(), threads);
    for (int steps = 0; steps < 4; ++steps) {
      RaggedStep ragged = random_step(plan->problem, random);
      SCOPED_TRACE(::testing::Message() << "plan " << n << ", step " << steps);
      ASSERT_NO_THROW((void)make_schedule(*plan, ragged.finish(), "schedule"));
      Step uniform;
      uniform.query_length = random.between(0, problem.max_query_length);
      uniform.kv_length = random.between(0, problem.max_kv_length);
      const int64_t most =
          plan->problem.max_total_queries / std::max<int64_t>(uniform.query_length, 1);
      uniform.batch = random.between(0, std::min(problem.max_batch, most));
      ASSERT_NO_THROW((void)make_schedule(*plan, uniform, "schedule"));
    }
  }
}

Problem large_problem() {
  Problem problem;
  problem.query_heads = 4;
  problem.kv_heads = 2;
  problem.max_batch = 6;
  problem.max_query_length = problem.max_kv_length = 400;
  problem.head_dim = 64;
  problem.mask = causal();
  return problem;
}

// Every accumulator of dQ, and all else that parts have of their own, is apart from the others.
TEST(Parts, MemoryOfHeadsDoesNotOverlap) {
  const Kernel kernel = testing::stub_kernel();
  for (const int threads : {1, 3, 8}) {
    const auto plan = testing::stub_plan(large_problem(), kernel, default_executor(), threads);
    RaggedStep ragged;
    for (const int64_t length : {400, 3, 0, 390, 100, 12}) ragged.add(length, length);
    const auto schedule = make_schedule(*plan, ragged.finish(), "schedule");
    int64_t slot = schedule->worker_slots * schedule->longest_queries, head = 0, decode = 0;
    int64_t keys = 400, whole = 0;
    for (const SchedulePart& part : schedule->parts) {
      const AttentionShape& shape = part.sequence->shape;
      EXPECT_LE(shape.kv_length, keys);
      keys = shape.kv_length;
      EXPECT_EQ(part.first_head, head);
      EXPECT_EQ(part.first_slot_query, slot);
      EXPECT_EQ(part.first_whole_head, whole);
      EXPECT_EQ(part.first_decode_query, decode);
      EXPECT_EQ(part.shares.heads(), 2);
      head += 2;
      whole += part.shares.whole_heads;
      slot += part.shares.shared_heads * shape.query_length;
      if (part.sequence->decodes) decode += shape.query_length;
    }
    EXPECT_EQ(decode, 3 + 12);
    EXPECT_EQ(schedule->backward.accumulator.bytes, 4 * 2 * slot * 64);
    EXPECT_EQ(schedule->backward.lse.bytes, 4 * 4 * (400 + 3 + 390 + 100 + 12));
    EXPECT_EQ(schedule->forward.decode_sums.bytes, 4 * 4 * decode * (64 + 3));
    EXPECT_EQ(schedule->worker_slots, std::min<int64_t>(whole, schedule->backward_workers));
  }
}

TEST(Parts, SequencesOfEqualLengthsShareASchedule) {
  const Kernel kernel = testing::stub_kernel();
  const auto schedule_of = [&](const char* mask) {
    Problem problem = large_problem();
    problem.mask = mask_from_text(mask);
    const auto plan = testing::stub_plan(problem, kernel, default_executor(), 1);
    RaggedStep ragged;
    for (const int64_t length : {50, 300, 50, 50, 300}) ragged.add(length, length);
    return make_schedule(*plan, ragged.finish(), "schedule");
  };
  const auto shared = schedule_of("causal"), own = schedule_of("k <= q + b");
  for (size_t i = 1; i < 5; ++i) {
    const bool is_same = shared->parts[i].sequence == shared->parts[i - 1].sequence;
    EXPECT_EQ(is_same, i != 2);  // two of 300, three of 50
    EXPECT_NE(own->parts[i].sequence, own->parts[i - 1].sequence);
  }
  EXPECT_EQ(shared->pairs, 4 * (2 * 300 * 301 / 2 + 3 * 50 * 51 / 2));
}

TEST(Parts, ViewOfASequence) {
  const Kernel kernel = testing::stub_kernel();
  const auto plan = testing::stub_plan(large_problem(), kernel, default_executor(), 1);
  RaggedStep ragged;
  ragged.add(10, 20);
  ragged.add(30, 40);
  ragged.step.batch_offset = 5;
  ragged.step.query_offset = 6;
  const auto schedule = make_schedule(*plan, ragged.finish(), "schedule");
  const PartView view(*schedule, schedule->parts[0]);  // the one with more keys
  float data[4 * 60 * 64];
  const Tensor tensor = Tensor::bhsd(data, DType::kFloat32, 1, 4, 40, 64);
  EXPECT_EQ(view.queries(tensor).data, data + 10 * 64);
  EXPECT_EQ(view.queries(tensor).shape[2], 30);
  const Tensor keys = Tensor::bhsd(data, DType::kFloat32, 1, 2, 60, 64);
  EXPECT_EQ(view.keys(keys).data, data + 20 * 64);
  EXPECT_EQ(view.keys(keys).shape[2], 40);
  EXPECT_EQ(view.origin().batch, 6);
  EXPECT_EQ(view.origin().query, 6);
}

}  // namespace
}  // namespace tilewise
