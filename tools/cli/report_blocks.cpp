// SPDX-License-Identifier: Apache-2.0
// The forward kernel with tiles of other sizes than the plan would choose: time and words moved.
// Plans have no option for that, on purpose; here the kernel is launched directly.
#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "cli/bench_data.h"
#include "cli/problem_options.h"
#include "cli/report_sections.h"
#include "engine/plan_data.h"
#include "engine/work.h"
#include "measure/rounds.h"
#include "schedule/io_model.h"
#include "schedule/tile_counts.h"

namespace tilewise::cli {
namespace {

constexpr int64_t kMaxQueryTiles = 16;  // in units of the kernel's smallest query tile
constexpr int64_t kMinKeyTile = 16;

struct FreeAligned {
  void operator()(std::byte* memory) const noexcept {
    ::operator delete (memory, std::align_val_t{64});
  }
};

// One geometry, ready to run.
class Launcher {
 public:
  Launcher(const Plan& plan, const Schedule& schedule, const ForwardTensors& tensors,
           int64_t query_tile, int64_t key_tile)
      : kernel_(*plan.data().kernel), executor_(*plan.data().executor), threads_(plan.threads()) {
    const Schedule::Data& data = schedule.data();
    launch_.shape = data.shape;
    launch_.geometry = data.geometry;
    launch_.geometry.query_tile = query_tile;
    launch_.geometry.key_tile = key_tile;
    launch_.scale_f64 = *plan.problem().scale;
    launch_.scale = static_cast<float>(launch_.scale_f64);
    launch_.query = tensors.query;
    launch_.key = tensors.key;
    launch_.value = tensors.value;
    launch_.output = tensors.output;
    launch_.logsumexp = tensors.logsumexp;
    expr::TileGrid grid = grid_of(data.step);
    grid.tile_queries = query_tile;
    grid.tile_keys = key_tile;
    tiles_ = make_head_tiles(plan.problem().mask,
                             expr::classify(data.heads.classes[0].mask, data.mask_values, grid),
                             data.mask_values, grid, plan.data().programs, Direction::kForward);
    mask_ = tiles_.view();
    launch_.mask_classes = &mask_;
    launch_.class_of_head = data.heads.class_of_head.data();
    const int64_t bytes = kernel_.forward_scratch_bytes(launch_.shape, launch_.geometry, {});
    stride_ = round_up(bytes, 64);
    scratch_.reset(static_cast<std::byte*>(
        ::operator new (static_cast<size_t>(stride_ * threads_), std::align_val_t{64})));
  }
  Launcher(const Launcher&) = delete;
  Launcher& operator=(const Launcher&) = delete;

  void run() {
    const int64_t heads = launch_.shape.query_heads, tiles = mask_.by_query.rows;
    int64_t counter = 0;
    run_items(executor_, threads_, launch_.shape.batch * heads * tiles, &counter,
              [&](int64_t index, int worker) {
                const int64_t head = index / tiles;
                kernel_.forward(launch_, {head / heads, head % heads, index % tiles},
                                scratch_.get() + worker * stride_);
              });
  }

  int64_t words() const {
    const AttentionShape& s = launch_.shape;
    return io_model::tiled_forward({s.batch, s.query_heads, s.kv_heads, s.query_length, s.kv_length,
                                    s.head_dim, s.value_dim},
                                   count_tiles(tiles_.by_query, s.query_length, s.kv_length))
        .total();
  }
  const Geometry& geometry() const { return launch_.geometry; }

 private:
  const Kernel& kernel_;
  Executor& executor_;
  int threads_;
  ForwardLaunch launch_{};
  HeadTiles tiles_;
  MaskClass mask_{};
  int64_t stride_ = 0;
  std::unique_ptr<std::byte, FreeAligned> scratch_;
};

}  // namespace

Json report_blocks(ReportContext& context) {
  const int64_t length = std::min<int64_t>(context.is_quick ? 1024 : 4096, context.max_length);
  const Problem problem = report_problem(2, length, DType::kFloat32, Mask());
  const Plan plan = make_plan(problem, context.plan);
  const Schedule schedule = plan.schedule(step_of(problem));
  const BenchData data(problem, context.seed, false);
  const Geometry chosen = schedule.data().geometry;
  const int64_t unit = plan.data().kernel->limits.unit.query_tile;
  const Geometry& tiles = plan.data().tiles.geometry;
  const int64_t max_keys = plan.data().kernel->limits.max.key_tile;

  std::vector<std::unique_ptr<Launcher>> launchers;
  std::vector<const char*> axes;
  const auto add = [&](const char* axis, int64_t query_tile, int64_t key_tile) {
    launchers.push_back(
        std::make_unique<Launcher>(plan, schedule, data.forward_tensors(), query_tile, key_tile));
    axes.push_back(axis);
  };
  for (int64_t blocks = 1; blocks <= kMaxQueryTiles && blocks * unit <= length; blocks *= 2) {
    add("query_tile", blocks * unit, tiles.key_tile);
  }
  for (int64_t tile = kMinKeyTile; tile <= max_keys; tile *= 2) {
    add("key_tile", tiles.query_tile, tile);
  }
  context.progress->stage("tile sizes");
  std::vector<std::vector<double>> seconds(launchers.size());
  for (const auto& launcher : launchers) launcher->run();
  const double limit = context.is_quick ? 0.2 : 6;
  double total = 0;
  for (int round = 0; round < 3 || (total < limit && round < 25); ++round) {
    for (size_t i = 0; i < launchers.size(); ++i) {
      seconds[i].push_back(measure::time_once([&] { launchers[i]->run(); }));
      total += seconds[i].back();
    }
  }
  Json points = Json::array();
  for (size_t i = 0; i < launchers.size(); ++i) {
    points.push_back({{"axis", axes[i]},
                      {"query_tile", launchers[i]->geometry().query_tile},
                      {"key_tile", launchers[i]->geometry().key_tile},
                      {"rounds", seconds[i].size()},
                      {"forward_ms", measure::Samples(seconds[i]).median() * 1e3},
                      {"words", launchers[i]->words()}});
  }
  return {{"length", length},
          {"heads", problem.query_heads},
          {"head_dim", problem.head_dim},
          {"dtype", "fp32"},
          {"chosen", {{"query_tile", chosen.query_tile}, {"key_tile", chosen.key_tile}}},
          {"points", points}};
}

}  // namespace tilewise::cli
