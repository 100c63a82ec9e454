// SPDX-License-Identifier: Apache-2.0
// Words moved between slow and fast memory: by formula, counted on the tile rows that the kernels
// walk, and through a simulated cache.
#include <algorithm>
#include <string>

#include "cli/problem_options.h"
#include "cli/report_sections.h"
#include "engine/plan_data.h"
#include "schedule/cache_sim.h"
#include "schedule/count.h"
#include "schedule/io_model.h"
#include "schedule/tile_counts.h"

namespace tilewise::cli {
namespace {

constexpr int64_t kCacheLength = 1024;

io_model::Sizes sizes_of(int64_t length) {
  return {.batch = 1,
          .query_heads = 1,
          .kv_heads = 1,
          .query_length = length,
          .kv_length = length,
          .head_dim = kReportHeadDim,
          .value_dim = kReportHeadDim};
}

Json count_json(const Mask& mask, int64_t length, Implementation implementation, const char* pass,
                const io_model::Words& formula, const io_model::Counter& counter) {
  const io_model::Words counted = counter.total();
  return {{"mask", mask.text()},
          {"length", length},
          {"implementation", implementation_name(implementation)},
          {"pass", pass},
          {"formula_words", formula.total()},
          {"counted_words", counted.total()},
          {"equal", formula == counted}};
}

void count_tilewise(ReportContext& context, const Mask& mask, int64_t length, Json& results) {
  const Plan plan = make_plan(report_problem(1, length, DType::kFloat32, mask), context.plan);
  const Schedule schedule = plan.schedule(step_of(plan.problem()));
  const Schedule::Data& data = schedule.data();
  const Geometry& tiles = data.geometry;
  const io_model::Sizes sizes = sizes_of(length);

  io_model::Counter forward;
  io_model::walk_forward(sizes, data.forward_rows.view(), tiles.query_tile, tiles.key_tile,
                         forward);
  const TileCounts by_query = count_tiles(data.forward_rows, length, length);
  results.push_back(count_json(mask, length, Implementation::kTilewise, "forward",
                               io_model::tiled_forward(sizes, by_query), forward));

  io_model::Counter backward;
  io_model::walk_backward_prepare(sizes, backward);
  io_model::walk_backward(sizes, data.backward_rows_by_key.view(), tiles.backward_query_tile,
                          tiles.backward_key_tile, backward);
  const TileCounts by_key = count_tiles(data.backward_rows_by_key, length, length);
  results.push_back(count_json(
      mask, length, Implementation::kTilewise, "backward",
      io_model::tiled_backward_prepare(sizes) + io_model::tiled_backward(sizes, by_key), backward));
}

// Masks save the standard form nothing; forward they are a pass of their own.
void count_standard(const Mask& mask, int64_t length, Json& results) {
  const io_model::Sizes sizes = sizes_of(length);
  for (const Implementation form : {Implementation::kStandard, Implementation::kMegatron}) {
    const int64_t separate = form == Implementation::kStandard && mask.expression() != nullptr ? 1 : 0;
    io_model::Counter forward, backward;
    io_model::walk_standard_forward(sizes, separate, forward);
    io_model::walk_standard_backward(sizes, 0, backward);
    results.push_back(count_json(mask, length, form, "forward",
                                 io_model::standard_forward(sizes, separate), forward));
    results.push_back(
        count_json(mask, length, form, "backward", io_model::standard_backward(sizes), backward));
  }
}

Json simulate_caches(const ReportContext& context) {
  const int64_t length = std::min(kCacheLength, context.max_length);
  const io_model::Sizes sizes = sizes_of(length);
  Json points = Json::array();
  for (int64_t memory = 16 * kReportHeadDim; memory <= 8 * length * kReportHeadDim; memory *= 2) {
    points.push_back(
        {{"memory_words", memory},
         {"tiled_words", io_model::simulate_tiled(length, kReportHeadDim, memory).total()},
         {"algorithm1_words",
          io_model::simulate_algorithm1(length, kReportHeadDim, memory).total()},
         {"standard_words", io_model::simulate_standard(length, kReportHeadDim, memory).total()},
         {"lower_bound_words", io_model::forward_lower_bound(sizes, memory)}});
  }
  return {{"length", length}, {"head_dim", kReportHeadDim}, {"points", points}};
}

}  // namespace

Json report_io(ReportContext& context) {
  Json counts = Json::array();
  for (const Mask& mask : {Mask(), causal()}) {
    for (const int64_t length : context.lengths()) {
      context.progress->stage("words moved, " + mask.text() + ", length " + std::to_string(length));
      count_tilewise(context, mask, length, counts);
      count_standard(mask, length, counts);
    }
  }
  context.progress->stage("words moved, simulated cache");
  return {{"head_dim", kReportHeadDim}, {"counts", counts}, {"cache", simulate_caches(context)}};
}

}  // namespace tilewise::cli
