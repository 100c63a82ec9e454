// SPDX-License-Identifier: Apache-2.0
// Attention of GPT-2 in training: causal, dropout 0.1, forward and backward. Time, memory and
// error, Tilewise with and without dropout and the standard forms with it. bench/peers.py races
// PyTorch in the same case.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "cli/accuracy.h"
#include "cli/problem_options.h"
#include "cli/race.h"
#include "cli/report_sections.h"
#include "problem/validate.h"

namespace tilewise::cli {
namespace {

constexpr double kDropout = 0.1;
constexpr int64_t kLength = 1024, kMemoryLength = 4096;

Problem gpt2_problem(int64_t batch, int64_t length, DType dtype) {
  Problem problem = report_problem(16, length, dtype, causal());
  problem.max_batch = batch;
  problem.max_total_queries = 0;  // as many as these
  problem.dropout = kDropout;
  return normalized(problem, "report");
}

// The same attention without dropout, in one race with the others.
class WithoutDropout : public Contestant {
 public:
  explicit WithoutDropout(std::unique_ptr<Contestant> inner) : inner_(std::move(inner)) {}
  void forward(const ForwardTensors& tensors) override {
    ForwardTensors without = tensors;
    without.dropout_seed.reset();
    inner_->forward(without);
  }
  void backward(const BackwardTensors& tensors) override {
    BackwardTensors without = tensors;
    without.dropout_seed.reset();
    inner_->backward(without);
  }
  [[nodiscard]] int64_t own_bytes() const noexcept override { return inner_->own_bytes(); }
  [[nodiscard]] bool needs_logsumexp() const noexcept override { return inner_->needs_logsumexp(); }
  [[nodiscard]] std::string isa() const override { return inner_->isa(); }
  [[nodiscard]] int threads() const noexcept override { return inner_->threads(); }

 private:
  std::unique_ptr<Contestant> inner_;
};

Json times_of(ReportContext& context, const Problem& problem) {
  Problem without = problem;
  without.dropout = 0;
  std::vector<std::unique_ptr<Contestant>> contestants;
  std::vector<Contestant*> pointers;
  Json rows = Json::array();
  const auto enter = [&](std::unique_ptr<Contestant> contestant, Implementation implementation,
                         double dropout) {
    contestants.push_back(std::move(contestant));
    pointers.push_back(contestants.back().get());
    rows.push_back({{"dtype", dtype_name(problem.dtype)},
                    {"implementation", implementation_name(implementation)},
                    {"dropout", dropout}});
  };
  for (const Implementation implementation : kRivals) {
    if (!is_feasible(context, "gpt2", implementation, problem)) continue;
    enter(make_contestant(implementation, problem, true, context.plan), implementation, kDropout);
  }
  enter(std::make_unique<WithoutDropout>(
            make_contestant(Implementation::kTilewise, without, true, context.plan)),
        Implementation::kTilewise, 0);
  const BenchData data(problem, context.seed, true);
  const RaceLimits limits = context.is_quick
                                ? RaceLimits{.min_rounds = 2, .seconds = 0.1}
                                : RaceLimits{.min_rounds = 5, .max_rounds = 25, .seconds = 4};
  const std::vector<Times> times = race(pointers, data, Pass::kBoth, limits);
  for (size_t i = 0; i < times.size(); ++i) {
    rows[i]["forward_ms"] = times[i].forward.median() * 1e3;
    rows[i]["backward_ms"] = times[i].backward.median() * 1e3;
    rows[i]["total_ms"] = times[i].total.median() * 1e3;
  }
  return rows;
}

Json errors_of(ReportContext& context, const Problem& problem) {
  const AccuracyCheck check(problem, step_of(problem), context.seed);
  const BenchData data(problem, context.seed, true);
  const auto tilewise = make_contestant(Implementation::kTilewise, problem, true, context.plan);
  const std::string dtype = dtype_name(problem.dtype);
  check.keep_sampled_rows(data.backward_tensors().grad_output);
  tilewise->forward(data.forward_tensors());
  tilewise->backward(data.backward_tensors());
  Json errors = errors_json(dtype, check.forward(data.forward_tensors()));
  for (const Json& error : errors_json(dtype, check.backward(data.backward_tensors())))
    errors.push_back(error);
  return errors;
}

Json memory_of(ReportContext& context, const Problem& problem) {
  Json rows = Json::array();
  for (const Implementation implementation : kRivals) {
    if (!is_feasible(context, "gpt2", implementation, problem)) continue;
    const auto peaks = measure_memory(context, implementation, problem);
    if (!peaks) continue;
    rows.push_back({{"dtype", dtype_name(problem.dtype)},
                    {"implementation", implementation_name(implementation)},
                    {"batch", problem.max_batch},
                    {"length", problem.max_query_length},
                    {"tensor_bytes", peaks->tensor_bytes},
                    {"total_peak_bytes", peaks->total_bytes}});
  }
  return rows;
}

}  // namespace

Json report_gpt2(ReportContext& context) {
  const int64_t length = std::min(kLength, context.max_length);
  Json result = {{"batch", 4},
                 {"heads", 16},
                 {"length", length},
                 {"head_dim", kReportHeadDim},
                 {"mask", "causal"},
                 {"dropout", kDropout},
                 {"times", Json::array()},
                 {"errors", Json::array()}};
  for (const DType dtype : kReportDTypes) {
    context.progress->stage(std::string("GPT-2 with dropout, ") + dtype_name(dtype));
    const Problem problem = gpt2_problem(4, length, dtype);
    for (const Json& row : times_of(context, problem)) result["times"].push_back(row);
    for (const Json& row : errors_of(context, problem)) result["errors"].push_back(row);
  }
  result["memory"] = memory_of(
      context, gpt2_problem(2, std::min(kMemoryLength, context.max_length), DType::kBFloat16));
  return result;
}

}  // namespace tilewise::cli
