// SPDX-License-Identifier: Apache-2.0
#include "cli/tune_race.h"

#include <time.h>

#include <algorithm>
#include <memory>

#include "cli/bench_data.h"
#include "cli/problem_options.h"
#include "engine/plan_data.h"
#include "kernels/cpu/registry.h"
#include "measure/comparison.h"
#include "measure/rounds.h"
#include "problem/validate.h"

namespace tilewise::cli {
namespace {

constexpr double kLeastGain = 0.02;  // less is not worth a line that differs from the model

// Of this thread: what neighbours take from it does not count.
double cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// A plan with some tiles, ready to run on this thread.
class Runner {
 public:
  Runner(const Problem& problem, const PlanOptions& options, const Geometry& tiles)
      : plan_(make_plan_with_tiles(problem, options, tiles)),
        schedule_(plan_.schedule(step_of(plan_.problem()))),
        workspace_(plan_) {}

  double run(const BenchData& data, bool is_backward) {
    const double start = cpu_seconds();
    if (is_backward) {
      plan_.backward(schedule_, data.backward_tensors(), workspace_);
    } else {
      plan_.forward(schedule_, data.forward_tensors(), workspace_);
    }
    return cpu_seconds() - start;
  }

 private:
  Plan plan_;
  Schedule schedule_;
  Workspace workspace_;
};

struct Race {
  const BenchData& data;
  bool is_backward;

  // seconds[i][round] of runners[i]; every round starts one further, so that no one always follows
  // the same.
  [[nodiscard]] std::vector<std::vector<double>> run(const std::vector<Runner*>& runners,
                                                     const TuneLimits& limits) const {
    std::vector<std::vector<double>> seconds(runners.size());
    for (Runner* runner : runners) (void)runner->run(data, is_backward);
    double total = 0;
    for (int round = 0; round < limits.max_rounds; ++round) {
      if (round >= limits.min_rounds && total >= limits.seconds / 2) break;
      for (size_t i = 0; i < runners.size(); ++i) {
        const size_t index = (i + static_cast<size_t>(round)) % runners.size();
        seconds[index].push_back(runners[index]->run(data, is_backward));
        total += seconds[index].back();
      }
    }
    return seconds;
  }
};

Geometry with_sizes(Geometry tiles, const TileSizes& sizes, bool is_backward) {
  (is_backward ? tiles.backward_query_tile : tiles.query_tile) = sizes.queries;
  (is_backward ? tiles.backward_key_tile : tiles.key_tile) = sizes.keys;
  return tiles;
}

TileSizes sizes_of(const Geometry& tiles, bool is_backward) {
  return is_backward ? TileSizes{tiles.backward_query_tile, tiles.backward_key_tile}
                     : TileSizes{tiles.query_tile, tiles.key_tile};
}

}  // namespace

std::vector<TileSizes> tile_candidates(const TileSizes& model, const TileSizes& unit,
                                       const TileSizes& max) {
  const auto scaled = [](int64_t size, int64_t halves, int64_t unit_size, int64_t most) {
    return std::clamp(size * halves / 2 / unit_size * unit_size, unit_size, most);
  };
  std::vector<TileSizes> candidates = {model};
  for (const int64_t queries : {2, 1, 4}) {
    for (const int64_t keys : {2, 1, 4}) {
      const TileSizes sizes = {scaled(model.queries, queries, unit.queries, max.queries),
                               scaled(model.keys, keys, unit.keys, max.keys)};
      if (std::find(candidates.begin(), candidates.end(), sizes) == candidates.end()) {
        candidates.push_back(sizes);
      }
    }
  }
  return candidates;
}

TuneResult tune_class(const TileClass& of, DType dtype, const TuneLimits& limits) {
  Problem problem;
  problem.max_query_length = problem.max_kv_length = limits.length;
  problem.head_dim = of.dim;
  problem.dtype = dtype;
  problem = normalized(problem);
  const PlanOptions options = {.isa = of.isa, .threads = 1, .executor = nullptr};
  const BenchData data(problem, 1, of.is_backward);
  const Kernel& kernel = *choose_kernels(of.isa).kernels[static_cast<int32_t>(dtype)];
  const Geometry model = model_geometry(kernel, of.dim, of.dim, this_machine());

  const std::vector<TileSizes> candidates =
      tile_candidates(sizes_of(model, of.is_backward), sizes_of(kernel.limits.unit, of.is_backward),
                      sizes_of(kernel.limits.max, of.is_backward));
  std::vector<std::unique_ptr<Runner>> owners;
  std::vector<Runner*> runners;
  for (const TileSizes& sizes : candidates) {
    owners.push_back(
        std::make_unique<Runner>(problem, options, with_sizes(model, sizes, of.is_backward)));
    runners.push_back(owners.back().get());
  }
  if (of.is_backward) {  // it reads the output of a forward
    Plan plan = make_plan_with_tiles(problem, options, model);
    Workspace workspace(plan);
    plan.forward(plan.schedule(step_of(problem)), data.forward_tensors(), workspace);
  }

  TuneResult result;
  result.of = of;
  result.model = result.tuned = candidates.front();
  result.candidates = static_cast<int>(candidates.size());
  const Race race = {data, of.is_backward};
  const auto seconds = race.run(runners, limits);
  result.rounds = static_cast<int>(seconds.front().size());
  size_t best = 0;
  double best_ratio = 1;
  for (size_t i = 1; i < candidates.size(); ++i) {
    const double ratio = measure::compare(seconds[0], seconds[i]).ratio;
    if (ratio < best_ratio) best = i, best_ratio = ratio;
  }
  if (best_ratio >= 1 - kLeastGain) return result;
  const auto again = race.run({runners[0], runners[best]}, limits);
  const measure::Comparison comparison = measure::compare(again[0], again[1]);
  if (!comparison.is_faster(kLeastGain)) return result;
  result.tuned = candidates[best];
  result.ratio = comparison.ratio;
  result.noise = comparison.noise;
  return result;
}

}  // namespace tilewise::cli
