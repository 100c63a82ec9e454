// SPDX-License-Identifier: Apache-2.0
// First the protocol, with a kernel that checks it; then the numbers.
#include <gtest/gtest.h>

#include <map>

#include "engine/backward_stub.h"
#include "engine/small_attention.h"
#include "tilewise/attention.h"

namespace tilewise {
namespace {

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

}  // namespace
}  // namespace tilewise
