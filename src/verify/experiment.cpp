// SPDX-License-Identifier: Apache-2.0
#include "verify/experiment.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <functional>
#include <numeric>

#include "base/dtype.h"
#include "kernels/reference/naive.h"
#include "kernels/reference/reference.h"
#include "problem/ragged.h"
#include "tilewise/plan.h"
#include "verify/case_memory.h"
#include "verify/case_results.h"

namespace tilewise::verify {
namespace {

constexpr size_t kAlignment = 64;

// What one result is judged by.
struct Expectation {
  std::string name;
  Result kind;
  Tensor tensor;
  std::vector<double> reference;
  Deviation naive;
};

template <class Results>
Expectation expect(const std::string& name, Result kind, const Tensor& tensor,
                   const std::vector<double>& reference, const std::vector<Results>& naive,
                   std::vector<double> Results::*member) {
  Expectation result{name, kind, tensor, reference, {}};
  bool is_first = true;
  for (const Results& results : naive) {
    const Deviation d = deviation(results.*member, reference, tensor.dtype, tensor.shape[3]);
    result.naive = is_first ? d : worse_of(result.naive, d);
    is_first = false;
  }
  return result;
}

Comparison compare(const Expectation& e, double largest_lse, double keep_scale) {
  const std::vector<double> actual = dense(e.tensor);
  Comparison result;
  result.name = e.name;
  result.naive = e.naive;
  result.error = deviation(actual, e.reference, e.tensor.dtype, e.tensor.shape[3]);
  result.allowed = bound(e.kind, e.tensor.dtype, e.naive, largest_lse, keep_scale);
  const int64_t at = result.error.misplaced >= 0 ? result.error.misplaced : result.error.worst;
  if (at < 0) return result;
  result.actual = actual[at];
  result.expected = e.reference[at];
  result.ulps = std::abs(result.actual - result.expected) / ulp(e.tensor.dtype, result.expected);
  int64_t rest = at;
  for (int axis = 3; axis >= 0; --axis) {
    result.index[axis] = rest % e.tensor.shape[axis];
    rest /= e.tensor.shape[axis];
  }
  return result;
}

}  // namespace

bool Comparison::passed() const {
  return error.misplaced < 0 && error.max <= allowed.max && error.rms <= allowed.rms;
}

std::string Comparison::text() const {
  char line[512];
  std::snprintf(line, sizeof line,
                "%s[%lld,%lld,%lld,%lld] is %.9g, expected %.9g (%.4g ulp); max error %.3g of %.3g "
                "allowed (naive %.3g), RMS error %.3g of %.3g (naive %.3g)",
                name.c_str(), static_cast<long long>(index[0]), static_cast<long long>(index[1]),
                static_cast<long long>(index[2]), static_cast<long long>(index[3]), actual,
                expected, ulps, error.max, allowed.max, naive.max, error.rms, allowed.rms,
                naive.rms);
  return line;
}

struct Experiment::State {
  explicit State(const Case& c) : problem_case(c), memory(c) {
    using reference::Gradients, reference::Outputs;
    const BackwardTensors& t = memory.tensors();
    const auto [exact, grad] = exact_results(memory);
    std::vector<Outputs> naive;
    std::vector<Gradients> naive_grad;
    for (double start : reference::kNaiveStarts) {
      CaseResults results = naive_results(memory, start);
      naive.push_back(std::move(results.outputs));
      naive_grad.push_back(std::move(results.gradients));
    }
    for (double lse : exact.logsumexp) {
      if (std::isfinite(lse)) largest_lse = std::max(largest_lse, std::abs(lse));
    }
    const auto add_output = [&, &exact = exact](const char* name, Result kind, const Tensor& tensor,
                                                std::vector<double> Outputs::*member) {
      forward_results.push_back(expect(name, kind, tensor, exact.*member, naive, member));
    };
    const auto add_gradient = [&, &grad = grad](const char* name, const Tensor& tensor,
                                                std::vector<double> Gradients::*member) {
      backward_results.push_back(
          expect(name, Result::kGradient, tensor, grad.*member, naive_grad, member));
    };
    add_output("output", Result::kOutput, t.output, &Outputs::output);
    add_output("logsumexp", Result::kLogsumexp, t.logsumexp, &Outputs::logsumexp);
    add_gradient("grad_query", t.grad_query, &Gradients::query);
    add_gradient("grad_key", t.grad_key, &Gradients::key);
    add_gradient("grad_value", t.grad_value, &Gradients::value);
    if (t.bias.data != nullptr) add_gradient("grad_bias", t.grad_bias, &Gradients::bias);
    if (t.sink.data != nullptr) {
      add_gradient("grad_sink", t.grad_sink, &Gradients::sink);
      Deviation& naive_sink = backward_results.back().naive;
      for (const Gradients& one : naive_grad)
        naive_sink = with_terms(naive_sink, one.sink_terms, grad.sink_terms, c.query_heads);
    }
    for (size_t i = 0; i < t.grad_tables.size(); ++i) {
      struct One {
        std::vector<double> values;
      };
      std::vector<One> ones;
      for (const Gradients& one : naive_grad) ones.push_back({one.tables[i]});
      backward_results.push_back(expect("grad_" + t.grad_tables[i].name, Result::kGradient,
                                        t.grad_tables[i].tensor, grad.tables[i], ones,
                                        &One::values));
      Deviation& naive_table = backward_results.back().naive;
      for (const Gradients& one : naive_grad)
        naive_table = with_terms(naive_table, one.table_terms[i], grad.table_terms[i],
                                 static_cast<int64_t>(grad.tables[i].size()));
    }
  }

