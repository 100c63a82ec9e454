// SPDX-License-Identifier: Apache-2.0
#include "cli/race.h"

#include <cstddef>

namespace tilewise::cli {
namespace {

constexpr double kShortRun = 0.05;  // seconds

struct Seconds {
  std::vector<double> forward, backward, total;
};

double run_forward(Contestant& contestant, const BenchData& data) {
  return measure::time_once([&] { contestant.forward(data.forward_tensors()); });
}

double run_backward(Contestant& contestant, const BenchData& data) {
  return measure::time_once([&] { contestant.backward(data.backward_tensors()); });
}

void warm_up(Contestant& contestant, const BenchData& data, Pass pass) {
  double seconds = 0;
  for (int run = 0; run < 2 && seconds < kShortRun; ++run) {
    seconds += run_forward(contestant, data);
    if (has_backward(pass)) seconds += run_backward(contestant, data);
  }
}

// must_prepare: the output that the backward reads is not that of this contestant.
double run_round(Contestant& contestant, const BenchData& data, Pass pass, bool must_prepare,
                 Seconds& seconds) {
  double total = 0;
  if (has_forward(pass)) {
    total += run_forward(contestant, data);
    seconds.forward.push_back(total);
  } else if (must_prepare) {
    (void)run_forward(contestant, data);
  }
  if (has_backward(pass)) {
    seconds.backward.push_back(run_backward(contestant, data));
    total += seconds.backward.back();
  }
  seconds.total.push_back(total);
  return total;
}

}  // namespace

std::vector<Times> race(const std::vector<Contestant*>& contestants, const BenchData& data,
                        Pass pass, const RaceLimits& limits) {
  for (Contestant* contestant : contestants) warm_up(*contestant, data, pass);
  std::vector<Seconds> seconds(contestants.size());
  const bool must_prepare = contestants.size() > 1;
  double total = 0;
  for (int round = 0; round < limits.max_rounds; ++round) {
    if (round >= limits.min_rounds && total >= limits.seconds) break;
    for (size_t i = 0; i < contestants.size(); ++i) {
      total += run_round(*contestants[i], data, pass, must_prepare, seconds[i]);
    }
  }
  std::vector<Times> times;
  for (const Seconds& s : seconds) {
    times.push_back(
        {measure::Samples(s.forward), measure::Samples(s.backward), measure::Samples(s.total)});
  }
  return times;
}

}  // namespace tilewise::cli
