// SPDX-License-Identifier: Apache-2.0
// First the protocol, with a kernel that checks it; then the numbers.
#include <gtest/gtest.h>

#include <map>

#include "engine/backward_stub.h"
#include "engine/small_attention.h"
#include "support/sanitizers.h"
#include "tilewise/attention.h"

namespace tilewise {
namespace {

using testing::Array;
using testing::BackwardRecord;
using testing::SmallAttention;

// Runs its workers on threads of their own, however small the machine is.
class ThreadExecutor : public Executor {
 public:
  [[nodiscard]] int max_workers() const noexcept override { return 8; }
  void run(int workers, void (*task)(void*, int), void* context) override {
    std::vector<std::thread> threads;
    for (int w = 0; w < workers; ++w) threads.emplace_back(task, context, w);
    for (std::thread& thread : threads) thread.join();
  }
};

// All workers on the caller, one after the other: allowed by Executor, so it must not deadlock.
class SerialExecutor : public Executor {
 public:
  [[nodiscard]] int max_workers() const noexcept override { return 8; }
  void run(int workers, void (*task)(void*, int), void* context) override {
    for (int w = 0; w < workers; ++w) task(context, w);
  }
};

struct ProtocolCase {
  int64_t batch, query_heads, kv_heads, length;
  int threads;
  bool has_bias;
  std::set<int64_t> careful;
};

void expect_protocol(const ProtocolCase& c, Executor& executor) {
  SCOPED_TRACE(::testing::Message() << c.batch << " " << c.kv_heads << " " << c.length << " "
                                    << c.threads << (c.has_bias ? " bias" : ""));
  Problem problem;
  problem.query_heads = c.query_heads;
  problem.kv_heads = c.kv_heads;
  problem.max_batch = c.batch;
  problem.max_query_length = c.length;
  problem.max_kv_length = c.length;
  problem.head_dim = 64;
  problem.mask = causal();
  problem.has_bias = c.has_bias;
  const Kernel kernel = testing::backward_stub_kernel();
  const auto plan = testing::stub_plan(problem, kernel, executor, c.threads);
  Step step;
  step.batch = c.batch;
  step.query_length = c.length;
  step.kv_length = c.length;
  const auto schedule = make_schedule(*plan, step, "schedule");
  BackwardRecord record;
  record.rows_prepared.resize(static_cast<size_t>(c.batch * c.query_heads));
  record.careful_heads = c.careful;
  testing::record = &record;
  std::vector<float> bias(static_cast<size_t>(c.length), 7.0F);
  BackwardTensors tensors;
  if (c.has_bias) {
    tensors.grad_bias = Tensor::bhsd(bias.data(), DType::kFloat32, 1, 1, 1, c.length);
  }
  std::vector<std::byte> memory(plan->workspace_bytes + 64, std::byte{0x33});
  auto* aligned = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
  run_backward(*plan, *schedule, tensors, aligned);

  EXPECT_EQ(record.breaches, std::vector<std::string>{});
  for (const int64_t rows : record.rows_prepared) EXPECT_EQ(rows, c.length);
  // (head, key tile, careful) -> how often
  std::map<std::tuple<int64_t, int64_t, bool>, int> seen;
  for (const BackwardItem& item : record.items) {
    ++seen[{item.batch * c.kv_heads + item.kv_head, item.key_tile, item.careful}];
  }
  const int64_t key_tiles = (c.length + 15) / 16;
  for (int64_t head = 0; head < c.batch * c.kv_heads; ++head) {
    const bool is_careful = c.careful.count(head) != 0;
    const bool all_again = c.has_bias && !c.careful.empty();
    for (int64_t tile = 0; tile < key_tiles; ++tile) {
      EXPECT_EQ((seen[{head, tile, false}]), 1 + (all_again && !is_careful)) << head << " " << tile;
      EXPECT_EQ((seen[{head, tile, true}]), is_careful) << head << " " << tile;
    }
  }
  if (!c.has_bias) return;
  EXPECT_TRUE(record.grad_bias_was_zero);
  EXPECT_EQ(bias[0], static_cast<float>(c.batch * c.kv_heads));
  for (size_t i = 1; i < bias.size(); ++i) EXPECT_EQ(bias[i], 0.0F);
}

TEST(RunBackward, EveryTileOnceInTurn) {
  ThreadExecutor threads;
  SerialExecutor serial;
  const ProtocolCase cases[] = {
      {1, 1, 1, 200, 1, false, {}},     {1, 1, 1, 200, 3, false, {}},
      {2, 4, 2, 150, 3, false, {}},     {3, 3, 3, 100, 2, false, {}},
      {1, 8, 2, 90, 8, false, {}},      {3, 4, 2, 120, 4, true, {}},
      {1, 5, 5, 120, 3, false, {1, 4}}, {1, 5, 5, 120, 3, true, {0, 4}},
      {2, 2, 1, 600, 2, true, {1}},     {5, 1, 1, 77, 2, false, {0, 1, 2, 3, 4}},
  };
  for (const ProtocolCase& c : cases) {
    expect_protocol(c, threads);
    expect_protocol(c, serial);
  }
}

// Sequences of a ragged batch, all of as many queries as keys.
struct RaggedProtocol {
  std::vector<int64_t> lengths;
  int64_t query_heads, kv_heads;
  int threads;
  bool has_bias, has_tables;
  std::set<int64_t> careful;
};

// Sums of dQ and turns: shared heads have their own, whole heads those of a worker or their own.
void expect_own_slots(const Schedule::Data& schedule, const std::vector<BackwardItem>& items,
                      const std::byte* workspace) {
  const int64_t group = schedule.shape.query_heads / schedule.shape.kv_heads;
  const auto row_of = [&](const BackwardItem& item) {
    const auto* sums = static_cast<const std::byte*>(item.grad_query_sums);
    return (sums - workspace - schedule.backward.accumulator.offset) /
           (4 * group * schedule.shape.head_dim);
  };
  const auto tile_of = [&](const BackwardItem& item) {
    const auto* turn = reinterpret_cast<const std::byte*>(item.turn);
    return (turn - workspace - schedule.backward.turn.offset) / (4 * group);
  };
  std::map<int64_t, std::pair<int64_t, int64_t>> rows,
      tiles;  // of shared heads: first to (last, head)
  for (const BackwardItem& item : items) {
    for (const SchedulePart& part : schedule.parts) {
      if (part.index != item.batch) continue;
      const int64_t length = part.sequence->shape.query_length,
                    head = part.first_head + item.kv_head;
      const int64_t row = row_of(item), tile = tile_of(item), last_row = row + length,
                    last_tile = tile + ceil_divide(length, 16);
      if (item.kv_head < part.shares.whole_heads) {
        EXPECT_LE(last_row, schedule.worker_slots * schedule.longest_queries);
        EXPECT_LE(last_tile, schedule.worker_slots * schedule.most_query_tiles);
        continue;
      }
      EXPECT_GE(row, schedule.worker_slots * schedule.longest_queries);
      EXPECT_GE(tile, schedule.worker_slots * schedule.most_query_tiles);
      const std::pair of_rows(last_row, head), of_tiles(last_tile, head);
      EXPECT_EQ(rows.emplace(row, of_rows).first->second, of_rows);
      EXPECT_EQ(tiles.emplace(tile, of_tiles).first->second, of_tiles);
    }
  }
  for (const auto* slots : {&rows, &tiles}) {
    int64_t end = 0;
    for (const auto& [first, last] : *slots) {
      EXPECT_GE(first, end);
      end = last.first;
    }
  }
}

void expect_protocol(const RaggedProtocol& c, Executor& executor) {
  SCOPED_TRACE(::testing::Message()
               << c.lengths.size() << " sequences, " << c.threads << " threads"
               << (c.has_bias ? " bias" : "") << (c.has_tables ? " table" : ""));
  std::vector<int64_t> starts = {0};
  for (const int64_t length : c.lengths) starts.push_back(starts.back() + length);
  const auto batch = static_cast<int64_t>(c.lengths.size());
  const int64_t longest = *std::max_element(c.lengths.begin(), c.lengths.end());
  Problem problem;
  problem.query_heads = c.query_heads;
  problem.kv_heads = c.kv_heads;
  problem.max_batch = batch;
  problem.max_query_length = problem.max_kv_length = longest;
  problem.max_total_queries = starts.back();
  problem.head_dim = 64;
  problem.mask = causal();
  problem.has_bias = c.has_bias;
  if (c.has_tables) problem.score = score_from_text("s + c[h]");
  const Kernel kernel = testing::backward_stub_kernel();
  const auto plan = testing::stub_plan(problem, kernel, executor, c.threads);
  Step step;
  step.batch = batch;
  step.query_length = step.kv_length = starts.back();
  step.query_starts = step.key_starts = {starts.data(), IntegerType::kInt64, batch + 1};
  const auto schedule = make_schedule(*plan, step, "schedule");
  BackwardRecord record;
  record.rows_prepared.resize(static_cast<size_t>(batch * c.query_heads));
  record.careful_heads = c.careful;
  testing::record = &record;
  std::vector<float> bias(static_cast<size_t>(longest), 7.0F);
  std::vector<float> table(static_cast<size_t>(c.query_heads)), grad_table = table;
  BackwardTensors tensors;
  if (c.has_bias) tensors.grad_bias = Tensor::bhsd(bias.data(), DType::kFloat32, 1, 1, 1, longest);
  if (c.has_tables) {
    const auto of = [&](std::vector<float>& values) {
      return Tensor::bhsd(values.data(), DType::kFloat32, 1, 1, 1, c.query_heads);
    };
    tensors.tables = {{"c", of(table)}};
    tensors.grad_tables = {{"c", of(grad_table)}};
  }
  std::vector<std::byte> memory(plan->workspace_bytes + 64, std::byte{0x33});
  auto* aligned = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
  run_backward(*plan, *schedule, tensors, aligned);

  EXPECT_EQ(record.breaches, std::vector<std::string>{});
  std::map<std::tuple<int64_t, int64_t, bool>, int> seen;
  for (const BackwardItem& item : record.items)
    ++seen[{item.batch * c.kv_heads + item.kv_head, item.key_tile, item.careful}];
  expect_own_slots(*schedule, record.items, aligned);
  const bool all_again = (c.has_bias || c.has_tables) && !c.careful.empty();
  int64_t heads = 0, items = 0;
  for (int64_t i = 0; i < batch; ++i) {
    const int64_t length = c.lengths[static_cast<size_t>(i)];
    for (int64_t h = 0; h < c.query_heads; ++h)
      EXPECT_EQ(record.rows_prepared[static_cast<size_t>(i * c.query_heads + h)], length);
    for (int64_t h = 0; h < c.kv_heads; ++h) {
      const int64_t head = i * c.kv_heads + h, tiles = ceil_divide(length, 16);
      const bool is_careful = c.careful.count(head) != 0;
      for (int64_t tile = 0; tile < tiles; ++tile) {
        EXPECT_EQ((seen[{head, tile, false}]), 1 + (all_again && !is_careful)) << head;
        EXPECT_EQ((seen[{head, tile, true}]), is_careful) << head << " " << tile;
      }
      heads += tiles > 0;
      items += tiles;
    }
  }
  if (c.has_bias) {
    EXPECT_TRUE(record.grad_bias_was_zero);
    EXPECT_EQ(bias[0], static_cast<float>(heads));
  }
  EXPECT_EQ(grad_table[0], c.has_tables ? static_cast<float>(items) : 0.0F);
}

TEST(RunBackward, EveryTileOfEverySequenceOnceInTurn) {
  ThreadExecutor threads;
  SerialExecutor serial;
  std::vector<int64_t> many;  // more heads than copies of the sums of tables
  for (int64_t i = 0; i < 150; ++i) many.push_back(16 * (i % 5));
  const RaggedProtocol cases[] = {
      {{100, 30, 170}, 1, 1, 3, false, false, {}},
      {{10, 400, 0, 33, 16, 33}, 4, 2, 4, false, false, {3}},
      {{10, 400, 0, 33, 16, 33}, 4, 2, 8, true, false, {3, 4}},
      {{200, 90, 90, 90, 5}, 2, 1, 3, true, true, {}},
      {{90, 17, 90, 0, 200}, 3, 3, 8, false, true, {0}},
      {std::vector<int64_t>(40, 20), 2, 2, 8, true, true, {11}},
      {{300}, 1, 1, 8, true, true, {}},
      {many, 1, 1, 4, true, true, {}},
      {{300, 20}, 6, 3, 8, false, false, {}},
  };
  for (const RaggedProtocol& c : cases) {
    expect_protocol(c, threads);
    expect_protocol(c, serial);
  }
}

Problem small_problem(DType dtype, Mask mask) {
  Problem problem;
  problem.query_heads = 4;
  problem.kv_heads = 2;
  problem.max_batch = 3;
  problem.max_query_length = 400;
  problem.max_kv_length = 400;
  problem.head_dim = 17;
  problem.value_dim = 9;
  problem.dtype = dtype;
  problem.mask = std::move(mask);
  return problem;
}

Step step_of(int64_t batch, int64_t query_length, int64_t kv_length) {
  Step step;
  step.batch = batch;
  step.query_length = query_length;
  step.kv_length = kv_length;
  return step;
}

void run(SmallAttention& attention, const PlanOptions& options) {
  const Plan plan = make_plan(attention.problem, options);
  const Schedule schedule = plan.schedule(attention.step);
  Workspace workspace(plan);
  std::fill_n(static_cast<std::byte*>(workspace.data()), workspace.bytes(), std::byte{0xff});
  plan.forward(schedule, attention.forward_tensors(), workspace);
  plan.backward(schedule, attention.backward_tensors(), workspace);
}

void expect_backward(SmallAttention& attention, const PlanOptions& options) {
  run(attention, options);
  const auto expected = attention.expected();
  const double limit = testing::tolerance(attention.problem.dtype);
  EXPECT_LE(testing::relative_error(attention.grad_query, expected.grad_query), limit);
  EXPECT_LE(testing::relative_error(attention.grad_key, expected.grad_key), limit);
  EXPECT_LE(testing::relative_error(attention.grad_value, expected.grad_value), limit);
  if (!attention.problem.has_bias) return;
  EXPECT_LE(testing::relative_error(attention.grad_bias, expected.grad_bias), limit);
}

TEST(RunBackward, MatchesPlainLoopsForEveryDtypeAndInstructionSet) {
  for (const std::string& isa : test::isas_to_run_on_threads()) {
    for (const DType dtype :
         {DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kFloat64}) {
      if (dtype == DType::kFloat64 && isa != "scalar") continue;  // the same kernel everywhere
      SCOPED_TRACE(isa + " " + dtype_name(dtype));
      SmallAttention full(small_problem(dtype, {}), step_of(1, 131, 203),
                          [](int64_t, int64_t) { return true; });
      expect_backward(full, {.isa = isa});
      SmallAttention masked(small_problem(dtype, causal()), step_of(1, 203, 131),
                            [](int64_t q, int64_t k) { return k <= q + 131 - 203; });
      expect_backward(masked, {.isa = isa, .threads = 3});
    }
  }
}

TEST(RunBackward, GradientOfABiasSumsOverWhatItBroadcasts) {
  struct Extents {
    int64_t batch, heads, queries;
  };
  for (const Extents e :
       {Extents{1, 1, 1}, {3, 1, 1}, {1, 4, 1}, {1, 1, 90}, {3, 4, 90}, {1, 4, 90}}) {
    for (const int threads : {1, 3}) {
      SCOPED_TRACE(::testing::Message() << e.batch << " " << e.heads << " " << e.queries);
      Problem problem = small_problem(DType::kFloat32, window(40, 25));
      problem.has_bias = true;
      SmallAttention attention(
          problem, step_of(3, 90, 90),
          [](int64_t q, int64_t k) { return k - q >= -40 && k - q <= 25; }, e.batch, e.heads,
          e.queries);
      expect_backward(attention, {.threads = threads});
    }
  }
}

TEST(RunBackward, ZeroLengthsAreValid) {
  for (const auto& [batch, queries, keys] :
       {std::array<int64_t, 3>{0, 5, 5}, {2, 0, 5}, {2, 5, 0}, {0, 0, 0}}) {
    SmallAttention attention(small_problem(DType::kFloat32, {}), step_of(batch, queries, keys),
                             [](int64_t, int64_t) { return true; });
    expect_backward(attention, {});
  }
}

TEST(RunBackward, BitsDoNotDependOnThreads) {
  for (const int64_t batch : {1, 3}) {
    Problem problem = small_problem(DType::kFloat32, causal());
    problem.has_bias = true;
    SmallAttention attention(
        problem, step_of(batch, 257, 400), [](int64_t, int64_t) { return true; }, 1, 1, 257);
    std::vector<std::vector<std::byte>> first;
    for (const int threads : {1, 2, 3, 8}) {
      run(attention, {.threads = threads});
      const std::vector<std::vector<std::byte>> bits = {
          attention.grad_query.bytes, attention.grad_key.bytes, attention.grad_value.bytes,
          attention.grad_bias.bytes};
      if (threads == 1) first = bits;
      EXPECT_TRUE(bits == first) << threads << " threads, batch " << batch;
    }
  }
}

TEST(RunBackward, NaNReachesExactlyTheRowsAndKeysThatMeetIt) {
  // Key 299 is seen by query 299 alone, which sees keys 296 to 299.
  for (const int threads : {1, 3}) {
    SmallAttention attention(small_problem(DType::kFloat32, window(3, 0)), step_of(2, 300, 300),
                             [](int64_t q, int64_t k) { return k <= q && q - k <= 3; });
    auto expected = attention.expected();
    Array& key = attention.key;
    store_element(key.bytes.data(), key.tensor.dtype, key.index(1, 0, 299, 5), NAN);
    run(attention, {.threads = threads});
    for (int64_t n = 0; n < 300; ++n) {
      EXPECT_EQ(std::isnan(attention.grad_query.at(1, 1, n, 0)), n == 299) << n;
      EXPECT_EQ(std::isnan(attention.grad_key.at(1, 0, n, 0)), n >= 296) << n;
      EXPECT_EQ(std::isnan(attention.grad_value.at(1, 0, n, 0)), n >= 296) << n;
    }
    // The other key head, the other batch entry, and everything above query 299 are untouched.
    const double limit = testing::tolerance(DType::kFloat32);
    for (int64_t n = 0; n < 299; ++n) {
      for (int64_t h = 0; h < 4; ++h) {
        const auto row = static_cast<size_t>((1 * 4 + h) * 300 + n) * 17;
        EXPECT_NEAR(attention.grad_query.at(1, h, n, 3), expected.grad_query[row + 3], limit);
      }
    }
  }
}

TEST(RunBackward, EightThreadsShareOnePlan) {
  const Problem problem = small_problem(DType::kFloat32, causal());
  const auto sees = [](int64_t q, int64_t k) { return k <= q; };
  const Plan plan = make_plan(problem, {.threads = 2});
  std::vector<std::thread> threads;
  std::vector<double> errors(8, -1.0);
  for (size_t t = 0; t < errors.size(); ++t) {
    threads.emplace_back([&, t] {
      SmallAttention own(problem, step_of(1, 64, 64), sees);
      Workspace workspace(plan);
      for (int repeat = 0; repeat < 5; ++repeat) {
        const Schedule schedule = plan.schedule(own.step);
        plan.forward(schedule, own.forward_tensors(), workspace);
        plan.backward(schedule, own.backward_tensors(), workspace);
      }
      errors[t] = testing::relative_error(own.grad_query, own.expected().grad_query);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const double error : errors) {
    EXPECT_GE(error, 0.0);
    EXPECT_LE(error, testing::tolerance(DType::kFloat32));
  }
}

}  // namespace
}  // namespace tilewise
