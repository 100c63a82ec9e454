// SPDX-License-Identifier: Apache-2.0
// The tiles of a plan: what `tilewise tune` found on this machine, else what the model says.
#pragma once

#include <string>

#include "kernels/cpu/kernel_table.h"
#include "schedule/machine.h"
#include "schedule/tuning.h"

namespace tilewise {

// The tuning file that TILEWISE_TUNING or the user's configuration folder names.
struct FoundTuning {
  std::string file;     // "": none exists, or TILEWISE_TUNING=none
  std::string ignored;  // why the file is not used; "" if it is
  Tuning tuning = {};
  [[nodiscard]] bool is_used() const noexcept { return !file.empty() && ignored.empty(); }
};

// Reads it. A file that TILEWISE_TUNING names must be valid (else InvalidArgument) and is used
// wherever it was made; one that only lies in the configuration folder is ignored if it is invalid
// or of another machine.
[[nodiscard]] FoundTuning find_tuning();

// What is_used() means, in a line for people.
[[nodiscard]] std::string tuning_in_words(const FoundTuning& found);

// Throws InvalidArgument unless the kernels of this build and CPU can take every size.
void validate_tuning(const Tuning& tuning, const std::string& file);

struct PlanTiles {
  Geometry geometry{};
  bool is_forward_tuned = false;
  bool is_backward_tuned = false;
  std::string tuning;  // tuning_in_words
};
[[nodiscard]] PlanTiles choose_tiles(const std::string& isa, const Kernel& kernel, int64_t head_dim,
                                     int64_t value_dim, const Machine& machine,
                                     const FoundTuning& found);

}  // namespace tilewise
