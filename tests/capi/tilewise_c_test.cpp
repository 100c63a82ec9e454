// SPDX-License-Identifier: Apache-2.0
#include "tilewise/tilewise_c.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "tilewise/tilewise.h"

namespace {

template <class Struct>
Struct sized() {
  Struct s;
  std::memset(&s, 0, sizeof s);
  s.struct_size = sizeof s;
  return s;
}

tilewise_tensor view(float* data, int64_t heads, int64_t length, int64_t dim) {
  tilewise_tensor t = sized<tilewise_tensor>();
  t.data = data;
  t.dtype = TILEWISE_FLOAT32;
  const int64_t shape[] = {1, heads, length, dim},
                strides[] = {heads * length * dim, length * dim, dim, 1};
  std::memcpy(t.shape, shape, sizeof shape);
  std::memcpy(t.strides, strides, sizeof strides);
  return t;
}

// A causal problem of two heads, with everything that a run needs.
struct CSetup {
  static constexpr int64_t kHeads = 2, kLength = 170, kDim = 24,
                           kElements = kHeads * kLength * kDim;
  std::vector<float> q, k, v, o, d_o, d_q, d_k, d_v, lse;
  tilewise_problem problem = sized<tilewise_problem>();
  tilewise_step step = sized<tilewise_step>();
  tilewise_tensor tq, tk, tv, to, tdo, tdq, tdk, tdv, tl;
  tilewise_forward_tensors forward = sized<tilewise_forward_tensors>();
  tilewise_backward_tensors backward = sized<tilewise_backward_tensors>();
  tilewise_plan* plan = nullptr;
  tilewise_schedule* schedule = nullptr;
  tilewise_workspace* workspace = nullptr;

  CSetup() {
    for (auto* x : {&q, &k, &v, &o, &d_o, &d_q, &d_k, &d_v}) x->resize(kElements);
    lse.resize(kHeads * kLength);
    for (int64_t i = 0; i < kElements; ++i) {
      const auto x = static_cast<double>(i);
      q[i] = static_cast<float>(std::sin(0.7 * x));
      k[i] = static_cast<float>(std::cos(1.3 * x));
      v[i] = static_cast<float>(std::sin(0.2 * x + 1));
      d_o[i] = static_cast<float>(std::cos(0.9 * x));
    }
    tq = view(q.data(), kHeads, kLength, kDim);
    tk = view(k.data(), kHeads, kLength, kDim);
    tv = view(v.data(), kHeads, kLength, kDim);
    to = view(o.data(), kHeads, kLength, kDim);
    tdo = view(d_o.data(), kHeads, kLength, kDim);
    tdq = view(d_q.data(), kHeads, kLength, kDim);
    tdk = view(d_k.data(), kHeads, kLength, kDim);
    tdv = view(d_v.data(), kHeads, kLength, kDim);
    tl = view(lse.data(), kHeads, kLength, 1);
    problem.query_heads = kHeads;
    problem.max_query_length = problem.max_kv_length = kLength;
    problem.head_dim = kDim;
    problem.mask = "causal";
    step.batch = 1;
    step.query_length = step.kv_length = kLength;
    forward.query = backward.query = &tq;
    forward.key = backward.key = &tk;
    forward.value = backward.value = &tv;
    forward.output = backward.output = &to;
    forward.logsumexp = backward.logsumexp = &tl;
    backward.grad_output = &tdo;
    backward.grad_query = &tdq;
    backward.grad_key = &tdk;
    backward.grad_value = &tdv;
  }
  ~CSetup() {
    tilewise_workspace_destroy(workspace);
    tilewise_schedule_destroy(schedule);
    tilewise_plan_destroy(plan);
  }
  void make(const tilewise_plan_options* options = nullptr) {
    ASSERT_EQ(tilewise_plan_create(&problem, options, &plan), TILEWISE_OK) << tilewise_last_error();
    ASSERT_EQ(tilewise_schedule_create(plan, &step, &schedule), TILEWISE_OK)
        << tilewise_last_error();
    ASSERT_EQ(tilewise_workspace_create(plan, nullptr, 0, &workspace), TILEWISE_OK)
        << tilewise_last_error();
  }
};

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

TEST(CInterface, GivesTheBitsOfTheCppInterface) {
  CSetup s;
  s.make();
  ASSERT_EQ(tilewise_forward(s.plan, s.schedule, &s.forward, s.workspace), TILEWISE_OK)
      << tilewise_last_error();
  ASSERT_EQ(tilewise_backward(s.plan, s.schedule, &s.backward, s.workspace), TILEWISE_OK)
      << tilewise_last_error();

  CSetup c;
  const auto tensor = [](std::vector<float>& x) {
    return tilewise::Tensor::bhsd(
        x.data(), tilewise::DType::kFloat32, 1, CSetup::kHeads, CSetup::kLength,
        static_cast<int64_t>(x.size()) / (CSetup::kHeads * CSetup::kLength));
  };
  tilewise::AttentionOptions options;
  options.mask = tilewise::causal();
  tilewise::attention({tensor(c.q), tensor(c.k), tensor(c.v), {}, tensor(c.o), tensor(c.lse)},
                      options);
  tilewise::BackwardTensors b;
  b.query = tensor(c.q);
  b.key = tensor(c.k);
  b.value = tensor(c.v);
  b.output = tensor(c.o);
  b.logsumexp = tensor(c.lse);
  b.grad_output = tensor(c.d_o);
  b.grad_query = tensor(c.d_q);
  b.grad_key = tensor(c.d_k);
  b.grad_value = tensor(c.d_v);
  tilewise::attention_backward(b, options);
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
  const auto tensor = [](std::vector<float>& x) {
    return tilewise::Tensor::bhsd(
        x.data(), tilewise::DType::kFloat32, 1, CSetup::kHeads, CSetup::kLength,
        static_cast<int64_t>(x.size()) / (CSetup::kHeads * CSetup::kLength));
  };
  std::vector<float> cpp_grad = {9, 9};
  tilewise::AttentionOptions options;
  options.mask = tilewise::mask_from_text(mask);
  options.score = tilewise::score_from_text(score);
  options.tables = {{"doc", documents.data(), tilewise::IntegerType::kInt32, {CSetup::kLength}}};
  options.scalars = {{"window", 30}};
  const auto table = [](std::vector<float>& x) {
    return tilewise::Tensor::bhsd(x.data(), tilewise::DType::kFloat32, 1, 1, 1, 2);
  };
  tilewise::attention({tensor(cpp.q),
                       tensor(cpp.k),
                       tensor(cpp.v),
                       {},
                       tensor(cpp.o),
                       tensor(cpp.lse),
                       {{"slope", table(slopes)}}},
                      options);
  tilewise::BackwardTensors b;
  b.query = tensor(cpp.q);
  b.key = tensor(cpp.k);
  b.value = tensor(cpp.v);
  b.output = tensor(cpp.o);
  b.logsumexp = tensor(cpp.lse);
  b.grad_output = tensor(cpp.d_o);
  b.grad_query = tensor(cpp.d_q);
  b.grad_key = tensor(cpp.d_k);
  b.grad_value = tensor(cpp.d_v);
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
