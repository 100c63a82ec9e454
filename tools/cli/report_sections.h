// SPDX-License-Identifier: Apache-2.0
// The sections of report.json, one function each. Every number has its unit in its name; times are
// medians. tools/report/page.py draws them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/accuracy.h"
#include "cli/contestant.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "tilewise/plan.h"

namespace tilewise::cli {

struct Peak {
  DType dtype = DType::kFloat32;
  double gflops = 0;
};

// What every section needs to know. Sections append to not_run what they left out, and why.
struct ReportContext {
  bool is_quick = false;
  int64_t max_length = 16384;
  uint64_t seed = 1;
  PlanOptions plan = {};
  std::vector<Peak> peaks;  // measured before the first section
  Progress* progress = nullptr;
  Json not_run = Json::array();

  [[nodiscard]] double peak_gflops(DType dtype) const;
  // 128, 256, ... up to max_length.
  [[nodiscard]] std::vector<int64_t> lengths() const;
};

inline constexpr int64_t kReportHeadDim = 64;
inline constexpr DType kReportDTypes[] = {DType::kFloat32, DType::kBFloat16};
inline constexpr Implementation kRivals[] = {Implementation::kTilewise, Implementation::kStandard,
                                             Implementation::kMegatron};

// One head dim everywhere; batch 1. Normalized.
[[nodiscard]] Problem report_problem(int64_t heads, int64_t length, DType dtype, const Mask& mask);

// False for an implementation that would not fit into memory or into the time of a report; the
// first such length of each kind is noted in not_run.
[[nodiscard]] bool is_feasible(ReportContext& context, const std::string& section,
                               Implementation implementation, const Problem& problem);

// The tensors of a file. `mask_text`: empty for the file's own (metadata "mask"), else causal.
// Throws InvalidArgument for what is not attention.
struct ReportInput;
[[nodiscard]] std::shared_ptr<const ReportInput> load_report_input(const std::string& file,
                                                                   const std::string& mask_text);
// Errors of O and the gradients in every dtype, Tilewise and naive, and the speed.
[[nodiscard]] Json report_input(ReportContext& context, const ReportInput& input);
[[nodiscard]] Json errors_json(const std::string& dtype, const std::vector<Accuracy>& errors);
// Forward and backward against length.
[[nodiscard]] Json report_runtime(ReportContext& context);
// What a forward and a backward hold at most, by the resident memory of a process of their own.
struct MemoryPeaks {
  int64_t forward_tensor_bytes = 0;  // inputs and output
  int64_t tensor_bytes = 0;          // and gradients
  int64_t own_bytes = 0;  // counted: workspace, logsumexp, and matrices of the standard form
  int64_t forward_bytes = 0;
  int64_t total_bytes = 0;
};
// Nothing if the process failed.
[[nodiscard]] std::optional<MemoryPeaks> measure_memory(const ReportContext& context,
                                                        Implementation implementation,
                                                        const Problem& problem);
// Resident memory against length, each case in a process of its own.
[[nodiscard]] Json report_memory(ReportContext& context);
// Attention of GPT-2 in training, with dropout, the case of [Dao22] Figure 1.
[[nodiscard]] Json report_gpt2(ReportContext& context);
// Short sequences, one at a time.
[[nodiscard]] Json report_latency(ReportContext& context);
// Words moved: formula and count; and through a simulated cache.
[[nodiscard]] Json report_io(ReportContext& context);
// Time and words against the tile sizes of the forward: [Dao22] Figure 2, middle.
[[nodiscard]] Json report_blocks(ReportContext& context);
// Masks of the language: time and words against density, and the time to schedule long sequences.
[[nodiscard]] Json report_masks(ReportContext& context);

}  // namespace tilewise::cli
