// SPDX-License-Identifier: Apache-2.0
#include "tilewise/attention.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "engine/small_attention.h"
#include "tilewise/error.h"

namespace tilewise {
namespace {

using testing::SmallAttention;

SmallAttention make(int64_t query_length, int64_t kv_length, bool has_bias = false) {
  Problem problem;
  problem.query_heads = 4;
  problem.kv_heads = 2;
  problem.max_batch = 2;
  problem.max_query_length = query_length;
  problem.max_kv_length = kv_length;
  problem.head_dim = 16;
  problem.value_dim = 24;
  problem.has_bias = has_bias;
  Step step;
  step.batch = 2;
  step.query_length = query_length;
  step.kv_length = kv_length;
  return {problem, step, [=](int64_t q, int64_t k) { return k <= q + kv_length - query_length; },
          2,       1,    query_length};
}

void expect_output(const SmallAttention& attention) {
  EXPECT_LE(testing::relative_error(attention.output, attention.expected().output),
            testing::tolerance(attention.problem.dtype));
}

TEST(Attention, MatchesPlainLoops) {
  SmallAttention attention_case = make(37, 51);
  attention(attention_case.forward_tensors(), {.mask = causal()});
  expect_output(attention_case);
}

TEST(Attention, TakesABiasWhenOneIsGiven) {
  SmallAttention attention_case = make(37, 51, true);
  attention(attention_case.forward_tensors(), {.mask = causal()});
  expect_output(attention_case);
}

TEST(Attention, OptionsReachThePlan) {
  SmallAttention attention_case = make(20, 20);
  attention_case.problem.scale = 0.5;
  attention_case.sees = [](int64_t q, int64_t k) { return 3 + k <= 9 + q; };
  attention(attention_case.forward_tensors(), {.mask = causal_top_left(),
                                               .scale = 0.5,
                                               .query_offset = 9,
                                               .key_offset = 3,
                                               .plan = {.isa = "scalar", .threads = 2}});
  expect_output(attention_case);
}

// The same as a plan's, whichever probability the call before had.
TEST(Attention, DropoutReachesThePlan) {
  SmallAttention x = make(20, 23);
  std::vector<std::byte> last;
  for (const double dropout : {0.0, 0.1, 0.5}) {
    ForwardTensors tensors = x.forward_tensors();
    if (dropout > 0) tensors.dropout_seed = 5;
    attention(tensors, {.dropout = dropout});
    const std::vector<std::byte> once = x.output.bytes;
    EXPECT_NE(once, last) << dropout;
    last = once;
    Problem problem = x.problem;
    problem.dropout = dropout;
    const Plan plan = make_plan(problem);
    Workspace workspace(plan);
    plan.forward(plan.schedule(x.step), tensors, workspace);
    EXPECT_EQ(x.output.bytes, once) << dropout;
  }
}

TEST(Attention, ManyDifferentCallsStayCorrect) {
  for (int64_t length = 1; length < 5000; length = length * 3 + 1) {
    SmallAttention attention_case = make(1 + length % 29, 1 + length % 400);
    attention(attention_case.forward_tensors(),
              {.mask = causal(), .plan = {.threads = 1 + static_cast<int>(length % 20)}});
    expect_output(attention_case);
  }
}

TEST(Attention, IsSafeFromManyThreads) {
  std::vector<std::thread> threads;
  for (int64_t t = 0; t < 8; ++t) {
    threads.emplace_back([t] {
      for (int64_t i = 0; i < 5; ++i) {
        SmallAttention attention_case = make(10 + (t + i) % 3, 20);
        attention(attention_case.forward_tensors(), {.mask = causal()});
        expect_output(attention_case);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

void expect_message(SmallAttention& attention_case, const ForwardTensors& tensors,
                    const std::string& message) {
  try {
    attention(tensors);
    ADD_FAILURE() << "accepted";
  } catch (const InvalidArgument& error) {
    EXPECT_EQ(error.what(), message);
  }
  EXPECT_EQ(attention_case.output.bytes[0], std::byte{0x7b});
}

TEST(Attention, ErrorsCarryItsOwnName) {
  SmallAttention attention_case = make(5, 6);
  ForwardTensors tensors = attention_case.forward_tensors();
  tensors.value.shape[1] = 1;
  expect_message(attention_case, tensors, "attention: value.shape[1] is 1, expected 2 (kv_heads)");
  tensors = attention_case.forward_tensors();
  tensors.query.shape[3] = 0;
  expect_message(attention_case, tensors, "attention: head_dim is 0, expected 1 to 512");
  tensors = attention_case.forward_tensors();
  tensors.query.shape[2] = int64_t{1} << 40;
  expect_message(attention_case, tensors,
                 "attention: max_query_length is 1099511627776, expected 0 to 2147483647");
  EXPECT_THROW(attention(attention_case.forward_tensors(), {.plan = {.isa = "sse"}}),
               InvalidArgument);
}

TEST(Attention, AvailableIsasEndWithScalar) {
  const std::vector<std::string> isas = available_isas();
  ASSERT_FALSE(isas.empty());
  EXPECT_EQ(isas.back(), "scalar");
}

}  // namespace
}  // namespace tilewise
