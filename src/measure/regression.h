// SPDX-License-Identifier: Apache-2.0
// Has a case become slower? Speeds are fractions of a peak measured beside them; both sides are
// noisy, and what they varied by says how much.
#pragma once

#include <vector>

namespace tilewise::measure {

// Over repeated runs.
struct Speed {
  double median = 0;
  double low = 0;
  double high = 0;
};
[[nodiscard]] Speed speed_of(const std::vector<double>& runs);  // at least one run

enum class Verdict {
  kSame,
  kFaster,
  kSlower,
  kUnclear,  // no difference beyond the noise, but so much noise that one may hide
};
[[nodiscard]] const char* verdict_name(Verdict verdict) noexcept;  // "same", "faster", ...

// What a difference of medians must exceed to mean anything: the wider of both spreads, and never
// less than 2% of the recorded median, which three runs on an idle machine may differ by.
[[nodiscard]] double noise_of(const Speed& recorded, const Speed& measured) noexcept;
[[nodiscard]] Verdict compare_speeds(const Speed& recorded, const Speed& measured) noexcept;

}  // namespace tilewise::measure
