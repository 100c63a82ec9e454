// SPDX-License-Identifier: Apache-2.0
// Resident memory against length. Every case runs in a child process, whose peak (VmHWM, which a
// fork starts at what is resident then) minus what it had at its start is what attention needed:
// tensors, workspace, and all that nobody counted.
#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <optional>
#include <string>

#include "base/dtype.h"
#include "cli/bench_data.h"
#include "cli/report_sections.h"
#include "measure/memory.h"
#include "tilewise/error.h"

namespace tilewise::cli {
namespace {

MemoryPeaks measure_case(Implementation implementation, const Problem& problem, uint64_t seed,
                         const PlanOptions& options) {
  const int64_t start = measure::resident_bytes();
  MemoryPeaks peaks;
  {
    const BenchData data(problem, seed, false);
    const auto contestant = make_contestant(implementation, problem, false, options);
    contestant->forward(data.forward_tensors());
    peaks.forward_tensor_bytes = data.tensor_bytes();
    peaks.forward_bytes = measure::peak_resident_bytes() - start;
  }
  const BenchData data(problem, seed, true);
  const auto contestant = make_contestant(implementation, problem, true, options);
  contestant->forward(data.forward_tensors());
  contestant->backward(data.backward_tensors());
  peaks.total_bytes = measure::peak_resident_bytes() - start;
  peaks.tensor_bytes = data.tensor_bytes();
  peaks.own_bytes =
      contestant->own_bytes() + (contestant->needs_logsumexp() ? data.logsumexp_bytes() : 0);
  return peaks;
}

// The answer of a child process that computes it; nothing if the child failed.
template <class Result, class Work>
std::optional<Result> in_child(const Work& work) {
  int ends[2];
  if (::pipe(ends) != 0) throw DeviceError("report: no pipe to a child process");
  std::fflush(nullptr);
  malloc_trim(0);  // the child must not use unseen what was freed and is still resident
  const pid_t child = ::fork();
  if (child < 0) throw DeviceError("report: no child process could be started");
  if (child == 0) {
    int status = 1;
    try {
      const Result result = work();
      if (::write(ends[1], &result, sizeof result) == sizeof result) status = 0;
    } catch (const std::exception& error) {
      std::fprintf(stderr, "tilewise report: %s\n", error.what());
    }
    ::_exit(status);
  }
  ::close(ends[1]);
  Result result;
  const bool complete = ::read(ends[0], &result, sizeof result) == sizeof result;
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  return complete && status == 0 ? std::optional(result) : std::nullopt;
}

}  // namespace

std::optional<MemoryPeaks> measure_memory(const ReportContext& context,
                                          Implementation implementation, const Problem& problem) {
  return in_child<MemoryPeaks>(
      [&] { return measure_case(implementation, problem, context.seed, context.plan); });
}

Json report_memory(ReportContext& context) {
  Json results = Json::array();
  if (measure::peak_resident_bytes() == 0) {
    context.not_run.push_back(
        {{"section", "memory"},
         {"reason", "this system does not tell how much memory is resident"}});
    return results;
  }
  for (const DType dtype : kReportDTypes) {
    for (const Mask& mask : {Mask(), causal()}) {
      for (const int64_t length : context.lengths()) {
        context.progress->stage("memory, " + std::string(dtype_name(dtype)) + ", " + mask.text() +
                                ", length " + std::to_string(length));
        const Problem problem = report_problem(1, length, dtype, mask);
        for (const Implementation implementation : kRivals) {
          if (!is_feasible(context, "memory", implementation, problem)) continue;
          const auto peaks = measure_memory(context, implementation, problem);
          if (!peaks) {
            context.not_run.push_back({{"section", "memory"},
                                       {"implementation", implementation_name(implementation)},
                                       {"dtype", dtype_name(dtype)},
                                       {"mask", mask.text()},
                                       {"length", length},
                                       {"reason", "the process failed"}});
            continue;
          }
          results.push_back({{"dtype", dtype_name(dtype)},
                             {"mask", mask.text()},
                             {"length", length},
                             {"heads", 1},
                             {"implementation", implementation_name(implementation)},
                             {"forward_tensor_bytes", peaks->forward_tensor_bytes},
                             {"tensor_bytes", peaks->tensor_bytes},
                             {"extra_bytes", peaks->own_bytes},
                             {"forward_peak_bytes", peaks->forward_bytes},
                             {"total_peak_bytes", peaks->total_bytes}});
        }
      }
    }
  }
  return results;
}

}  // namespace tilewise::cli
