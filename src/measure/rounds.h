// SPDX-License-Identifier: Apache-2.0
// Repeated timing: what is measured returns its own seconds, so that set-up stays outside.
#pragma once

#include <functional>
#include <utility>
#include <vector>

namespace tilewise::measure {

// Seconds of each round, in order.
class Samples {
 public:
  Samples() = default;
  explicit Samples(std::vector<double> seconds) : seconds_(std::move(seconds)) {}
  [[nodiscard]] const std::vector<double>& seconds() const noexcept { return seconds_; }
  [[nodiscard]] double min() const;
  [[nodiscard]] double median() const { return percentile(50); }
  // The value at p percent of the sorted samples, linear in between. 0 if there are none.
  [[nodiscard]] double percentile(double p) const;

 private:
  std::vector<double> seconds_;
};

[[nodiscard]] double time_once(const std::function<void()>& body);
// body(thread) on `threads` threads that start together; seconds until the last one is done.
// Throws InvalidArgument if threads < 1, DeviceError if they cannot be started.
[[nodiscard]] double time_threads(int threads, const std::function<void(int)>& body);

// warm_up rounds that do not count, then at least `rounds` rounds and at least `seconds` in all.
[[nodiscard]] Samples time_rounds(const std::function<double()>& round, int rounds, double seconds,
                                  int warm_up = 1);

}  // namespace tilewise::measure
