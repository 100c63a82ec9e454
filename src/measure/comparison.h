// SPDX-License-Identifier: Apache-2.0
// Whether one thing is faster than another on a noisy machine, from runs in turns.
#pragma once

#include <vector>

namespace tilewise::measure {

struct Comparison {
  double ratio =
      1;  // median over rounds of other / base: what a round disturbs, it disturbs in both
  double noise = 0;  // standard error of that median, from the spread of the ratios
  // Faster by more than chance (3 standard errors) and by a part that matters.
  [[nodiscard]] bool is_faster(double least_gain) const noexcept {
    return ratio < 1 - least_gain && ratio < 1 - 3 * noise;
  }
};

// base[i] and other[i] are seconds of the same round. Of no rounds: equal.
[[nodiscard]] Comparison compare(const std::vector<double>& base, const std::vector<double>& other);

}  // namespace tilewise::measure
