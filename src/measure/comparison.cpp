// SPDX-License-Identifier: Apache-2.0
#include "measure/comparison.h"

#include <algorithm>
#include <cmath>

#include "measure/rounds.h"

namespace tilewise::measure {

Comparison compare(const std::vector<double>& base, const std::vector<double>& other) {
  std::vector<double> ratios, deviations;
  for (size_t i = 0; i < std::min(base.size(), other.size()); ++i) {
    ratios.push_back(other[i] / base[i]);
  }
  if (ratios.empty()) return {};
  Comparison result;
  result.ratio = Samples(ratios).median();
  for (const double ratio : ratios) deviations.push_back(std::abs(ratio - result.ratio));
  // 1.4826 times the median deviation estimates the standard deviation of normal noise, and the
  // median of n has 1.2533 / sqrt(n) of it; outliers move neither.
  result.noise = 1.4826 * 1.2533 * Samples(deviations).median() /
                 std::sqrt(static_cast<double>(ratios.size()));
  return result;
}

}  // namespace tilewise::measure
