// SPDX-License-Identifier: Apache-2.0
#include "cli/report_sections.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "base/dtype.h"
#include "cli/bench_data.h"
#include "problem/validate.h"

namespace tilewise::cli {
namespace {

// Limits of one forward and backward of one implementation, predicted.
constexpr double kCallSeconds = 1.2;
constexpr double kExpectedFraction = 0.35;  // of peak
constexpr double kMemoryShare = 0.25;       // of the machine's

double machine_bytes() {
  return static_cast<double>(::sysconf(_SC_PHYS_PAGES)) *
         static_cast<double>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

double ReportContext::peak_gflops(DType dtype) const {
  for (const Peak& peak : peaks) {
    if (peak.dtype == dtype) return peak.gflops;
  }
  return 0;
}

std::vector<int64_t> ReportContext::lengths() const {
  std::vector<int64_t> result;
  for (int64_t length = 128; length <= max_length; length *= 2) result.push_back(length);
  return result;
}

Problem report_problem(int64_t heads, int64_t length, DType dtype, const Mask& mask) {
  Problem problem;
  problem.query_heads = heads;
  problem.max_query_length = length;
  problem.max_kv_length = length;
  problem.head_dim = kReportHeadDim;
  problem.dtype = dtype;
  problem.mask = mask;
  return normalized(problem, "report");
}

bool is_feasible(ReportContext& context, const std::string& section, Implementation implementation,
                 const Problem& problem) {
  if (implementation == Implementation::kTilewise) return true;
  Problem full = problem;
  full.mask = Mask();  // the standard form computes masked pairs too
  const double seconds = (forward_flops(full) + backward_flops(full)) /
                         (kExpectedFraction * context.peak_gflops(problem.dtype) * 1e9);
  const double bytes = static_cast<double>(matrix_bytes(problem));
  std::string reason;
  if (bytes > kMemoryShare * machine_bytes()) {
    reason = fmt::format("its matrices need {}, more than a quarter of the machine's memory",
                         bytes_text(bytes));
  } else if (seconds > kCallSeconds) {
    reason = fmt::format("one forward and backward would take about {}", duration_text(seconds));
  } else {
    return true;
  }
  context.not_run.push_back({{"section", section},
                             {"implementation", implementation_name(implementation)},
                             {"dtype", dtype_name(problem.dtype)},
                             {"mask", problem.mask.text()},
                             {"length", problem.max_query_length},
                             {"matrix_bytes", bytes},
                             {"reason", reason}});
  return false;
}

}  // namespace tilewise::cli
