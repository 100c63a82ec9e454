// SPDX-License-Identifier: Apache-2.0
#include "tilewise/plan.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "engine/small_attention.h"
#include "tilewise/attention.h"
#include "tilewise/error.h"

namespace {

std::atomic<int64_t> allocations{0};

}  // namespace

// Every allocation of the process goes through these (the array forms call them).
void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(bytes);
}
void* operator new(size_t bytes) {
  if (void* memory = operator new(bytes, std::nothrow)) return memory;
  throw std::bad_alloc();
}
void* operator new(size_t bytes, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  ++allocations;
  void* memory = nullptr;
  return posix_memalign(&memory, static_cast<size_t>(alignment), bytes) == 0 ? memory : nullptr;
}
void* operator new(size_t bytes, std::align_val_t alignment) {
  if (void* memory = operator new(bytes, alignment, std::nothrow)) return memory;
  throw std::bad_alloc();
}
// Not inlined: GCC would see free() of what it takes for the standard operator new.
__attribute__((noinline)) void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { operator delete(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { operator delete(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { operator delete(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { operator delete(memory); }
void operator delete(void* memory, std::align_val_t, const std::nothrow_t&) noexcept {
  operator delete(memory);
}

namespace tilewise {
namespace {

Problem small_problem() {
  Problem problem;
  problem.query_heads = 4;
  problem.kv_heads = 2;
  problem.max_batch = 2;
  problem.max_query_length = 128;
  problem.max_kv_length = 128;
  problem.head_dim = 32;
  problem.mask = causal();
  return problem;
}

TEST(Plan, FillsInDefaults) {
  const Plan plan = make_plan(small_problem());
  EXPECT_EQ(plan.problem().value_dim, 32);
  EXPECT_NEAR(*plan.problem().scale, 0.17677669529663687, 1e-15);
  EXPECT_GE(plan.threads(), 1);
}

TEST(Plan, TakesTheInstructionSetAskedFor) {
  for (const std::string& isa : available_isas()) {
    EXPECT_EQ(make_plan(small_problem(), {.isa = isa}).isa(), isa);
  }
  EXPECT_THROW((void)make_plan(small_problem(), {.isa = "mmx"}), InvalidArgument);
}

TEST(Plan, ThreadsComeFromTheOptionsOrTheExecutor) {
  class Five : public Executor {
   public:
    [[nodiscard]] int max_workers() const noexcept override { return 5; }
    void run(int workers, void (*task)(void*, int), void* context) override {
      for (int w = 0; w < workers; ++w) task(context, w);
    }
  } five;
  EXPECT_EQ(make_plan(small_problem(), {.executor = &five}).threads(), 5);
  EXPECT_EQ(make_plan(small_problem(), {.threads = 3, .executor = &five}).threads(), 3);
}

TEST(Plan, RunningAllocatesNothing) {
  Problem problem = small_problem();
  problem.has_bias = true;
  problem.mask = mask_from_text("(q + k) % 2 == 0 or k <= q");
  problem.score = score_from_text("s - slope[h] * (q - k)");
  std::vector<float> slope(static_cast<size_t>(problem.query_heads), 0.1f), grad_slope = slope;
  const auto named = [](std::vector<float>& x) {
    return std::vector<NamedTensor>{
        {"slope", Tensor::bhsd(x.data(), DType::kFloat32, 1, 1, 1, int64_t(x.size()))}};
  };
  Step step;
  step.batch = 2;
  step.query_length = 128;
  step.kv_length = 100;
  testing::SmallAttention attention(
      problem, step, [](int64_t, int64_t) { return true; }, 1, 4, 1);
  for (const int threads : {1, 3}) {
    const Plan plan = make_plan(problem, {.threads = threads});
    Workspace workspace(plan);
    const Schedule schedule = plan.schedule(step);
    ForwardTensors forward = attention.forward_tensors();
    forward.tables = named(slope);
    plan.forward(schedule, forward, workspace);  // the pool starts its threads
    int64_t before = allocations;
    plan.forward(schedule, forward, workspace);
    EXPECT_EQ(allocations, before) << threads << " threads";
    BackwardTensors backward = attention.backward_tensors();
    backward.tables = named(slope);
    backward.grad_tables = named(grad_slope);
    plan.backward(schedule, backward, workspace);
    before = allocations;
    plan.backward(schedule, backward, workspace);
    EXPECT_EQ(allocations, before) << threads << " threads, backward";
  }
}

TEST(Plan, MemoryIsLinearInTheLength) {
  const auto bytes = [](int64_t length) {
    Problem problem;
    problem.max_query_length = length;
    problem.max_kv_length = length;
    problem.head_dim = 64;
    return static_cast<double>(make_plan(problem, {.threads = 2}).workspace_bytes());
  };
  // lse, delta and one accumulator of dQ: 4 * (2 + 64) bytes per query, and the counters.
  EXPECT_NEAR((bytes(65536) - bytes(32768)) / 32768, 4 * 66, 4);
  EXPECT_LE(bytes(65536), 64e6);
}

TEST(Plan, VerboseWritesOneLine) {
  ::setenv("TILEWISE_VERBOSE", "1", 1);
  ::testing::internal::CaptureStderr();
  (void)make_plan(small_problem(), {.threads = 2});
  const std::string text = ::testing::internal::GetCapturedStderr();
  ::unsetenv("TILEWISE_VERBOSE");
  EXPECT_EQ(text.find("tilewise: plan fp32, 4 query heads over 2 kv heads, head_dim 32"), 0U)
      << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  ::testing::internal::CaptureStderr();
  (void)make_plan(small_problem());
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace tilewise
