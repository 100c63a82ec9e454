// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <thread>
#include <vector>

#include "engine/plan_data.h"
#include "support/error_of.h"
#include "tilewise/attention.h"
#include "tilewise/error.h"

namespace tilewise {
namespace {

Problem causal_problem() {
  Problem problem;
  problem.query_heads = 4;
  problem.kv_heads = 2;
  problem.max_batch = 4;
  problem.max_query_length = 3000;
  problem.max_kv_length = 3000;
  problem.head_dim = 64;
  problem.mask = causal();
  return problem;
}

Step step_of(int64_t batch, int64_t query_length, int64_t kv_length) {
  Step step;
  step.batch = batch;
  step.query_length = query_length;
  step.kv_length = kv_length;
  return step;
}

int64_t tiles_of(const TileRowList& rows, int32_t row) {
  const TileRows view = rows.view();
  int64_t tiles = 0;
  for (int64_t run = view.begin[row]; run < view.begin[row + 1]; ++run) {
    tiles += view.runs[run].last - view.runs[run].first;
  }
  return tiles;
}

TEST(Schedule, KnowsItsStep) {
  Step step = step_of(3, 20, 30);
  step.query_offset = 7;
  const Schedule schedule = make_plan(causal_problem()).schedule(step);
  EXPECT_EQ(schedule.step().batch, 3);
  EXPECT_EQ(schedule.step().query_offset, 7);
}

// Every tile is empty or full; the tiles of the plan would straddle the blocks.
TEST(Schedule, TilesFollowTheBlocksOfAMask) {
  Problem problem = causal_problem();
  std::vector<int32_t> layout(4 * 24 * 24);
  for (size_t i = 0; i < layout.size(); ++i) layout[i] = i % 7 == 3 || i % 11 == 5;
  Step step = step_of(1, 3000, 3000);
  step.tables = {{"layout", layout.data(), IntegerType::kInt32, {4, 24, 24}}};
  problem.mask = mask_from_text("layout[h, q // 128, k // 128]");
  const Plan plan = make_plan(problem);
  const auto has_programs = [](const std::vector<HeadTiles>& tiles) {
    return std::any_of(tiles.begin(), tiles.end(),
                       [](const HeadTiles& one) { return !one.programs.empty(); });
  };
  const Schedule schedule = plan.schedule(step);
  const Geometry& geometry = schedule.data().geometry;
  EXPECT_TRUE(schedule.data().forward_follows_blocks && schedule.data().backward_follows_blocks);
  EXPECT_EQ(128 % geometry.query_tile, 0);
  EXPECT_EQ(128 % geometry.key_tile, 0);
  EXPECT_FALSE(has_programs(schedule.data().forward_tiles));
  EXPECT_FALSE(has_programs(schedule.data().backward_tiles));
  EXPECT_LE(schedule.data().backward.bytes, plan.data().backward.bytes);
  // Where every tile is partial anyway nothing is won.
  problem.mask = mask_from_text("(q // 128 + k) % 2 == 0");
  const Plan other = make_plan(problem);
  const Schedule plain = other.schedule(step_of(1, 3000, 3000));
  EXPECT_TRUE(has_programs(plain.data().forward_tiles));
  EXPECT_FALSE(plain.data().forward_follows_blocks || plain.data().backward_follows_blocks);
  EXPECT_EQ(plain.data().geometry.key_tile, other.data().tiles.geometry.key_tile);
}

// Shorter tiles along one axis only: more turns, with the scratch of the others.
TEST(Schedule, BlocksOfOneAxisFitTheWorkspace) {
  Problem problem = causal_problem();
  problem.query_heads = 64;
  problem.kv_heads = 1;
  problem.max_batch = 1;
  problem.dtype = DType::kBFloat16;
  problem.max_query_length = 131072;
  problem.max_kv_length = 1024;
  for (const char* mask : {"(q // 64 + k // 128) % 2 == 0", "q // 64 % 2 == 0 or k // 128 % 2 == 0",
                           "(q // 128 + k // 64) % 2 == 0", "k // 64 % 2 == 0 or q % 3 == 1"}) {
    problem.mask = mask_from_text(mask);
    for (const std::string& isa : available_isas())
      EXPECT_NO_THROW(
          (void)make_plan(problem, {.isa = isa, .threads = 1}).schedule(step_of(1, 131072, 1024)))
          << isa << ", " << mask;
  }
}

TEST(Schedule, FewQueriesTakeKeysInChunksThatSomeQuerySees) {
  Problem problem = causal_problem();
  problem.mask = window(1500, 0);
  const Plan plan = make_plan(problem);
  EXPECT_FALSE(plan.schedule(step_of(2, 17, 3000)).data().decodes);
  EXPECT_FALSE(plan.schedule(step_of(2, 0, 3000)).data().decodes);
  const Schedule schedule = plan.schedule(step_of(2, 16, 3000));
  const Schedule::Data& data = schedule.data();
  EXPECT_TRUE(data.decodes);
  // The first query stands at key 2984 and sees 1500 keys before it.
  EXPECT_EQ(data.decode.first_key, 1484);
  EXPECT_EQ(data.decode.last_key, 3000);
  EXPECT_EQ(data.decode.first_chunk, 1);
  EXPECT_EQ(data.decode.last_chunk, 3);
  EXPECT_EQ(data.forward_items, 2 * 2 * data.decode.row_tiles * 2);
  problem.same_bits_as_prefill = true;
  const Schedule whole = make_plan(problem).schedule(step_of(2, 16, 3000));
  EXPECT_EQ(whole.data().decode.first_chunk, 0);
  EXPECT_EQ(whole.data().decode.last_chunk, 1);
}

TEST(Schedule, FewQueriesThatSeeNothingAreOneEmptyChunk) {
  Problem problem = causal_problem();
  problem.mask = causal_top_left();
  Step step = step_of(1, 3, 2000);
  step.key_offset = 10;
  const Schedule schedule = make_plan(problem).schedule(step);
  EXPECT_EQ(schedule.data().decode.first_key, schedule.data().decode.last_key);
  EXPECT_EQ(schedule.data().decode.last_chunk - schedule.data().decode.first_chunk, 1);
}

TEST(Schedule, EveryQueryTileOnceLongestFirst) {
  const Schedule schedule = make_plan(causal_problem()).schedule(step_of(2, 2990, 3000));
  const Schedule::Data& data = schedule.data();
  const HeadTiles& of_heads = data.forward_tiles[0];
  const std::set<int32_t> tiles(of_heads.order.begin(), of_heads.order.end());
  const auto count = static_cast<size_t>(ceil_divide(2990, data.geometry.query_tile));
  EXPECT_EQ(of_heads.order.size(), count);
  EXPECT_EQ(tiles.size(), count);
  EXPECT_EQ(*tiles.rbegin(), static_cast<int32_t>(count) - 1);
  EXPECT_EQ(data.forward_items, static_cast<int64_t>(count) * 2 * 4);
  for (size_t i = 1; i < count; ++i) {
    EXPECT_GE(tiles_of(of_heads.by_query, of_heads.order[i - 1]),
              tiles_of(of_heads.by_query, of_heads.order[i]));
  }
}

TEST(Schedule, TheSameStepIsMadeOnce) {
  const Plan plan = make_plan(causal_problem());
  const Schedule first = plan.schedule(step_of(1, 100, 100));
  EXPECT_EQ(&plan.schedule(step_of(1, 100, 100)).data(), &first.data());
  EXPECT_NE(&plan.schedule(step_of(1, 100, 101)).data(), &first.data());
  for (int64_t length = 1; length <= 8; ++length) (void)plan.schedule(step_of(1, length, 5));
  EXPECT_NE(&plan.schedule(step_of(1, 100, 100)).data(), &first.data()) << "the cache is bounded";
}

TEST(Schedule, AnUpdateIsTheScheduleOfTheStep) {
  Problem problem = causal_problem();
  problem.mask = mask_from_text("doc[q] == doc[k] and q - k < window");
  problem.score = score_from_text("s * w");
  const Plan plan = make_plan(problem);
  const std::vector<int32_t> two(3000, 2), three = [] {
    std::vector<int32_t> documents;
    for (int32_t i = 0; i < 3000; ++i) documents.push_back(i / 1000);
    return documents;
  }();
  const auto with_data = [](Step step, const std::vector<int32_t>& doc, int64_t window) {
    step.tables = {{"doc", doc.data(), IntegerType::kInt32, {3000}}};
    step.scalars = {{"window", window}, {"w", 0.5}};
    return step;
  };
  Schedule schedule = plan.schedule(with_data(step_of(1, 3000, 3000), two, 100));
  for (const Step& step :
       {with_data(step_of(4, 2990, 3000), three, 3000), with_data(step_of(2, 9, 2500), three, 1200),
        with_data(step_of(1, 3000, 3000), two, 100), with_data(step_of(0, 0, 0), two, 1)}) {
    plan.update(schedule, step);
    const Schedule made = make_plan(problem).schedule(step);
    EXPECT_EQ(schedule.step().kv_length, step.kv_length);
    EXPECT_EQ(schedule.data().pairs, made.data().pairs);
    EXPECT_EQ(schedule.data().forward_items, made.data().forward_items);
    EXPECT_EQ(schedule.data().decodes, made.data().decodes);
    ASSERT_EQ(schedule.data().forward_masks.size(), made.data().forward_masks.size());
    for (size_t i = 0; i < made.data().forward_masks.size(); ++i) {
      const MaskClass &a = schedule.data().forward_masks[i], &b = made.data().forward_masks[i];
      ASSERT_EQ(a.by_query.rows, b.by_query.rows);
      for (int64_t run = 0; run < b.by_query.begin[b.by_query.rows]; ++run) {
        EXPECT_EQ(a.by_query.runs[run].first, b.by_query.runs[run].first);
        EXPECT_EQ(a.by_query.runs[run].last, b.by_query.runs[run].last);
        EXPECT_EQ(a.by_query.runs[run].kind, b.by_query.runs[run].kind);
      }
    }
  }
}

TEST(Schedule, AnUpdateDetachesOnceAndThenStaysWhereItIs) {
  const Plan plan = make_plan(causal_problem());
  Schedule schedule = plan.schedule(step_of(1, 100, 100));
  const Schedule::Data* const cached = &schedule.data();
  plan.update(schedule, step_of(1, 1, 101));
  const Schedule::Data* const own = &schedule.data();
  EXPECT_NE(own, cached);
  EXPECT_EQ(&plan.schedule(step_of(1, 100, 100)).data(), cached) << "the cache keeps its own";
  for (int64_t length = 102; length < 120; ++length) {
    plan.update(schedule, step_of(1, 1, length));
    EXPECT_EQ(&schedule.data(), own);
    EXPECT_EQ(schedule.step().kv_length, length);
  }
  EXPECT_EQ(&plan.schedule(step_of(1, 100, 100)).data(), cached) << "updates are not cached";
  const Schedule copy = schedule;
  plan.update(schedule, step_of(1, 1, 120));
  EXPECT_EQ(copy.step().kv_length, 119);
  EXPECT_EQ(schedule.step().kv_length, 120);
}

TEST(Schedule, AnUpdateThatFailsChangesNothing) {
  Problem problem = causal_problem();
  problem.mask = mask_from_text("doc[q] == doc[k]");
  const Plan plan = make_plan(problem);
  const std::vector<int32_t> doc(40, 1);
  Step step = step_of(1, 30, 40);
  step.tables = {{"doc", doc.data(), IntegerType::kInt32, {40}}};
  Schedule schedule = plan.schedule(step);
  for (const bool is_own : {false, true}) {  // held by the cache, then alone
    if (is_own) plan.update(schedule, step);
    const Schedule::Data* const before = &schedule.data();
    Step longer = step, without = step_of(1, 30, 40), negative = step;
    longer.kv_length = 41;
    negative.query_length = -1;
    for (const Step& bad : {longer, without, negative}) {
      EXPECT_THROW(plan.update(schedule, bad), InvalidArgument);
      EXPECT_EQ(&schedule.data(), before);
      EXPECT_EQ(schedule.step().kv_length, 40);
      EXPECT_EQ(schedule.data().pairs, 4 * 30 * 40);
    }
  }
  const std::string error = test::error_of([&] { plan.update(schedule, step_of(1, -1, 40)); });
  EXPECT_EQ(error.substr(0, 8), "update: ") << error;
}

TEST(Schedule, AnUpdateRefusesTheScheduleOfAnotherPlan) {
  const Plan plan = make_plan(causal_problem()), other = make_plan(causal_problem());
  Schedule schedule = other.schedule(step_of(1, 10, 10));
  EXPECT_EQ(test::error_of([&] { plan.update(schedule, step_of(1, 10, 10)); }),
            "update: schedule is of another plan, expected one made by this plan's schedule()");
}

TEST(Schedule, IsSharedSafely) {
  const Plan plan = make_plan(causal_problem());
  std::vector<std::thread> threads;
  for (int64_t t = 0; t < 8; ++t) {
    threads.emplace_back([&plan, t] {
      for (int64_t i = 0; i < 200; ++i) {
        const Schedule schedule = plan.schedule(step_of(1, 1 + (i * (t + 1)) % 13, 40));
        EXPECT_EQ(schedule.step().query_length, 1 + (i * (t + 1)) % 13);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(Schedule, TinyStepsRunOnTheCaller) {
  const Plan plan = make_plan(causal_problem(), {.threads = 8});
  EXPECT_EQ(plan.schedule(step_of(1, 8, 8)).data().forward_workers, 1);
  EXPECT_EQ(plan.schedule(step_of(4, 3000, 3000)).data().forward_workers, 8);
  EXPECT_EQ(plan.schedule(step_of(4, 3000, 3000)).data().backward_workers, 8);
}

TEST(Schedule, NeverNeedsMoreThanThePlan) {
  for (const int threads : {1, 2, 5}) {
    const Plan plan = make_plan(causal_problem(), {.threads = threads});
    for (const int64_t batch : {0, 1, 3, 4}) {
      for (const int64_t length : {0, 1, 63, 64, 65, 1000, 2999, 3000}) {
        const Schedule schedule = plan.schedule(step_of(batch, length, 3000 - length));
        EXPECT_LE(schedule.data().forward.bytes, static_cast<int64_t>(plan.workspace_bytes()));
        EXPECT_LE(schedule.data().backward.bytes, static_cast<int64_t>(plan.workspace_bytes()));
      }
    }
  }
}

struct Starts {
  std::vector<int64_t> queries, keys;
  [[nodiscard]] Step step() const {
    Step step = step_of(static_cast<int64_t>(queries.size()) - 1, queries.back(), keys.back());
    step.query_starts = {queries.data(), IntegerType::kInt64, step.batch + 1};
    step.key_starts = {keys.data(), IntegerType::kInt64, step.batch + 1};
    return step;
  }
};

TEST(Schedule, StartsAreCopiedAndComparedByContent) {
  const Plan plan = make_plan(causal_problem());
  Starts given{{0, 30, 100}, {0, 40, 90}};
  const Schedule schedule = plan.schedule(given.step());
  const Starts equal = given;
  EXPECT_EQ(&plan.schedule(equal.step()).data(), &schedule.data());
  const std::vector<int32_t> narrow = {0, 30, 100};
  Step other_type = equal.step();
  other_type.query_starts = {narrow.data(), IntegerType::kInt32, 3};
  EXPECT_EQ(&plan.schedule(other_type).data(), &schedule.data());
  given.queries[1] = 31;
  EXPECT_NE(&plan.schedule(given.step()).data(), &schedule.data());
  const SequenceStarts& kept = schedule.step().query_starts;
  EXPECT_NE(kept.data, given.queries.data());
  EXPECT_EQ(kept.size, 3);
  EXPECT_EQ(static_cast<const int64_t*>(kept.data)[1], 30);
  EXPECT_NE(&plan.schedule(step_of(2, 100, 90)).data(), &schedule.data());
}

TEST(Schedule, UpdateMakesAUniformScheduleRaggedAndBack) {
  const Plan plan = make_plan(causal_problem());
  Schedule schedule = plan.schedule(step_of(1, 100, 100));
  const Starts starts{{0, 30, 100}, {0, 40, 90}};
  plan.update(schedule, starts.step());
  const Schedule::Data* address = &schedule.data();
  EXPECT_EQ(schedule.data().parts.size(), 2u);
  EXPECT_EQ(static_cast<const int64_t*>(schedule.step().key_starts.data)[2], 90);
  EXPECT_EQ(schedule.data().pairs, plan.schedule(starts.step()).data().pairs);
  plan.update(schedule, step_of(1, 9, 9));
  EXPECT_EQ(&schedule.data(), address);
  EXPECT_EQ(schedule.data().parts.size(), 1u);
  EXPECT_EQ(schedule.step().key_starts.data, nullptr);
}

TEST(Schedule, MistakesInASequenceAreErrorsOfTheMask) {
  Problem problem = causal_problem();
  problem.mask = mask_from_text("doc[q] == doc[k]");
  const Plan plan = make_plan(problem);
  const std::vector<int32_t> doc(50, 1);
  const Starts starts{{0, 50, 101}, {0, 50, 100}};  // query 50 of the second sequence is outside
  Step step = starts.step();
  step.tables = {{.name = "doc", .data = doc.data(), .shape = {50}}};
  EXPECT_THROW((void)plan.schedule(step), InvalidArgument);
}

}  // namespace
}  // namespace tilewise