  int64_t table_elements() const {
    int64_t sum = 0;
    for (const NamedTensor& table : memory.tensors().tables)
      sum += std::accumulate(table.tensor.shape, table.tensor.shape + 4, int64_t{1},
                             std::multiplies<>());
    return sum;
  }

  Problem problem() const {
    const Case& c = problem_case;
    Problem problem;
    problem.query_heads = c.query_heads, problem.kv_heads = c.kv_heads;
    problem.max_batch = c.batch;
    problem.max_query_length = c.query_length, problem.max_kv_length = c.kv_length;
    if (!c.lengths.empty()) {
      const Step step = memory.step();
      problem.max_query_length = longest_sequence(step.query_starts);
      problem.max_kv_length = longest_sequence(step.key_starts);
      problem.max_total_queries = total_length(step.query_starts);
    }
    problem.head_dim = c.head_dim, problem.value_dim = c.value_dim;
    problem.dtype = c.dtype;
    problem.mask = mask_from_text(c.mask);
    problem.score = score_from_text(c.score);
    if (c.scale > 0) problem.scale = c.scale;
    problem.has_bias = c.bias != "none";
    problem.dropout = c.dropout;
    problem.has_sink = c.sink != Sinks::kNone;
    problem.same_bits_as_prefill = c.same_bits_as_prefill;
    problem.max_table_elements = std::max(problem.max_table_elements, table_elements());
    return problem;
  }

  // False, with the reason in verdict, at the first pass whose results are wrong.
  bool judge(const std::vector<Expectation>& results, Verdict& verdict) const {
    for (const Expectation& e : results) {
      verdict.comparisons.push_back(compare(e, largest_lse, 1 / (1 - problem_case.dropout)));
      if (verdict.failure.empty() && !verdict.comparisons.back().passed()) {
        verdict.failure = verdict.comparisons.back().text();
      }
    }
    const std::string damaged = memory.output_with_damaged_gap();
    if (verdict.failure.empty() && !damaged.empty()) {
      verdict.failure = damaged + ": bytes between its elements were overwritten";
    }
    return verdict.failure.empty();
  }

  Case problem_case;
  CaseMemory memory;
  double largest_lse = 0;
  std::vector<Expectation> forward_results, backward_results;
};

Experiment::Experiment(const Case& c) : state_(std::make_unique<State>(c)) {}
Experiment::~Experiment() = default;

Verdict Experiment::run(const std::string& isa, int threads, bool with_backward) {
  Verdict verdict;
  const Case& c = state_->problem_case;
  try {
    PlanOptions options;
    options.isa = isa;
    options.threads = threads;
    const Plan plan = make_plan(state_->problem(), options);
    const Schedule schedule = plan.schedule(state_->memory.step());
    const size_t bytes = (plan.workspace_bytes() + kAlignment - 1) / kAlignment * kAlignment;
    const GuardedMemory memory(bytes, c.flush);
    Workspace workspace(memory.data(), bytes);
    state_->memory.poison_outputs();
    plan.forward(schedule, state_->memory.forward_tensors(), workspace);
    if (!state_->judge(state_->forward_results, verdict) || !with_backward) return verdict;
    plan.backward(schedule, state_->memory.tensors(), workspace);
    state_->judge(state_->backward_results, verdict);
  } catch (const std::exception& error) {
    verdict.failure = error.what();
  }
  return verdict;
}

}  // namespace tilewise::verify
