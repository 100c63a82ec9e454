// SPDX-License-Identifier: Apache-2.0
// Masks of the language: time and words against the share of visible pairs, the butterfly pattern
// of the paper, and what it costs to find the tiles of long sequences.
#include <algorithm>
#include <bit>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/dtype.h"
#include "base/random.h"
#include "cli/race.h"
#include "cli/report_sections.h"
#include "engine/explain.h"
#include "engine/plan_data.h"
#include "expr/classify.h"
#include "schedule/count.h"
#include "schedule/io_model.h"
#include "schedule/tile_counts.h"
#include "tilewise/rules.h"

namespace tilewise::cli {
namespace {

constexpr int64_t kMaskBlock = 128;
constexpr int64_t kDensityLength = 8192;
constexpr int64_t kPlanLength = int64_t{1} << 20;
constexpr int64_t kDocuments = 300;
constexpr int kPlanRounds = 9;

// layout[query block, key block]: 1 where the block is visible.
struct Layout {
  int64_t blocks = 0;
  std::vector<int32_t> visible;
  [[nodiscard]] double density() const {
    return static_cast<double>(std::count(visible.begin(), visible.end(), 1)) /
           static_cast<double>(visible.size());
  }
};

Mask layout_mask() { return mask_from_text("layout[q // 128, k // 128] != 0"); }

// Every row of blocks sees `row_blocks` of them, drawn at random.
Layout random_layout(int64_t blocks, int64_t row_blocks, uint64_t seed) {
  Layout layout{blocks, std::vector<int32_t>(static_cast<size_t>(blocks * blocks))};
  Random draw(seed);
  std::vector<int64_t> columns(static_cast<size_t>(blocks));
  for (int64_t row = 0; row < blocks; ++row) {
    for (int64_t i = 0; i < blocks; ++i) columns[i] = i;
    for (int64_t i = 0; i < row_blocks; ++i) {
      std::swap(columns[i], columns[draw.between(i, blocks - 1)]);
      layout.visible[row * blocks + columns[i]] = 1;
    }
  }
  return layout;
}

// Block j is visible to block i if they are the same or differ in one bit: log2(blocks) + 1 of each
// row. All factors of a butterfly matrix in one, [Dao22] section 3.3.
Layout butterfly_layout(int64_t blocks) {
  Layout layout{blocks, std::vector<int32_t>(static_cast<size_t>(blocks * blocks))};
  for (int64_t row = 0; row < blocks; ++row) {
    for (int64_t column = 0; column < blocks; ++column) {
      layout.visible[row * blocks + column] =
          std::popcount(static_cast<uint64_t>(row ^ column)) <= 1 ? 1 : 0;
    }
  }
  return layout;
}

Step step_of(const Problem& problem, const Layout* layout) {
  Step step;
  step.query_length = step.kv_length = problem.max_query_length;
  if (layout != nullptr) {
    step.tables.push_back({.name = "layout",
                           .data = layout->visible.data(),
                           .shape = {layout->blocks, layout->blocks}});
  }
  return step;
}

// Words of the forward and backward of one head: by formula, and counted on the tile rows.
Json words_json(const Plan& plan, const Step& step) {
  const Schedule schedule = plan.schedule(step);
  const Schedule::Data& data = schedule.data();
  const Geometry& tiles = data.geometry;
  const io_model::Sizes sizes = tilewise::sizes_of(data.shape);
  io_model::Counter forward, backward;
  io_model::walk_forward(sizes, data.forward_tiles[0].by_query.view(), tiles.query_tile,
                         tiles.key_tile, forward);
  io_model::walk_backward_prepare(sizes, backward);
  io_model::walk_backward(sizes, data.backward_tiles[0].by_key.view(), tiles.backward_query_tile,
                          tiles.backward_key_tile, backward);
  return {{"forward_words", forward.total().total()},
          {"backward_words", backward.total().total()},
          {"equal",
           forward.total() == forward_words(data) && backward.total() == backward_words(data)}};
}

// One mask among those that are timed in turns. layout: null without a mask.
struct Entry {
  Problem problem;
  Step step;
  double density;
  std::unique_ptr<Contestant> contestant;
};

Entry make_entry(const ReportContext& context, int64_t length, DType dtype, const Layout* layout) {
  Entry entry;
  entry.problem = report_problem(1, length, dtype, layout != nullptr ? layout_mask() : Mask());
  entry.step = step_of(entry.problem, layout);
  entry.density = layout != nullptr ? layout->density() : 1;
  entry.contestant =
      make_contestant(Implementation::kTilewise, entry.problem, entry.step, true, context.plan);
  return entry;
}

void race_entries(const ReportContext& context, const std::vector<Entry>& entries, Json& results) {
  std::vector<Contestant*> contestants;
  for (const Entry& entry : entries) contestants.push_back(entry.contestant.get());
  const BenchData data(entries[0].problem, context.seed, true);
  const RaceLimits limits = context.is_quick
                                ? RaceLimits{.min_rounds = 2, .seconds = 0.1}
                                : RaceLimits{.min_rounds = 2, .max_rounds = 25, .seconds = 1.5};
  const std::vector<Times> times = race(contestants, data, Pass::kBoth, limits);
  for (size_t i = 0; i < entries.size(); ++i) {
    const Problem& problem = entries[i].problem;
    Json row = {{"dtype", dtype_name(problem.dtype)},
                {"mask", problem.mask.text()},
                {"length", problem.max_query_length},
                {"density", entries[i].density},
                {"rounds", times[i].total.seconds().size()},
                {"forward_ms", times[i].forward.median() * 1e3},
                {"backward_ms", times[i].backward.median() * 1e3}};
    row.update(words_json(make_plan(problem, context.plan), entries[i].step));
    results.push_back(row);
  }
}

Json densities(ReportContext& context) {
  const int64_t length = std::min(kDensityLength, context.max_length);
  const int64_t blocks = std::max<int64_t>(length / kMaskBlock, 1);
  Json results = Json::array();
  for (const DType dtype : kReportDTypes) {
    context.progress->stage("block-sparse, " + std::string(dtype_name(dtype)));
    std::vector<Layout> layouts;
    for (int64_t share = 1; share <= 16 && share <= blocks; share *= 2)
      layouts.push_back(random_layout(blocks, blocks / share, context.seed));
    std::vector<Entry> entries;
    entries.push_back(make_entry(context, blocks * kMaskBlock, dtype, nullptr));
    for (const Layout& layout : layouts)
      entries.push_back(make_entry(context, blocks * kMaskBlock, dtype, &layout));
    race_entries(context, entries, results);
  }
  return results;
}

// Four times as far as dense attention goes elsewhere in the report, which runs beside it up to
// half.
Json butterflies(ReportContext& context) {
  Json results = Json::array();
  const int64_t first = std::max(context.max_length / 4, 2 * kMaskBlock);
  for (int64_t length = first; length <= 4 * context.max_length; length *= 2) {
    context.progress->stage("butterfly, length " + std::to_string(length));
    const Layout layout = butterfly_layout(length / kMaskBlock);
    std::vector<Entry> entries;
    entries.push_back(make_entry(context, length, DType::kFloat32, &layout));
    if (2 * length <= context.max_length)
      entries.push_back(make_entry(context, length, DType::kFloat32, nullptr));
    race_entries(context, entries, results);
  }
  return results;
}

struct PlanCase {
  const char* name;
  Mask mask;
  double goal_ms;
  std::vector<IntegerTable> tables = {};
};

// doc: number of the document of each position, lengths drawn at random.
std::vector<int32_t> random_documents(uint64_t seed) {
  Random draw(seed);
  std::vector<int32_t> doc(static_cast<size_t>(kPlanLength));
  for (int64_t i = 1; i < kDocuments; ++i) doc[draw.between(1, kPlanLength - 1)] = 1;
  for (size_t i = 1; i < doc.size(); ++i) doc[i] += doc[i - 1];
  return doc;
}

Json plan_json(const ReportContext& context, const PlanCase& one) {
  Step step;
  step.query_length = step.kv_length = kPlanLength;
  step.tables = one.tables;
  const Problem problem = report_problem(1, kPlanLength, DType::kFloat32, one.mask);
  std::vector<double> schedule_seconds, rows_seconds;
  int64_t full = 0, partial = 0;
  for (int round = 0; round < kPlanRounds; ++round) {
    const Plan plan = make_plan(problem, context.plan);  // a plan keeps its schedules
    std::unique_ptr<Schedule> schedule;
    schedule_seconds.push_back(
        measure::time_once([&] { schedule = std::make_unique<Schedule>(plan.schedule(step)); }));
    const Schedule::Data& data = schedule->data();
    expr::TileGrid grid = grid_of(data.step);
    grid.tile_queries = data.geometry.query_tile;
    grid.tile_keys = data.geometry.key_tile;
    rows_seconds.push_back(measure::time_once([&] {
      (void)make_head_tiles(problem.mask,
                            expr::classify(data.heads.classes[0].mask, data.mask_values, grid),
                            data.mask_values, grid, plan.data().programs, Direction::kForward);
    }));
    const TileCounts counts = forward_counts(data, data.forward_tiles[0]);
    full = counts.full, partial = counts.partial;
  }
  return {{"name", one.name},
          {"mask", one.mask.text()},
          {"length", kPlanLength},
          {"rounds", kPlanRounds},
          {"schedule_ms", measure::Samples(schedule_seconds).median() * 1e3},
          {"forward_rows_ms", measure::Samples(rows_seconds).median() * 1e3},
          {"goal_ms", one.goal_ms},
          {"tiles_full", full},
          {"tiles_partial", partial}};
}

Json plans(ReportContext& context) {
  context.progress->stage("schedules of a million tokens");
  const std::vector<int32_t> doc = random_documents(context.seed), prefix = {100000};
  const IntegerTable doc_table{.name = "doc", .data = doc.data(), .shape = {kPlanLength}},
      prefix_table{.name = "prefix", .data = prefix.data(), .shape = {1}};
  const PlanCase cases[] = {{"causal", causal(), 1},
                            {"window", window(4096, 0), 2},
                            {"prefix", prefix_lm(), 2, {prefix_table}},
                            {"documents, causal", document_causal(), 2.5, {doc_table}},
                            {"Longformer", longformer(512, 64), 5}};
  Json results = Json::array();
  for (const PlanCase& one : cases) results.push_back(plan_json(context, one));
  return results;
}

}  // namespace

Json report_masks(ReportContext& context) {
  return {{"block", kMaskBlock},
          {"densities", densities(context)},
          {"butterfly", butterflies(context)},
          {"plans", plans(context)}};
}

}  // namespace tilewise::cli
