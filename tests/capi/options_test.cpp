// SPDX-License-Identifier: Apache-2.0
// What a problem may have, through the C ABI: ragged batches, sinks, dropout, parts to merge.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "capi/setup.h"
#include "tilewise/tilewise.h"
#include "tilewise/tilewise_c.h"

namespace tilewise::capi {
namespace {

// The first 170 rows as sequences of 60, 0, 100 and a tail, by plan and in one call.
TEST(CInterface, RaggedBatch) {
  const int32_t starts[] = {0, 60, 60, 160};
  CSetup s, one;
  s.problem.max_batch = s.step.batch = 3;
  s.problem.max_total_queries = 160;
  s.step.query_starts = s.step.key_starts = starts;
  s.step.starts_type = TILEWISE_INT32;
  s.make();
  ASSERT_EQ(tilewise_forward(s.plan, s.schedule, &s.forward, s.workspace), TILEWISE_OK)
      << tilewise_last_error();
  ASSERT_EQ(tilewise_backward(s.plan, s.schedule, &s.backward, s.workspace), TILEWISE_OK)
      << tilewise_last_error();
  for (int64_t h = 0; h < CSetup::kHeads; ++h) {
    for (int64_t i = 0; i < CSetup::kLength; ++i) {
      const float lse = s.lse[static_cast<size_t>(h * CSetup::kLength + i)];
      EXPECT_EQ(std::isinf(lse), i >= 160) << i;
    }
  }
  // The first row of the second sequence sees one key: its own.
  for (int64_t c = 0; c < CSetup::kDim; ++c)
    EXPECT_FLOAT_EQ(s.o[static_cast<size_t>(60 * CSetup::kDim + c)],
                    s.v[static_cast<size_t>(60 * CSetup::kDim + c)]);

  tilewise_attention_options options = sized<tilewise_attention_options>();
  options.mask = "causal";
  options.query_starts = options.key_starts = starts;
  options.sequences = 3;
  options.starts_type = TILEWISE_INT32;
  ASSERT_EQ(tilewise_attention(&one.forward, &options), TILEWISE_OK) << tilewise_last_error();
  ASSERT_EQ(tilewise_attention_backward(&one.backward, &options), TILEWISE_OK)
      << tilewise_last_error();
  EXPECT_EQ(s.o, one.o);
  EXPECT_EQ(s.d_q, one.d_q);
  EXPECT_EQ(s.d_k, one.d_k);
  EXPECT_EQ(s.d_v, one.d_v);

  options.key_starts = nullptr;
  EXPECT_EQ(tilewise_attention(&one.forward, &options), TILEWISE_INVALID_ARGUMENT);
  EXPECT_NE(std::string(tilewise_last_error()).find("step.key_starts is missing"),
            std::string::npos);
}

TEST(CInterface, SinkAndItsGradient) {
  CSetup s;
  std::vector<float> sink = {0.5F, -2}, d_sink(2), cpp_d_sink(2);
  tilewise_tensor t_sink = view(sink.data(), 2, 1, 1), t_d_sink = view(d_sink.data(), 2, 1, 1);
  s.problem.has_sink = 1;
  s.forward.sink = s.backward.sink = &t_sink;
  s.backward.grad_sink = &t_d_sink;
  s.make();
  ASSERT_EQ(tilewise_forward(s.plan, s.schedule, &s.forward, s.workspace), TILEWISE_OK)
      << tilewise_last_error();
  ASSERT_EQ(tilewise_backward(s.plan, s.schedule, &s.backward, s.workspace), TILEWISE_OK)
      << tilewise_last_error();
  EXPECT_NE(d_sink[0], 0);
  EXPECT_NE(d_sink[0], d_sink[1]);

  CSetup one_call;  // which has a sink because one is given
  t_d_sink.data = cpp_d_sink.data();
  one_call.forward.sink = one_call.backward.sink = &t_sink;
  one_call.backward.grad_sink = &t_d_sink;
  tilewise_attention_options o = sized<tilewise_attention_options>();
  o.mask = "causal";
  ASSERT_EQ(tilewise_attention(&one_call.forward, &o), TILEWISE_OK) << tilewise_last_error();
  ASSERT_EQ(tilewise_attention_backward(&one_call.backward, &o), TILEWISE_OK)
      << tilewise_last_error();
  EXPECT_EQ(s.o, one_call.o);
  EXPECT_EQ(d_sink, cpp_d_sink);

  s.forward.sink = nullptr;
  EXPECT_EQ(tilewise_forward(s.plan, s.schedule, &s.forward, s.workspace),
            TILEWISE_INVALID_ARGUMENT);
  EXPECT_STREQ(tilewise_last_error(),
               "forward: sink.data is null, expected [1, query_heads, 1, 1], as the problem has a "
               "sink");
}

TEST(CInterface, DropoutGivesTheBitsOfTheCppInterface) {
  // All 64 bits of the seed are of use.
  const uint64_t seed = 0x8000000100000002, other_seed = 2;
  CSetup s, cpp, one_call;
  s.problem.dropout = 0.3;
  s.forward.dropout_seed = s.backward.dropout_seed = &seed;
  s.make();
  ASSERT_EQ(tilewise_forward(s.plan, s.schedule, &s.forward, s.workspace), TILEWISE_OK)
      << tilewise_last_error();
  ASSERT_EQ(tilewise_backward(s.plan, s.schedule, &s.backward, s.workspace), TILEWISE_OK)
      << tilewise_last_error();

  Problem problem = {.query_heads = CSetup::kHeads,
                     .max_query_length = CSetup::kLength,
                     .max_kv_length = CSetup::kLength,
                     .head_dim = CSetup::kDim,
                     .mask = causal(),
                     .dropout = 0.3};
  const Plan plan = make_plan(problem);
  const Schedule schedule =
      plan.schedule({.query_length = CSetup::kLength, .kv_length = CSetup::kLength});
  Workspace workspace(plan);
  ForwardTensors f = cpp.cpp_forward();
  f.dropout_seed = seed;
  plan.forward(schedule, f, workspace);
  BackwardTensors b = cpp.cpp_backward();
  b.dropout_seed = seed;
  plan.backward(schedule, b, workspace);
  EXPECT_EQ(s.o, cpp.o);
  EXPECT_EQ(s.lse, cpp.lse);
  EXPECT_EQ(s.d_q, cpp.d_q);
  EXPECT_EQ(s.d_k, cpp.d_k);
  EXPECT_EQ(s.d_v, cpp.d_v);

  tilewise_attention_options o = sized<tilewise_attention_options>();
  o.mask = "causal";
  o.dropout = 0.3;
  one_call.forward.dropout_seed = one_call.backward.dropout_seed = &seed;
  ASSERT_EQ(tilewise_attention(&one_call.forward, &o), TILEWISE_OK) << tilewise_last_error();
  ASSERT_EQ(tilewise_attention_backward(&one_call.backward, &o), TILEWISE_OK)
      << tilewise_last_error();
  EXPECT_EQ(s.o, one_call.o);
  EXPECT_EQ(s.d_q, one_call.d_q);
  EXPECT_EQ(s.d_k, one_call.d_k);
  EXPECT_EQ(s.d_v, one_call.d_v);

  one_call.forward.dropout_seed = &other_seed;
  ASSERT_EQ(tilewise_attention(&one_call.forward, &o), TILEWISE_OK) << tilewise_last_error();
  EXPECT_NE(s.o, one_call.o);
}

TEST(CInterface, DropoutAndItsSeedBelongTogether) {
  const uint64_t seed = 1;
  CSetup s;
  s.problem.dropout = 1;
  EXPECT_EQ(tilewise_plan_create(&s.problem, nullptr, &s.plan), TILEWISE_INVALID_ARGUMENT);
  EXPECT_STREQ(tilewise_last_error(),
               "make_plan: dropout is 1, expected a probability in [0, 1 - 2^-16]; it is rounded "
               "to a multiple of 2^-16; 0 drops nothing");
  s.problem.dropout = 0.3;
  s.make();
  const char* const absent =
      "dropout_seed is absent, expected a number, as the problem has dropout; take another one for "
      "every step, and the same in forward and backward";
  EXPECT_EQ(tilewise_forward(s.plan, s.schedule, &s.forward, s.workspace),
            TILEWISE_INVALID_ARGUMENT);
  EXPECT_EQ(tilewise_last_error(), std::string("forward: ") + absent);
  EXPECT_EQ(tilewise_backward(s.plan, s.schedule, &s.backward, s.workspace),
            TILEWISE_INVALID_ARGUMENT);
  EXPECT_EQ(tilewise_last_error(), std::string("backward: ") + absent);

  s.forward.dropout_seed = &seed;
  EXPECT_EQ(tilewise_attention(&s.forward, nullptr), TILEWISE_INVALID_ARGUMENT);
  EXPECT_NE(std::string(tilewise_last_error())
                .find("dropout_seed is given, expected none, as the problem has no dropout"),
            std::string::npos)
      << tilewise_last_error();
}

// Keys of the first and the second half, of which causal queries see parts.
TEST(CInterface, MergesPartsOfTheKeys) {
  CSetup whole, half[2];
  std::vector<float> sink = {0.5F, -2};
  tilewise_tensor t_sink = view(sink.data(), 2, 1, 1);
  tilewise_attention_options o = sized<tilewise_attention_options>();
  o.mask = "causal-top-left";
  whole.forward.sink = &t_sink;
  ASSERT_EQ(tilewise_attention(&whole.forward, &o), TILEWISE_OK) << tilewise_last_error();
  tilewise_partial_result part[2];
  const tilewise_partial_result* parts[] = {&part[0], &part[1]};
  for (int i = 0; i < 2; ++i) {
    o.key_offset = i * CSetup::kLength / 2;
    for (tilewise_tensor* keys : {&half[i].tk, &half[i].tv}) {
      keys->shape[2] /= 2;
      keys->data = static_cast<float*>(keys->data) + o.key_offset * CSetup::kDim;
    }
    ASSERT_EQ(tilewise_attention(&half[i].forward, &o), TILEWISE_OK) << tilewise_last_error();
    part[i] = sized<tilewise_partial_result>();
    part[i].output = &half[i].to;
    part[i].logsumexp = &half[i].tl;
  }
  CSetup merged;
  tilewise_merge_tensors t = sized<tilewise_merge_tensors>();
  t.parts = parts;
  t.part_count = 2;
  t.output = &merged.to;
  t.logsumexp = &merged.tl;
  t.sink = &t_sink;
  ASSERT_EQ(tilewise_merge(&t, 2), TILEWISE_OK) << tilewise_last_error();
  for (size_t i = 0; i < merged.o.size(); ++i) ASSERT_NEAR(merged.o[i], whole.o[i], 1e-6);
  for (size_t i = 0; i < merged.lse.size(); ++i) ASSERT_NEAR(merged.lse[i], whole.lse[i], 1e-6);

  t.part_count = 0;
  EXPECT_EQ(tilewise_merge(&t, 0), TILEWISE_INVALID_ARGUMENT);
  EXPECT_STREQ(tilewise_last_error(), "merge: parts is empty, expected at least one");
  t.part_count = 2;
  parts[1] = nullptr;
  EXPECT_EQ(tilewise_merge(&t, 0), TILEWISE_INVALID_ARGUMENT);
  EXPECT_STREQ(tilewise_last_error(), "tilewise_merge: parts[1] is NULL, expected a pointer");
  EXPECT_EQ(tilewise_merge(nullptr, 0), TILEWISE_INVALID_ARGUMENT);
  EXPECT_STREQ(tilewise_last_error(), "tilewise_merge: tensors is NULL, expected a pointer");
}

}  // namespace
}  // namespace tilewise::capi
