// SPDX-License-Identifier: Apache-2.0
#include "engine/explain.h"

#include <gtest/gtest.h>

#include "engine/stub_plan.h"
#include "problem/bind.h"
#include "tilewise/error.h"

namespace tilewise {
namespace {

Problem causal_problem() {
  Problem problem;
  problem.query_heads = 2;
  problem.kv_heads = 1;
  problem.max_query_length = 128;
  problem.max_kv_length = 128;
  problem.head_dim = 64;
  problem.mask = causal();
  return problem;
}

std::string picture_of(const Mask& mask, int64_t queries, int64_t keys) {
  Step step;
  step.query_length = queries;
  step.kv_length = keys;
  expr::Values values;
  if (mask.expression() != nullptr) values = bind(*mask.expression(), step, "test");
  return picture(classify_heads(mask, values, step, 1, "test").classes[0], values, step);
}

TEST(Explain, PictureOfACausalMask) {
  EXPECT_EQ(picture_of(causal(), 4, 4),
            "          #...\n"
            "          ##..\n"
            "          ###.\n"
            "          ####\n");
  EXPECT_EQ(picture_of(causal(), 64, 64).substr(0, 43),
            "          /...............................\n");
  EXPECT_EQ(picture_of(causal(), 0, 4), "");
  EXPECT_EQ(picture_of(Mask(), 1, 2), "          ##\n");
}

TEST(Explain, NamesDropout) {
  Problem problem = causal_problem();
  problem.scale = 0.125;
  EXPECT_EQ(describe(problem).find("dropout"), std::string::npos);
  problem.dropout = 0.25;
  EXPECT_NE(describe(problem).find("128 keys, dropout 0.25"), std::string::npos);
}

TEST(Explain, NamesTilesWordsWorkAndMemory) {
  const Kernel kernel = testing::stub_kernel();  // forward 64 x 32, backward 16 x 16
  const auto plan = testing::stub_plan(causal_problem(), kernel, default_executor(), 1);
  Step step;
  step.query_length = 128;
  step.kv_length = 128;
  const std::string text = explain_schedule(*plan, *make_schedule(*plan, step, "schedule"));
  for (const char* part :
       {"problem   fp32, 2 query heads over 1 kv heads, head_dim 64, value_dim 64, mask causal, "
        "scale 0.125, no bias",
        "batch 1, 128 queries x 128 keys; 16512 visible pairs in 2 heads", "kernel    stub",
        // Rows of 64 queries: keys 0-31 and 32-63 touch the diagonal, then two full and two more.
        "64 queries x 32 keys; per head 2 full, 4 partial, 2 empty",
        "16 queries x 16 keys; per head 28 full, 8 partial, 28 empty",
        // 2 * 8256 pairs * 128 * 2 heads, and 2.5 times that.
        "forward 4.227e+06 FLOP in 4 items, 1 of 1 threads", "backward 1.057e+07 FLOP",
        // Q once; K and V of 6 tiles of 32 x 64, both heads. O and LSE once.
        "forward  65536 words read, 16640 written", "workspace", "dQ sums     64.0 KiB"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
}

TEST(Explain, SaysHowFewQueriesAreComputed) {
  Problem problem = causal_problem();
  problem.max_kv_length = 3000;
  const Plan plan = make_plan(problem);
  Step step;
  step.query_length = 2;
  step.kv_length = 3000;
  const std::string text = plan.explain(plan.schedule(step));
  for (const char* part :
       {"few queries: 4 rows (heads that share keys x queries) in 1 tiles; keys 0 "
        "to 3000 in 3 chunks",
        // Q thrice, K and V once for both heads; O and 3 numbers of two chunks.
        "forward  385304 words read, 796 written"})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  problem.same_bits_as_prefill = true;
  const Plan whole = make_plan(problem);
  EXPECT_NE(whole.explain(whole.schedule(step)).find("one chunk, because"), std::string::npos);
}

TEST(Explain, RefusesAScheduleOfAnotherPlan) {
  const Plan a = make_plan(causal_problem());
  const Plan b = make_plan(causal_problem());
  EXPECT_THROW((void)a.explain(b.schedule({})), InvalidArgument);
  EXPECT_NE(a.explain(a.schedule({})).find("0 queries x 0 keys"), std::string::npos);
}

TEST(Explain, RaggedBatchIsTheSumOfItsSequences) {
  const Kernel kernel = testing::stub_kernel();  // forward 64 x 32, backward 16 x 16
  Problem problem = causal_problem();
  problem.max_batch = 3;
  const auto plan = testing::stub_plan(problem, kernel, default_executor(), 1);
  const int32_t starts[] = {0, 128, 128, 256};
  Step step;
  step.batch = 3;
  step.query_length = 260;
  step.kv_length = 270;
  step.query_starts = step.key_starts = {starts, IntegerType::kInt32, 4};
  const std::string text = explain_schedule(*plan, *make_schedule(*plan, step, "schedule"));
  for (const char* part :
       {"3 sequences in 260 queries and 270 keys", "0 to 128 queries, 0 to 128 keys each",
        "33024 visible pairs in 6 heads",
        // Twice two heads of the sequence above.
        "forward   8 full, 16 partial, 8 empty tiles", "backward  112 full, 32 partial, 112 empty",
        "forward 8.454e+06 FLOP in 8 items, 1 of 1 threads", "in 3 whole heads and 0 shared heads",
        "forward  131072 words read, 33280 written"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
}

}  // namespace
}  // namespace tilewise
