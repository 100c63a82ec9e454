// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstring>
#include <utility>
#include <vector>

#include "engine/small_attention.h"
#include "support/sanitizers.h"
#include "tilewise/error.h"

namespace tilewise {
namespace {

Problem small_problem() {
  Problem problem;
  problem.query_heads = 2;
  problem.max_query_length = 50;
  problem.max_kv_length = 60;
  problem.head_dim = 16;
  return problem;
}

TEST(Workspace, IsAlignedAndLargeEnough) {
  const Plan plan = make_plan(small_problem());
  const Workspace workspace(plan);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(workspace.data()) % 64, 0U);
  EXPECT_EQ(workspace.bytes(), plan.workspace_bytes());
  std::memset(workspace.data(), 0xff, workspace.bytes());
}

TEST(Workspace, Moves) {
  const Plan plan = make_plan(small_problem());
  Workspace a(plan);
  void* const memory = a.data();
  Workspace b = std::move(a);
  EXPECT_EQ(b.data(), memory);
  EXPECT_EQ(a.data(), nullptr);
  EXPECT_EQ(a.bytes(), 0U);
  Workspace c(nullptr, 0);
  c = std::move(b);
  EXPECT_EQ(c.data(), memory);
}

TEST(Workspace, DoesNotFreeMemoryOfTheCaller) {
  alignas(64) std::byte memory[128];
  { const Workspace workspace(memory, sizeof memory); }
  { Workspace moved = Workspace(memory, sizeof memory); }
}

TEST(Workspace, ThatCannotBeAllocatedIsADeviceError) {
  if (test::kSanitizer)
    GTEST_SKIP() << "the sanitizer's allocator ends the process instead of returning null";
  Problem problem = small_problem();
  problem.max_batch = 1 << 20;
  problem.max_query_length = 1 << 30;
  const Plan plan = make_plan(problem);
  EXPECT_THROW(Workspace workspace(plan), DeviceError);
}

TEST(Workspace, NothingIsWrittenBehindIt) {
  Step step;
  step.query_length = 50;
  step.kv_length = 60;
  testing::SmallAttention attention(small_problem(), step, [](int64_t, int64_t) { return true; });
  for (const int threads : {1, 3}) {
    const Plan plan = make_plan(attention.problem, {.threads = threads});
    const size_t bytes = plan.workspace_bytes();
    std::vector<std::byte> memory(64 + bytes + 4096, std::byte{0xc5});
    std::byte* data = memory.data() + 64 - reinterpret_cast<uintptr_t>(memory.data()) % 64;
    Workspace workspace(data, bytes);
    plan.forward(plan.schedule(step), attention.forward_tensors(), workspace);
    plan.backward(plan.schedule(step), attention.backward_tensors(), workspace);
    for (std::byte* at = memory.data(); at < memory.data() + memory.size(); ++at) {
      if (at == data) at += bytes;
      ASSERT_EQ(*at, std::byte{0xc5}) << at - data;
    }
  }
}

}  // namespace
}  // namespace tilewise
