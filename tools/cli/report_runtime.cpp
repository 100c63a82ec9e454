// SPDX-License-Identifier: Apache-2.0
// Time against length, and latency of short sequences.
#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "cli/race.h"
#include "cli/report_sections.h"

namespace tilewise::cli {
namespace {

// One call of forward and backward of Tilewise without a mask is to take about this long, by the
// choice of the number of heads.
constexpr double kCallSeconds = 0.04;
constexpr double kQuickCallSeconds = 0.01;
constexpr double kExpectedFraction = 0.6;  // of peak: only to choose the number of heads
constexpr int64_t kMaxHeads = 256;

constexpr int64_t kLatencyHeads = 8;
constexpr int kLatencyCalls = 100;  // at least: the 99th percentile is then a measured call

int64_t choose_heads(const ReportContext& context, int64_t length, DType dtype) {
  const Problem one = report_problem(1, length, dtype, Mask());
  const double seconds = context.is_quick ? kQuickCallSeconds : kCallSeconds;
  const double flops = seconds * kExpectedFraction * context.peak_gflops(dtype) * 1e9;
  const double heads = flops / (forward_flops(one) + backward_flops(one));
  return std::clamp<int64_t>(std::llround(heads), 1, kMaxHeads);
}

Json time_json(const Problem& problem, Implementation implementation, const Times& times) {
  const double forward = times.forward.median(), backward = times.backward.median();
  return {{"dtype", dtype_name(problem.dtype)},
          {"mask", problem.mask.text()},
          {"length", problem.max_query_length},
          {"heads", problem.query_heads},
          {"implementation", implementation_name(implementation)},
          {"rounds", times.total.seconds().size()},
          {"forward_ms", forward * 1e3},
          {"backward_ms", backward * 1e3},
          {"total_ms", times.total.median() * 1e3},
          {"forward_gflops", forward_flops(problem) / forward * 1e-9},
          {"backward_gflops", backward_flops(problem) / backward * 1e-9}};
}

void race_one(ReportContext& context, const Problem& problem, const BenchData& data,
              Json& results) {
  std::vector<std::unique_ptr<Contestant>> contestants;
  std::vector<Contestant*> pointers;
  std::vector<Implementation> names;
  for (const Implementation implementation : kRivals) {
    if (!is_feasible(context, "runtime", implementation, problem)) continue;
    contestants.push_back(make_contestant(implementation, problem, true, context.plan));
    pointers.push_back(contestants.back().get());
    names.push_back(implementation);
  }
  const RaceLimits limits = context.is_quick
                                ? RaceLimits{.min_rounds = 2, .seconds = 0.1}
                                : RaceLimits{.min_rounds = 3, .max_rounds = 25, .seconds = 0.6};
  const std::vector<Times> times = race(pointers, data, Pass::kBoth, limits);
  for (size_t i = 0; i < times.size(); ++i) {
    results.push_back(time_json(problem, names[i], times[i]));
  }
}

Json latency_of(ReportContext& context, int64_t length, DType dtype) {
  const Problem problem = report_problem(kLatencyHeads, length, dtype, causal());
  const BenchData data(problem, context.seed, false);
  const double seconds = context.is_quick ? 0.05 : 0.3;  // of each contestant
  const ForwardTensors tensors = data.forward_tensors();
  Json results = Json::array();
  for (const Implementation implementation : kRivals) {
    const auto contestant = make_contestant(implementation, problem, false, context.plan);
    const auto call = [&] { return measure::time_once([&] { contestant->forward(tensors); }); };
    const measure::Samples calls = measure::time_rounds(call, kLatencyCalls, seconds, 3);
    results.push_back({{"dtype", dtype_name(dtype)},
                       {"mask", problem.mask.text()},
                       {"length", length},
                       {"heads", kLatencyHeads},
                       {"implementation", implementation_name(implementation)},
                       {"calls", calls.seconds().size()},
                       {"median_us", calls.median() * 1e6},
                       {"p99_us", calls.percentile(99) * 1e6}});
  }
  return results;
}

}  // namespace

Json report_runtime(ReportContext& context) {
  Json results = Json::array();
  for (const DType dtype : kReportDTypes) {
    for (const int64_t length : context.lengths()) {
      context.progress->stage("runtime, " + std::string(dtype_name(dtype)) + ", length " +
                              std::to_string(length));
      const int64_t heads = choose_heads(context, length, dtype);
      const BenchData data(report_problem(heads, length, dtype, Mask()), context.seed, true);
      for (const Mask& mask : {Mask(), causal()}) {
        race_one(context, report_problem(heads, length, dtype, mask), data, results);
      }
    }
  }
  return results;
}

Json report_latency(ReportContext& context) {
  Json results = Json::array();
  for (const DType dtype : kReportDTypes) {
    for (int64_t length = 64; length <= std::min<int64_t>(512, context.max_length); length *= 2) {
      context.progress->stage("latency, " + std::string(dtype_name(dtype)) + ", length " +
                              std::to_string(length));
      for (const Json& result : latency_of(context, length, dtype)) results.push_back(result);
    }
  }
  return results;
}

}  // namespace tilewise::cli
