// SPDX-License-Identifier: Apache-2.0
// The problem that bench and explain are about, as options.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <vector>

#include "cli/tables.h"
#include "tilewise/plan.h"
#include "tilewise/problem.h"

namespace tilewise::cli {

// After parsing: as the user wrote it, to be filled in and checked by normalized() or make_plan().
// One step has max_batch and the largest lengths.
struct ProblemOptions {
  Problem problem;
  PlanOptions plan;
  Tables tables;
  std::vector<int64_t> starts;  // of --lengths: a ragged batch; else empty
};

// --batch --heads --kv-heads --seq --kv-seq --head-dim --value-dim --dtype --mask --score --table
// --scalar --scale --dropout --sink --same-bits-as-prefill --isa --threads. --seq and --head-dim
// are required.
void add_problem(CLI::App& app, ProblemOptions& options);

// --lengths in place of --batch, --seq and --kv-seq. After add_problem().
void add_lengths(CLI::App& app, ProblemOptions& options);

// The one step of the problem.
[[nodiscard]] Step step_of(const Problem& problem, const Tables& tables = {});
[[nodiscard]] Step step_of(const Problem& problem, const ProblemOptions& options);

}  // namespace tilewise::cli
