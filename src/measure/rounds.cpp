// SPDX-License-Identifier: Apache-2.0
#include "measure/rounds.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <string>
#include <system_error>
#include <thread>

#include "base/message.h"
#include "tilewise/error.h"

namespace tilewise::measure {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

double Samples::min() const { return percentile(0); }

double Samples::percentile(double p) const {
  if (seconds_.empty()) return 0;
  std::vector<double> sorted = seconds_;
  std::sort(sorted.begin(), sorted.end());
  const double position = std::clamp(p / 100, 0.0, 1.0) * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(position);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], position - static_cast<double>(below));
}

double time_once(const std::function<void()>& body) {
  const Clock::time_point start = Clock::now();
  body();
  return seconds_since(start);
}

double time_threads(int threads, const std::function<void(int)>& body) {
  if (threads < 1) {
    throw InvalidArgument(
        message("time_threads", "threads", std::to_string(threads), "at least 1"));
  }
  if (threads == 1) return time_once([&] { body(0); });
  enum : int { kWait, kGo, kGiveUp };
  std::atomic<int> signal{kWait};
  std::atomic<int> ready{0};
  std::vector<std::thread> workers;
  const auto join = [&] {
    for (std::thread& worker : workers) worker.join();
  };
  try {
    for (int w = 1; w < threads; ++w) {
      workers.emplace_back([&, w] {
        ready.fetch_add(1);
        while (signal.load() == kWait) std::this_thread::yield();
        if (signal.load() == kGo) body(w);
      });
    }
  } catch (const std::system_error& error) {
    signal.store(kGiveUp);
    join();
    throw DeviceError("time_threads: cannot start " + std::to_string(threads) +
                      " threads: " + error.what());
  }
  while (ready.load() < threads - 1) std::this_thread::yield();
  const Clock::time_point start = Clock::now();
  signal.store(kGo);
  body(0);
  join();
  return seconds_since(start);
}

Samples time_rounds(const std::function<double()>& round, int rounds, double seconds, int warm_up) {
  for (int i = 0; i < warm_up; ++i) (void)round();
  std::vector<double> samples;
  double total = 0;
  while (static_cast<int>(samples.size()) < rounds || total < seconds) {
    samples.push_back(round());
    total += samples.back();
  }
  return Samples(std::move(samples));
}

}  // namespace tilewise::measure
