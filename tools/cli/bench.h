// SPDX-License-Identifier: Apache-2.0
// tilewise bench: time, memory and error of one problem.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "cli/accuracy.h"
#include "cli/contestant.h"
#include "cli/problem_options.h"
#include "cli/progress.h"
#include "cli/race.h"

namespace tilewise::cli {

struct BenchOptions {
  ProblemOptions problem;
  Pass pass = Pass::kForward;
  Implementation implementation = Implementation::kTilewise;
  int rounds = 5;
  uint64_t seed = 1;
  bool compares_errors = true;  // else the result has none
};

struct BenchResult {
  std::string isa;
  int threads = 0;
  Times times;
  double gflops = 0;
  double peak_before = 0, peak_after = 0;  // GFLOP/s
  int64_t tensor_bytes = 0, extra_bytes = 0;
  // Few queries against many keys: reading K and V is what costs. 0: not of this kind.
  double kv_gbytes_per_second = 0, read_gbytes_per_second = 0;
  int64_t rows_compared = 0;
  std::vector<Accuracy> errors;

  double peak() const { return std::max(peak_before, peak_after); }
  double fraction_of_peak() const { return gflops / peak(); }
  double fraction_of_read() const { return kv_gbytes_per_second / read_gbytes_per_second; }
  // The tensor that uses up most of its bound: its errors stand for all.
  const Accuracy& worst() const {
    return *std::max_element(errors.begin(), errors.end(), [](const auto& a, const auto& b) {
      return a.bound_used() < b.bound_used();
    });
  }
};

[[nodiscard]] const char* pass_name(Pass pass);
[[nodiscard]] Pass pass_from_name(const std::string& text);  // InvalidArgument

// problem: options.problem, normalized.
[[nodiscard]] BenchResult measure_problem(const BenchOptions& options, const Problem& problem,
                                          Progress& progress);

void register_bench(CLI::App& app, int& exit_code);

}  // namespace tilewise::cli
