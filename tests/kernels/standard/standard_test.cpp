// SPDX-License-Identifier: Apache-2.0
// Standard attention against the reference, with the tolerances of naive attention: random problems
// in guarded memory, so that reading or writing outside a tensor is a fault.
#include "kernels/standard/standard.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "kernels/cpu/registry.h"
#include "kernels/reference/naive.h"
#include "kernels/reference/reference.h"
#include "tilewise/error.h"
#include "verify/case_memory.h"
#include "verify/tolerance.h"

namespace tilewise {
namespace {

using namespace verify;

Problem problem_of(const Case& c) {
  Problem problem;
  problem.query_heads = c.query_heads;
  problem.kv_heads = c.kv_heads;
  problem.max_batch = c.batch;
  problem.max_query_length = c.query_length;
  problem.max_kv_length = c.kv_length;
  problem.head_dim = c.head_dim;
  problem.value_dim = c.value_dim;
  problem.dtype = c.dtype;
  problem.mask = mask_from_text(c.mask);
  if (c.scale > 0) problem.scale = c.scale;
  problem.has_bias = c.bias != "none";
  problem.has_sink = c.sink != Sinks::kNone;
  problem.dropout = c.dropout;
  return problem;
}

Step step_of(const Case& c) {
  Step step;
  step.batch = c.batch;
  step.query_length = c.query_length;
  step.kv_length = c.kv_length;
  step.query_offset = c.query_offset;
  step.key_offset = c.key_offset;
  return step;
}

struct Result {
  const char* name;
  Tensor tensor;
  bool is_forward;
};

// All that a run writes.
std::vector<Result> results_of(const BackwardTensors& t) {
  std::vector<Result> results = {{"output", t.output, true},
                                 {"logsumexp", t.logsumexp, true},
                                 {"grad_query", t.grad_query, false},
                                 {"grad_key", t.grad_key, false},
                                 {"grad_value", t.grad_value, false}};
  if (t.grad_bias.shape[3] > 0) results.push_back({"grad_bias", t.grad_bias, false});
  if (t.sink.data != nullptr) results.push_back({"grad_sink", t.grad_sink, false});
  return results;
}

std::vector<std::vector<double>> run(const Case& c, CaseMemory& memory,
                                     const StandardOptions& options) {
  const StandardPlan plan = make_standard(problem_of(c), memory.step(), options);
  const GuardedMemory workspace(plan.workspace_bytes(), c.flush);
  memory.poison_outputs();
  plan.forward(memory.forward_tensors(), workspace.data());
  plan.backward(memory.tensors(), workspace.data());
  EXPECT_EQ(memory.output_with_damaged_gap(), "");
  std::vector<std::vector<double>> values;
  for (const Result& result : results_of(memory.tensors())) values.push_back(dense(result.tensor));
  return values;
}

std::vector<std::vector<double>> listed(const reference::Outputs& o,
                                        const reference::Gradients& g) {
  std::vector<std::vector<double>> all = {o.output, o.logsumexp, g.query, g.key, g.value};
  if (!g.bias.empty()) all.push_back(g.bias);
  if (!g.sink.empty()) all.push_back(g.sink);
  return all;
}

// Random problems without what standard attention does not promise: NaN that must not spread from
// masked keys, and scores beyond the range of fp16.
Case random_standard_case(uint64_t index) {
  Case c = random_case(7, index);
  c.not_a_number = NotANumber::kNone;
  if (c.dtype == DType::kFloat16) c.values = Values::kNormal;
  if (c.batch == 0) c.batch = 1;
  c.score = "s";
  if (index % 4 == 3 && c.sink == Sinks::kNone) c.sink = Sinks::kNormal;
  if (c.lengths.empty()) return c;
  c.query_length = c.lengths.front().first, c.kv_length = c.lengths.front().second;
  c.is_packed = c.is_packed && c.query_length == c.kv_length;
  c.batch = 1;
  c.lengths.clear();
  return c;
}

struct Exact {
  std::vector<std::vector<double>> reference;
  std::vector<std::vector<std::vector<double>>> naive;
};

Exact exact_of(const CaseMemory& memory) {
  const reference::Inputs in = memory.reference_inputs();
  const auto rows = reference::all_rows(in.query);
  Exact exact = {listed(reference::forward(in), reference::backward(in)), {}};
  for (const double start : reference::kNaiveStarts) {
    exact.naive.push_back(listed(reference::naive_forward_rows(in, rows, start),
                                 reference::naive_backward_rows(in, rows, start)));
  }
  return exact;
}

// S is rounded once more than naively where bias and mask have a pass of their own, P once more
// where it is divided by its sum; hence twice the naive error instead of 1.1 times.
void expect_near(const CaseMemory& memory, const Exact& exact,
                 const std::vector<std::vector<double>>& actual, const std::string& what) {
  const std::vector<Result> results = results_of(memory.tensors());
  for (size_t i = 0; i < results.size(); ++i) {
    const Tensor& t = results[i].tensor;
    const auto& reference = exact.reference[i];
    Deviation naive = deviation(exact.naive[0][i], reference, t.dtype, t.shape[3]);
    for (const auto& values : exact.naive)
      naive = worse_of(naive, deviation(values[i], reference, t.dtype, t.shape[3]));
    const Deviation error = deviation(actual[i], reference, t.dtype, t.shape[3]);
    const Bound allowed =
        bound(i == 1 ? verify::Result::kLogsumexp : verify::Result::kGradient, t.dtype, naive);
    EXPECT_LT(error.misplaced, 0) << results[i].name << ", " << what;
    EXPECT_LE(error.max, 2 * allowed.max)
        << results[i].name << ", naive " << naive.max << ", " << what;
    EXPECT_LE(error.rms, 2 * allowed.rms)
        << results[i].name << ", naive " << naive.rms << ", " << what;
  }
}

TEST(Standard, RandomProblemsOnEveryKernel) {
  for (uint64_t index = 0; index < 60; ++index) {
    const Case c = random_standard_case(index);
    CaseMemory memory(c);
    const Exact exact = exact_of(memory);
    for (const KernelTable* table : supported_kernels()) {
      for (StandardForm form : {StandardForm::kStandard, StandardForm::kMegatron}) {
        StandardOptions options;
        options.form = form;
        options.isa = table->name;
        options.threads = 1 + static_cast<int>(index % 3);
        const std::string what = std::string(table->name) +
                                 (form == StandardForm::kMegatron ? " megatron " : " standard ") +
                                 case_text(c);
        expect_near(memory, exact, run(c, memory, options), what);
        if (HasFailure()) return;
      }
    }
  }
}

TEST(Standard, RaggedBatchesAreRefused) {
  const int32_t starts[] = {0, 3, 5};
  Step step{.batch = 2, .query_length = 5, .kv_length = 5};
  step.query_starts = step.key_starts = {starts, IntegerType::kInt32, 3};
  try {
    (void)make_standard({.max_batch = 2, .head_dim = 8}, step);
    ADD_FAILURE();
  } catch (const InvalidArgument& error) {
    EXPECT_STREQ(
        error.what(),
        "standard: step.query_starts is given, expected none; run the sequences one by one");
  }
}

TEST(Standard, ResultsDoNotDependOnThreads) {
  for (uint64_t index = 100; index < 110; ++index) {
    const Case c = random_standard_case(index);
    CaseMemory memory(c);
    StandardOptions options;
    options.threads = 1;
    const auto alone = run(c, memory, options);
    for (int threads : {2, 3, 8}) {
      options.threads = threads;
      const auto shared = run(c, memory, options);
      for (size_t i = 0; i < alone.size(); ++i) {
        ASSERT_EQ(std::memcmp(alone[i].data(), shared[i].data(), alone[i].size() * 8), 0)
            << results_of(memory.tensors())[i].name << ", " << threads << " threads, "
            << case_text(c);
      }
    }
  }
}

// Without gradients P is dropped where it lies.
TEST(Standard, DropoutOfTheForwardAlone) {
  Case c =
      case_from_text("b=2 hq=2 hkv=1 n=45 m=61 d=16 e=24 mask=causal dropout=0.3 qoff=7 seed=3");
  CaseMemory memory(c);
  const Exact exact = exact_of(memory);
  for (StandardForm form : {StandardForm::kStandard, StandardForm::kMegatron}) {
    StandardOptions options;
    options.form = form;
    auto both = run(c, memory, options);
    options.with_backward = false;
    const StandardPlan plan = make_standard(problem_of(c), memory.step(), options);
    const GuardedMemory workspace(plan.workspace_bytes(), c.flush);
    memory.poison_outputs();
    plan.forward(memory.forward_tensors(), workspace.data());
    EXPECT_EQ(dense(memory.tensors().output), both[0]);
    EXPECT_EQ(dense(memory.tensors().logsumexp), both[1]);
    expect_near(memory, exact, both, "forward alone");
  }
}

TEST(Standard, RowThatSeesNothingIsZero) {
  Case c = case_from_text("b=1 hq=1 hkv=1 n=5 m=3 d=8 e=8 dtype=fp32 mask=causal seed=3");
  CaseMemory memory(c);
  for (StandardForm form : {StandardForm::kStandard, StandardForm::kMegatron}) {
    StandardOptions options;
    options.form = form;
    const auto results = run(c, memory, options);
    for (int i = 0; i < 2 * 8; ++i) {
      EXPECT_EQ(results[0][i], 0);
      EXPECT_EQ(results[2][i], 0);
    }
    EXPECT_EQ(results[1][1], -std::numeric_limits<double>::infinity());
    c.sink = Sinks::kNormal;
    CaseMemory with_sink(c);
    EXPECT_EQ(run(c, with_sink, options)[1][1], dense(with_sink.tensors().sink)[0]);
  }
}

// The matrices dominate: 2 (forward of Megatron's form: 1; gradients with dropout: 3) times batch
// heads N M elements.
TEST(Standard, WorkspaceHoldsTheMatrices) {
  const Case c = case_from_text("b=2 hq=4 hkv=2 n=1000 m=2000 d=64 e=64 dtype=bf16 seed=3");
  const int64_t matrix = 2 * 4 * 1000 * 2000 * 2;
  const auto matrices = [&](StandardForm form, bool with_backward, double dropout = 0) {
    StandardOptions options;
    options.form = form;
    options.with_backward = with_backward;
    options.threads = 1;
    Problem problem = problem_of(c);
    problem.dropout = dropout;
    return double(make_standard(problem, step_of(c), options).workspace_bytes()) / matrix;
  };
  EXPECT_NEAR(matrices(StandardForm::kStandard, true), 2, 0.1);
  EXPECT_NEAR(matrices(StandardForm::kStandard, false), 2, 0.1);
  EXPECT_NEAR(matrices(StandardForm::kMegatron, true), 2, 0.1);
  EXPECT_NEAR(matrices(StandardForm::kMegatron, false), 1, 0.1);
  EXPECT_NEAR(matrices(StandardForm::kStandard, true, 0.1), 3, 0.1);
  EXPECT_NEAR(matrices(StandardForm::kMegatron, false, 0.1), 1, 0.1);
}

TEST(Standard, UnknownIsaIsRefused) {
  StandardOptions options;
  options.isa = "sse9";
  Problem problem;
  problem.head_dim = 8;
  EXPECT_THROW((void)make_standard(problem, Step{}, options), InvalidArgument);
}

}  // namespace
}  // namespace tilewise
