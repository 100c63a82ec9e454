// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <map>
#include <mutex>

#include <thread>

#include "engine/small_attention.h"
#include "engine/stub_plan.h"
#include "support/sanitizers.h"
#include "tilewise/attention.h"

namespace tilewise {
namespace {

using testing::SmallAttention;

constexpr DType kDTypes[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kFloat64};

Problem small_problem(DType dtype, Mask mask) {
  Problem problem;
  problem.query_heads = 4;
  problem.kv_heads = 2;
  problem.max_batch = 3;
  problem.max_query_length = 300;
  problem.max_kv_length = 300;
  problem.head_dim = 17;
  problem.value_dim = 9;
  problem.dtype = dtype;
  problem.mask = std::move(mask);
  return problem;
}

void expect_forward(SmallAttention& attention, const PlanOptions& options) {
  const Plan plan = make_plan(attention.problem, options);
  Workspace workspace(plan);
  plan.forward(plan.schedule(attention.step), attention.forward_tensors(), workspace);
  const auto expected = attention.expected();
  const double limit = testing::tolerance(attention.problem.dtype);
  EXPECT_LE(testing::relative_error(attention.output, expected.output), limit);
  EXPECT_LE(testing::relative_error(attention.logsumexp, expected.logsumexp), limit);
}

TEST(RunForward, MatchesPlainLoopsForEveryDtypeAndInstructionSet) {
  for (const std::string& isa : test::isas_to_run_on_threads()) {
    for (const DType dtype : kDTypes) {
      if (dtype == DType::kFloat64 && isa != "scalar") continue;  // the same kernel everywhere
      SCOPED_TRACE(isa + " " + dtype_name(dtype));
      Step step;
      step.batch = 1;
      step.query_length = 131;
      step.kv_length = 203;
      SmallAttention full(small_problem(dtype, {}), step, [](int64_t, int64_t) { return true; });
      expect_forward(full, {.isa = isa});
      SmallAttention masked(small_problem(dtype, causal()), step,
                            [](int64_t q, int64_t k) { return k <= q + 203 - 131; });
      expect_forward(masked, {.isa = isa, .threads = 3});
    }
  }
}

TEST(RunForward, OffsetsMoveTheTopLeftDiagonal) {
  Step step;
  step.query_length = 20;
  step.kv_length = 30;
  step.query_offset = 100;
  step.key_offset = 95;
  SmallAttention attention(small_problem(DType::kFloat32, causal_top_left()), step,
                           [](int64_t q, int64_t k) { return 95 + k <= 100 + q; });
  expect_forward(attention, {});
}

TEST(RunForward, BroadcastBias) {
  Problem problem = small_problem(DType::kFloat32, window(5, 3));
  problem.has_bias = true;
  Step step;
  step.batch = 3;
  step.query_length = 40;
  step.kv_length = 40;
  SmallAttention attention(
      problem, step, [](int64_t q, int64_t k) { return k - q >= -5 && k - q <= 3; }, 1, 4, 40);
  expect_forward(attention, {});
}

TEST(RunForward, RowsWithoutKeysAreZeroAndMinusInfinity) {
  Step step;
  step.query_length = 30;
  step.kv_length = 10;  // bottom right: the first 20 queries see nothing
  SmallAttention attention(small_problem(DType::kFloat32, causal()), step,
                           [](int64_t q, int64_t k) { return k <= q - 20; });
  expect_forward(attention, {});
  EXPECT_EQ(attention.output.at(0, 3, 19, 8), 0.0);
  EXPECT_EQ(attention.logsumexp.at(0, 3, 19, 0), -std::numeric_limits<double>::infinity());
}

TEST(RunForward, ZeroLengthsAreValid) {
  for (const auto& [batch, queries, keys] :
       {std::array<int64_t, 3>{0, 5, 5}, {2, 0, 5}, {2, 5, 0}, {0, 0, 0}}) {
    Step step;
    step.batch = batch;
    step.query_length = queries;
    step.kv_length = keys;
    SmallAttention attention(small_problem(DType::kFloat32, {}), step,
                             [](int64_t, int64_t) { return true; });
    expect_forward(attention, {});
  }
}

TEST(RunForward, BitsDoNotDependOnThreads) {
  Step step;
  step.batch = 3;
  step.query_length = 257;
  step.kv_length = 300;
  SmallAttention attention(small_problem(DType::kFloat32, causal()), step,
                           [](int64_t, int64_t) { return true; });
  std::vector<std::byte> first;
  for (const int threads : {1, 2, 3, 8}) {
    const Plan plan = make_plan(attention.problem, {.threads = threads});
    Workspace workspace(plan);
    std::fill(attention.output.bytes.begin(), attention.output.bytes.end(), std::byte{0});
    plan.forward(plan.schedule(step), attention.forward_tensors(), workspace);
    if (threads == 1) first = attention.output.bytes;
    EXPECT_EQ(attention.output.bytes, first) << threads << " threads";
  }
}

TEST(RunForward, EightThreadsShareOnePlan) {
  Step step;
  step.batch = 1;
  step.query_length = 64;
  step.kv_length = 64;
  SmallAttention model(small_problem(DType::kFloat32, causal()), step,
                       [](int64_t q, int64_t k) { return k <= q; });
  const auto expected = model.expected();
  const Plan plan = make_plan(model.problem, {.threads = 2});
  std::vector<double> errors(8, -1.0);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < errors.size(); ++t) {
    threads.emplace_back([&, t] {
      SmallAttention own(model.problem, step, model.sees);
      Workspace workspace(plan);
      for (int repeat = 0; repeat < 10; ++repeat) {
        plan.forward(plan.schedule(step), own.forward_tensors(), workspace);
      }
      errors[t] = testing::relative_error(own.output, expected.output);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const double error : errors) {
    EXPECT_GE(error, 0.0);
    EXPECT_LE(error, testing::tolerance(DType::kFloat32));
  }
}

// What kernels are told of each sequence, by its global b.
struct ForwardRecord {
  std::mutex mutex;
  std::map<int64_t, ForwardLaunch> launches;
};
ForwardRecord* forward_record = nullptr;  // kernels are plain functions

template <class Item>
void record_launch(const ForwardLaunch& launch, const Item&, void*) {
  const std::lock_guard lock(forward_record->mutex);
  forward_record->launches[launch.origin.batch] = launch;
}

// Run state of sequences lies side by side: sums and turns of decode, ranges of tiles that matter.
TEST(RunForward, SequencesHaveRunStateOfTheirOwn) {
  const std::vector<int64_t> lengths = {3, 500, 9, 0, 400, 16},
                             starts = {0, 3, 503, 512, 512, 912, 928};
  Problem problem;
  problem.query_heads = 2;
  problem.max_batch = 6;
  problem.max_query_length = problem.max_kv_length = 500;
  problem.head_dim = 8;
  problem.mask = causal();
  problem.score = score_from_text("s - 100.0 * (q - k)");
  Kernel kernel = testing::stub_kernel();
  kernel.forward = record_launch<ForwardItem>;
  kernel.decode = record_launch<DecodeItem>;
  const auto plan = testing::stub_plan(problem, kernel, default_executor(), 2);
  Step step{.batch = 6, .query_length = 928, .kv_length = 928};
  step.query_starts = step.key_starts = {starts.data(), IntegerType::kInt64, 7};
  const auto schedule = make_schedule(*plan, step, "schedule");
  std::vector<float> data(928 * 2 * 8, 0.5F);
  std::vector<float> output(data.size());
  const auto tensor = [](std::vector<float>& x) {
    return Tensor::bshd(x.data(), DType::kFloat32, 1, 928, 2, 8);
  };
  std::vector<std::byte> memory(plan->workspace_bytes + 64);
  auto* aligned = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
  ForwardRecord record;
  forward_record = &record;
  run_forward(*plan, *schedule, {tensor(data), tensor(data), tensor(data), {}, tensor(output), {}},
              aligned);
  ASSERT_EQ(record.launches.size(), 5u);                   // all but the empty one
  std::map<const void*, const void*> sums, turns, ranges;  // first to last
  for (const auto& [b, launch] : record.launches) {
    const int64_t length = lengths[static_cast<size_t>(b)];
    EXPECT_EQ(launch.query.data, data.data() + starts[static_cast<size_t>(b)] * 16);
    EXPECT_EQ(launch.shape.query_length, length);
    if (length <= kDecodeQueries) {
      sums[launch.decode.sums] = static_cast<float*>(launch.decode.sums) + 2 * length * (8 + 3);
      turns[launch.decode.turn] = launch.decode.turn + 2 * launch.decode.row_tiles;
    } else {
      ASSERT_NE(launch.significant, nullptr);
      ranges[launch.significant] =
          launch.significant + 2 * ceil_divide(length, launch.geometry.query_tile);
    }
  }
  EXPECT_EQ(sums.size(), 3u);
  EXPECT_EQ(turns.size(), 3u);
  EXPECT_EQ(ranges.size(), 2u);
  for (const auto* parts : {&sums, &turns, &ranges}) {
    const void* end = nullptr;
    for (const auto& [first, last] : *parts) {
      EXPECT_LE(end, first);
      end = last;
    }
  }
}

}  // namespace
}  // namespace tilewise
