// SPDX-License-Identifier: Apache-2.0
#include "tilewise/tilewise_c.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "capi/setup.h"
#include "tilewise/tilewise.h"

namespace tilewise::capi {
namespace {

TEST(CInterface, GivesTheBitsOfTheCppInterface) {
  CSetup s;
  s.make();
  ASSERT_EQ(tilewise_forward(s.plan, s.schedule, &s.forward, s.workspace), TILEWISE_OK)
      << tilewise_last_error();
  ASSERT_EQ(tilewise_backward(s.plan, s.schedule, &s.backward, s.workspace), TILEWISE_OK)
      << tilewise_last_error();

  CSetup c;
  tilewise::AttentionOptions options;
  options.mask = tilewise::causal();
  tilewise::attention(c.cpp_forward(), options);
  tilewise::attention_backward(c.cpp_backward(), options);
  EXPECT_EQ(s.o, c.o);
  EXPECT_EQ(s.lse, c.lse);
  EXPECT_EQ(s.d_q, c.d_q);
  EXPECT_EQ(s.d_k, c.d_k);
  EXPECT_EQ(s.d_v, c.d_v);

  CSetup one_call;
  tilewise_attention_options o = sized<tilewise_attention_options>();
  o.mask = "causal";
  ASSERT_EQ(tilewise_attention(&one_call.forward, &o), TILEWISE_OK) << tilewise_last_error();
  ASSERT_EQ(tilewise_attention_backward(&one_call.backward, &o), TILEWISE_OK)
      << tilewise_last_error();
  EXPECT_EQ(s.o, one_call.o);
  EXPECT_EQ(s.d_k, one_call.d_k);
}

TEST(CInterface, MasksAndScoresWithTheirData) {
  std::vector<int32_t> documents;
  for (int32_t i = 0; i < CSetup::kLength; ++i) documents.push_back(i / 40);
  std::vector<float> slopes = {0.5f, 0.125f}, grad_slopes = {9, 9};
  const char* const mask = "doc[q] == doc[k] and q - k < window";
  const char* const score = "s - slope[h] * (q - k)";

  CSetup c;
  tilewise_integer_table doc = sized<tilewise_integer_table>();
  doc.name = "doc";
  doc.data = documents.data();
  doc.type = TILEWISE_INT32;
  doc.rank = 1;
  doc.shape[0] = CSetup::kLength;
  tilewise_scalar window = sized<tilewise_scalar>();
  window.name = "window";
  window.integer = 30;
  const tilewise_integer_table* tables[] = {&doc};
  const tilewise_scalar* scalars[] = {&window};
  tilewise_tensor slope_tensor = view(slopes.data(), 1, 1, 2),
                  grad_tensor = view(grad_slopes.data(), 1, 1, 2);
  tilewise_named_tensor slope = sized<tilewise_named_tensor>(), grad = slope;
  slope.name = grad.name = "slope";
  slope.tensor = &slope_tensor;
  grad.tensor = &grad_tensor;
  const tilewise_named_tensor *real_tables[] = {&slope}, *grad_tables[] = {&grad};
  c.problem.mask = mask;
  c.problem.score = score;
  c.step.tables = tables;
  c.step.table_count = 1;
  c.step.scalars = scalars;
  c.step.scalar_count = 1;
  c.forward.tables = c.backward.tables = real_tables;
  c.forward.table_count = c.backward.table_count = 1;
  c.backward.grad_tables = grad_tables;
  c.backward.grad_table_count = 1;
  c.make();
  ASSERT_EQ(tilewise_forward(c.plan, c.schedule, &c.forward, c.workspace), TILEWISE_OK)
      << tilewise_last_error();
  ASSERT_EQ(tilewise_backward(c.plan, c.schedule, &c.backward, c.workspace), TILEWISE_OK)
      << tilewise_last_error();

  CSetup cpp;
  std::vector<float> cpp_grad = {9, 9};
  tilewise::AttentionOptions options;
  options.mask = tilewise::mask_from_text(mask);
  options.score = tilewise::score_from_text(score);
  options.tables = {{"doc", documents.data(), tilewise::IntegerType::kInt32, {CSetup::kLength}}};
  options.scalars = {{"window", 30}};
  const auto table = [](std::vector<float>& x) {
    return tilewise::Tensor::bhsd(x.data(), tilewise::DType::kFloat32, 1, 1, 1, 2);
  };
  tilewise::ForwardTensors f = cpp.cpp_forward();
  f.tables = {{"slope", table(slopes)}};
  tilewise::attention(f, options);
  tilewise::BackwardTensors b = cpp.cpp_backward();
  b.tables = {{"slope", table(slopes)}};
  b.grad_tables = {{"slope", table(cpp_grad)}};
  tilewise::attention_backward(b, options);
  EXPECT_EQ(c.o, cpp.o);
  EXPECT_EQ(c.lse, cpp.lse);
  EXPECT_EQ(c.d_q, cpp.d_q);
  EXPECT_EQ(grad_slopes, cpp_grad);
  EXPECT_NE(grad_slopes[0], 9);

  doc.rank = 5;
  tilewise_schedule* none = nullptr;
  EXPECT_EQ(tilewise_schedule_create(c.plan, &c.step, &none), TILEWISE_INVALID_ARGUMENT);
  EXPECT_STREQ(tilewise_last_error(),
               "tilewise_schedule_create: tables[0].rank is 5, expected 1 to 4");
  doc.rank = 1;
  doc.name = nullptr;
  EXPECT_EQ(tilewise_schedule_create(c.plan, &c.step, &none), TILEWISE_INVALID_ARGUMENT);
  EXPECT_STREQ(tilewise_last_error(),
               "tilewise_schedule_create: tables[0].name is NULL, expected a name");
}

TEST(CInterface, NullIsAnErrorWithTheArgumentsName) {
  CSetup s;
  EXPECT_EQ(tilewise_plan_create(nullptr, nullptr, &s.plan), TILEWISE_INVALID_ARGUMENT);
  EXPECT_STREQ(tilewise_last_error(), "tilewise_plan_create: problem is NULL, expected a pointer");
  EXPECT_EQ(tilewise_plan_create(&s.problem, nullptr, nullptr), TILEWISE_INVALID_ARGUMENT);
  EXPECT_STREQ(tilewise_last_error(), "tilewise_plan_create: plan is NULL, expected a handle");
  s.make();
  EXPECT_EQ(tilewise_forward(nullptr, s.schedule, &s.forward, s.workspace),
            TILEWISE_INVALID_ARGUMENT);
  EXPECT_STREQ(tilewise_last_error(), "tilewise_forward: plan is NULL, expected a handle");
  EXPECT_EQ(tilewise_forward(s.plan, nullptr, &s.forward, s.workspace), TILEWISE_INVALID_ARGUMENT);
  EXPECT_EQ(tilewise_forward(s.plan, s.schedule, nullptr, s.workspace), TILEWISE_INVALID_ARGUMENT);
  EXPECT_EQ(tilewise_forward(s.plan, s.schedule, &s.forward, nullptr), TILEWISE_INVALID_ARGUMENT);
  s.forward.key = nullptr;
  EXPECT_EQ(tilewise_forward(s.plan, s.schedule, &s.forward, s.workspace),
            TILEWISE_INVALID_ARGUMENT);
  EXPECT_NE(std::string(tilewise_last_error()).find("key"), std::string::npos)
      << tilewise_last_error();
  tilewise_plan_destroy(nullptr);
  tilewise_schedule_destroy(nullptr);
  tilewise_workspace_destroy(nullptr);
  EXPECT_EQ(tilewise_plan_workspace_bytes(nullptr), 0u);
  EXPECT_EQ(tilewise_plan_isa(nullptr), nullptr);
  EXPECT_EQ(tilewise_plan_threads(nullptr), 0);
}

TEST(CInterface, StructSizeCarriesOldAndNewCallers) {
  CSetup s;
  s.problem.struct_size = 0;
  EXPECT_EQ(tilewise_plan_create(&s.problem, nullptr, &s.plan), TILEWISE_INVALID_ARGUMENT);
  EXPECT_EQ(std::string(tilewise_last_error()),
            "tilewise_plan_create: problem.struct_size is 0, expected " +
                std::to_string(sizeof(tilewise_problem)) + "; set it to sizeof the struct");
  // An older header, without mask and scale: whatever follows in memory is not read.
  s.problem.struct_size = offsetof(tilewise_problem, mask);
  s.problem.mask = reinterpret_cast<const char*>(1);
  ASSERT_EQ(tilewise_plan_create(&s.problem, nullptr, &s.plan), TILEWISE_OK)
      << tilewise_last_error();
  tilewise_plan_destroy(s.plan);
  // A newer header, with an option that is not set, and one that is.
  struct {
    tilewise_step step;
    int64_t newer;
  } larger{};
  s.problem = CSetup().problem;
  s.make();
  larger.step = s.step;
  larger.step.struct_size = sizeof larger;
  tilewise_schedule* schedule = nullptr;
  EXPECT_EQ(tilewise_schedule_create(s.plan, &larger.step, &schedule), TILEWISE_OK)
      << tilewise_last_error();
  tilewise_schedule_destroy(schedule);
  larger.newer = 1;
  EXPECT_EQ(tilewise_schedule_create(s.plan, &larger.step, &schedule), TILEWISE_INVALID_ARGUMENT);
  EXPECT_NE(std::string(tilewise_last_error()).find("a newer option is set"), std::string::npos);
  EXPECT_EQ(schedule, nullptr);
}

TEST(CInterface, UpdatesASchedule) {
  CSetup s;
  s.make();
  ASSERT_EQ(tilewise_forward(s.plan, s.schedule, &s.forward, s.workspace), TILEWISE_OK);
  const std::vector<float> whole = s.o;
  tilewise_step shorter = s.step;
  shorter.query_length = 5;
  ASSERT_EQ(tilewise_schedule_update(s.plan, s.schedule, &shorter), TILEWISE_OK)
      << tilewise_last_error();
  EXPECT_EQ(tilewise_forward(s.plan, s.schedule, &s.forward, s.workspace),
            TILEWISE_INVALID_ARGUMENT)
      << "the tensors have the old length";
  shorter.query_length = -1;
  EXPECT_EQ(tilewise_schedule_update(s.plan, s.schedule, &shorter), TILEWISE_INVALID_ARGUMENT);
  EXPECT_EQ(tilewise_schedule_update(s.plan, nullptr, &s.step), TILEWISE_INVALID_ARGUMENT);
  EXPECT_EQ(tilewise_schedule_update(nullptr, s.schedule, &s.step), TILEWISE_INVALID_ARGUMENT);
  EXPECT_EQ(tilewise_schedule_update(s.plan, s.schedule, nullptr), TILEWISE_INVALID_ARGUMENT);
  ASSERT_EQ(tilewise_schedule_update(s.plan, s.schedule, &s.step), TILEWISE_OK);
  s.o.assign(s.o.size(), -1);
  ASSERT_EQ(tilewise_forward(s.plan, s.schedule, &s.forward, s.workspace), TILEWISE_OK);
  EXPECT_EQ(s.o, whole);
}

TEST(CInterface, ErrorsBelongToTheirThread) {
  CSetup s;
  s.problem.mask = "casual";
  EXPECT_EQ(tilewise_plan_create(&s.problem, nullptr, &s.plan), TILEWISE_INVALID_ARGUMENT);
  const std::string here = tilewise_last_error();
  EXPECT_NE(here.find("casual"), std::string::npos);
  std::thread([] { EXPECT_STREQ(tilewise_last_error(), ""); }).join();
  EXPECT_EQ(here, tilewise_last_error());
}

TEST(CInterface, TheCallersMemoryAsWorkspace) {
  CSetup s;
  s.make();
  const size_t bytes = tilewise_plan_workspace_bytes(s.plan);
  std::vector<char> memory(bytes + 64);
  char* aligned = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
  tilewise_workspace* own = nullptr;
  ASSERT_EQ(tilewise_workspace_create(s.plan, aligned, bytes, &own), TILEWISE_OK);
  EXPECT_EQ(tilewise_forward(s.plan, s.schedule, &s.forward, own), TILEWISE_OK)
      << tilewise_last_error();
  tilewise_workspace_destroy(own);
  ASSERT_EQ(tilewise_workspace_create(s.plan, aligned, 1, &own), TILEWISE_OK);
  EXPECT_EQ(tilewise_forward(s.plan, s.schedule, &s.forward, own), TILEWISE_INVALID_ARGUMENT);
  EXPECT_NE(std::string(tilewise_last_error()).find("workspace"), std::string::npos)
      << tilewise_last_error();
  tilewise_workspace_destroy(own);
}

TEST(CInterface, TheCallersPool) {
  static int calls = 0;
  CSetup s;
  tilewise_plan_options options = sized<tilewise_plan_options>();
  options.run_workers = [](void* context, int32_t workers, void (*task)(void*, int),
                           void* task_context) {
    EXPECT_STREQ(static_cast<const char*>(context), "mine");
    ++calls;
    for (int w = 0; w < workers; ++w) task(task_context, w);
  };
  char context[] = "mine";
  options.executor_context = context;
  EXPECT_EQ(tilewise_plan_create(&s.problem, &options, &s.plan), TILEWISE_INVALID_ARGUMENT);
  EXPECT_STREQ(tilewise_last_error(),
               "tilewise_plan_create: options.executor_workers is 0, expected 1 to 4096");
  options.executor_workers = 3;
  s.make(&options);
  EXPECT_EQ(tilewise_plan_threads(s.plan), 3);
  ASSERT_EQ(tilewise_forward(s.plan, s.schedule, &s.forward, s.workspace), TILEWISE_OK)
      << tilewise_last_error();
  EXPECT_GT(calls, 0);
}

TEST(CInterface, ExplainFitsTheBuffer) {
  CSetup s;
  s.make();
  size_t length = 0;
  ASSERT_EQ(tilewise_explain(s.plan, s.schedule, nullptr, 0, &length), TILEWISE_OK)
      << tilewise_last_error();
  ASSERT_GT(length, 20u);
  std::string whole(length + 1, 'x'), part(11, 'x');
  ASSERT_EQ(tilewise_explain(s.plan, s.schedule, whole.data(), whole.size(), nullptr), TILEWISE_OK);
  ASSERT_EQ(tilewise_explain(s.plan, s.schedule, part.data(), part.size(), nullptr), TILEWISE_OK);
  EXPECT_EQ(std::strlen(whole.c_str()), length);
  EXPECT_EQ(std::string(part.c_str()), whole.substr(0, 10));
  EXPECT_EQ(tilewise_explain(s.plan, s.schedule, nullptr, 5, nullptr), TILEWISE_INVALID_ARGUMENT);
}

TEST(CInterface, NamesOfInstructionSets) {
  const size_t count = tilewise_available_isas(nullptr, 0);
  ASSERT_GE(count, 1u);
  std::vector<const char*> names(count);
  EXPECT_EQ(tilewise_available_isas(names.data(), count), count);
  EXPECT_STREQ(names.back(), "scalar");
  EXPECT_STREQ(tilewise_version(), TILEWISE_VERSION);
}

}  // namespace
}  // namespace tilewise::capi
