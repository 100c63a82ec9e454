// SPDX-License-Identifier: Apache-2.0
// Contestants timed in turns: each round runs every one of them once, so that whatever else the
// machine does meets all alike.
#pragma once

#include <vector>

#include "cli/bench_data.h"
#include "cli/contestant.h"
#include "measure/rounds.h"

namespace tilewise::cli {

struct Times {
  measure::Samples forward;   // empty if it was not asked for
  measure::Samples backward;  // empty if it was not asked for
  measure::Samples total;     // of each round
};

enum class Pass { kForward, kBackward, kBoth };
[[nodiscard]] inline bool has_forward(Pass pass) { return pass != Pass::kBackward; }
[[nodiscard]] inline bool has_backward(Pass pass) { return pass != Pass::kForward; }

struct RaceLimits {
  int min_rounds = 3;
  int max_rounds = 1 << 20;
  double seconds = 0.5;  // of all contestants and rounds together; min_rounds comes first
};

// Warms every contestant up (a run, and a second one where it takes less than 50 ms), then times
// them. The backward is timed after an untimed forward if pass is kBackward.
[[nodiscard]] std::vector<Times> race(const std::vector<Contestant*>& contestants,
                                      const BenchData& data, Pass pass, const RaceLimits& limits);

}  // namespace tilewise::cli
