// SPDX-License-Identifier: Apache-2.0
#include "measure/regression.h"

#include <algorithm>

#include "measure/rounds.h"

namespace tilewise::measure {
namespace {

constexpr double kLeastNoise = 0.02;    // of the recorded median
constexpr double kUnclearNoise = 0.10;  // of it: a change of a tenth is what one looks for

}  // namespace

Speed speed_of(const std::vector<double>& runs) {
  return {Samples(runs).median(), *std::min_element(runs.begin(), runs.end()),
          *std::max_element(runs.begin(), runs.end())};
}

const char* verdict_name(Verdict verdict) noexcept {
  static constexpr const char* kNames[] = {"same", "faster", "slower", "unclear"};
  return kNames[static_cast<int>(verdict)];
}

double noise_of(const Speed& recorded, const Speed& measured) noexcept {
  return std::max(
      {recorded.high - recorded.low, measured.high - measured.low, kLeastNoise * recorded.median});
}

Verdict compare_speeds(const Speed& recorded, const Speed& measured) noexcept {
  const double noise = noise_of(recorded, measured), gain = measured.median - recorded.median;
  if (gain < -noise) return Verdict::kSlower;
  if (gain > noise) return Verdict::kFaster;
  return noise > kUnclearNoise * recorded.median ? Verdict::kUnclear : Verdict::kSame;
}

}  // namespace tilewise::measure
