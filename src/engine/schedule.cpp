// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <type_traits>

#include "engine/plan_data.h"
#include "problem/bind.h"
#include "problem/validate.h"
#include "tilewise/error.h"

namespace tilewise {
namespace {

bool same_step(const Step& a, const Step& b) {
  return a.batch == b.batch && a.query_length == b.query_length && a.kv_length == b.kv_length &&
         a.query_offset == b.query_offset && a.key_offset == b.key_offset &&
         a.batch_offset == b.batch_offset && a.head_offset == b.head_offset;
}

std::vector<MaskClass> views_of(const std::vector<HeadTiles>& tiles) {
  std::vector<MaskClass> views;
  views.reserve(tiles.size());
  for (const HeadTiles& one : tiles) views.push_back(one.view());
  return views;
}

// The tiles of every class on one grid.
struct Tiling {
  expr::TileGrid grid;
  std::vector<expr::MaskTiles> of_class;
  bool follows_blocks = false;
};

Tiling classify_on(const expr::TileGrid& grid, const Schedule::Data& schedule) {
  Tiling result{grid, {}, false};
  for (const HeadClass& one : schedule.heads.classes)
    result.of_class.push_back(expr::classify(one.mask, schedule.mask_values, grid));
  return result;
}

// What a grid makes a kernel do, in pairs of all heads.
double work_on(const Tiling& tiling, const Schedule::Data& schedule) {
  double sum = 0;
  for (size_t i = 0; i < tiling.of_class.size(); ++i) {
    sum += static_cast<double>(schedule.heads.classes[i].heads) *
           static_cast<double>(expected_work(tiling.of_class[i], tiling.grid));
  }
  return sum;
}

// The blocks of the masks of all classes.
expr::BlockSizes blocks_of(const Schedule::Data& schedule) {
  expr::BlockSizes blocks;
  for (const HeadClass& one : schedule.heads.classes) {
    if (one.mask.graph == nullptr) continue;
    const expr::BlockSizes sizes = expr::block_sizes(one.mask);
    blocks.queries = std::max(blocks.queries, sizes.queries);
    blocks.keys = std::max(blocks.keys, sizes.keys);
  }
  return blocks;
}

// The plan's tiles, or the ones that follow the mask's blocks where these leave clearly less work.
Tiling choose_tiling(const expr::TileGrid& plain, const expr::TileGrid& blocks,
                     const Schedule::Data& schedule) {
  Tiling first = classify_on(plain, schedule);
  if (blocks.tile_queries == plain.tile_queries && blocks.tile_keys == plain.tile_keys)
    return first;
  const bool has_programs = std::any_of(first.of_class.begin(), first.of_class.end(),
                                        [](const auto& tiles) { return !tiles.programs.empty(); });
  if (!has_programs) return first;
  constexpr double kGain = 0.9;  // shorter tiles cost a little
  Tiling second = classify_on(blocks, schedule);
  second.follows_blocks = true;
  return work_on(second, schedule) < kGain * work_on(first, schedule) ? second : first;
}

// Sets the pairs of the classes, too.
std::vector<HeadTiles> tile_heads(const Plan::Data& plan, Schedule::Data& schedule, Tiling tiling,
                                  Direction direction) {
  std::vector<HeadTiles> result;
  for (size_t i = 0; i < tiling.of_class.size(); ++i) {
    HeadClass& one = schedule.heads.classes[i];
    one.pairs = expr::visible_pairs(tiling.of_class[i], tiling.grid);
    result.push_back(make_head_tiles(plan.problem.mask, std::move(tiling.of_class[i]),
                                     schedule.mask_values, tiling.grid, plan.programs, direction));
  }
  return result;
}

// Keys [first, last) outside of which no query of the class sees anything.
struct KeyRange {
  int64_t first, last;
};
KeyRange visible_keys(const HeadTiles& tiles, const expr::TileGrid& grid) {
  const TileRows rows = tiles.by_query.view();
  KeyRange range{grid.keys, 0};
  for (int64_t row = 0; row < rows.rows; ++row) {
    const int64_t q0 = row * grid.tile_queries, q1 = std::min(q0 + grid.tile_queries, grid.queries);
    for (int64_t i = rows.begin[row]; i < rows.begin[row + 1]; ++i) {
      const TileRun& run = rows.runs[i];
      int64_t first = run.first * grid.tile_keys,
              last = std::min(run.last * grid.tile_keys, grid.keys);
      if (run.kind == TileKind::kPartial) {
        const TileRule& rule = tiles.rules[static_cast<size_t>(run.rule)];
        first = std::max({first, rule.key_begin, q0 + rule.band.lo});
        last = std::min({last, rule.key_end, q1 + rule.band.hi});
      }
      if (first >= last) continue;
      range.first = std::min(range.first, first);
      range.last = std::max(range.last, last);
    }
  }
  if (range.first >= range.last) return {0, 0};
  return range;
}

// Few queries. The chunks that some query sees, as work for kv heads and tiles of rows.
void schedule_decode(const Plan::Data& plan, Schedule::Data& schedule) {
  const AttentionShape& shape = schedule.shape;
  schedule.decodes = true;
  DecodeLaunch& decode = schedule.decode;
  decode.chunk_keys =
      plan.problem.same_bits_as_prefill ? std::max<int64_t>(shape.kv_length, 1) : kDecodeChunk;
  const expr::TileGrid grid =
      cut(schedule.step, schedule.geometry.query_tile, schedule.geometry.key_tile);
  KeyRange keys{shape.kv_length, 0};
  for (const HeadTiles& tiles : schedule.forward_tiles) {
    const KeyRange seen = visible_keys(tiles, grid);
    if (seen.first == seen.last) continue;
    keys = {std::min(keys.first, seen.first), std::max(keys.last, seen.last)};
  }
  if (keys.first < keys.last) {
    decode.first_key = keys.first;
    decode.last_key = keys.last;
  }
  decode.first_chunk = decode.first_key / decode.chunk_keys;
  decode.last_chunk =
      std::max(ceil_divide(decode.last_key, decode.chunk_keys), decode.first_chunk + 1);
  decode.row_tiles = decode_row_tiles(*plan.kernel, shape);
  schedule.forward_items =
      shape.batch * shape.kv_heads * decode.row_tiles * (decode.last_chunk - decode.first_chunk);
  // Time goes into reading keys and values.
  const int64_t words = shape.batch * shape.kv_heads * (decode.last_key - decode.first_key) *
                        (shape.head_dim + shape.value_dim);
  const int64_t flops =
      std::max(io_model::forward_flops(sizes_of(shape), schedule.pairs), kFlopsPerWord * words);
  schedule.forward_workers = choose_workers(flops, schedule.forward_items, plan.threads);
  schedule.forward = decode_layout(*plan.kernel, shape, plan.programs, schedule.forward_workers,
                                   real_bytes(plan.problem));
}

// Whether the workspace has room for the registers of every program.
bool programs_are_within(const ProgramSizes& limit, const Schedule::Data& schedule) {
  const auto is_within = [&limit](const expr::ProgramStorage& program) {
    return expr::is_within(program.sizes, limit);
  };
  const auto are_within = [&is_within](const HeadTiles& tiles) {
    return std::all_of(tiles.storages.begin(), tiles.storages.end(), is_within);
  };
  const ScorePrograms& score = schedule.score;
  return std::all_of(schedule.forward_tiles.begin(), schedule.forward_tiles.end(), are_within) &&
         std::all_of(schedule.backward_tiles.begin(), schedule.backward_tiles.end(), are_within) &&
         is_within(score.forward) && is_within(score.decode) && is_within(score.backward) &&
         is_within(score.backward_with_tables);
}

// The tiles of the backward come first: they are the plan's, and their pairs decide the rest.
void tile_backward(const Plan::Data& plan, Schedule::Data& schedule) {
  schedule.geometry = plan.tiles.geometry;
  // Gradients of tables are summed by panels of keys from the first key of a tile on.
  const Geometry blocks =
      schedule.score.tables.empty()
          ? follow_blocks(plan.tiles.geometry, *plan.kernel, blocks_of(schedule))
          : plan.tiles.geometry;
  Tiling tiling = choose_tiling(
      cut(schedule.step, schedule.geometry.backward_query_tile,
          schedule.geometry.backward_key_tile),
      cut(schedule.step, blocks.backward_query_tile, blocks.backward_key_tile), schedule);
  schedule.geometry.backward_query_tile = tiling.grid.tile_queries;
  schedule.geometry.backward_key_tile = tiling.grid.tile_keys;
  schedule.backward_follows_blocks = tiling.follows_blocks;
  schedule.backward_tiles = tile_heads(plan, schedule, std::move(tiling), Direction::kBackward);
  schedule.backward_masks = views_of(schedule.backward_tiles);
  schedule.pairs = schedule.heads.pairs();
}

void schedule_forward(const Plan::Data& plan, Schedule::Data& schedule) {
  const AttentionShape& shape = schedule.shape;
  // Workers that have enough to do first, then tiles for them, then no more workers than items.
  const int64_t flops = io_model::forward_flops(sizes_of(shape), schedule.pairs);
  const int64_t rows = shape.batch * shape.query_heads * shape.query_length;
  const int workers = choose_workers(flops, rows, plan.threads);
  const Geometry plain = choose_geometry(plan.tiles.geometry, *plan.kernel, shape, workers);
  const Geometry blocks = follow_blocks(plain, *plan.kernel, blocks_of(schedule));
  Tiling tiling = choose_tiling(cut(schedule.step, plain.query_tile, plain.key_tile),
                                cut(schedule.step, blocks.query_tile, blocks.key_tile), schedule);
  schedule.geometry.query_tile = tiling.grid.tile_queries;
  schedule.geometry.key_tile = tiling.grid.tile_keys;
  schedule.forward_follows_blocks = tiling.follows_blocks;
  schedule.forward_items = shape.batch * shape.query_heads * tiling.grid.rows();
  schedule.forward_tiles = tile_heads(plan, schedule, std::move(tiling), Direction::kForward);
  schedule.forward_masks = views_of(schedule.forward_tiles);
  schedule.forward_workers = choose_workers(flops, schedule.forward_items, plan.threads);
  schedule.forward = forward_layout(*plan.kernel, shape, schedule.geometry, plan.programs,
                                    plan.bound_steps, schedule.forward_workers);
}

void schedule_backward(const Plan::Data& plan, Schedule::Data& schedule) {
  const AttentionShape& shape = schedule.shape;
  const int64_t key_tile = schedule.geometry.backward_key_tile;
  const int64_t heads = shape.batch * shape.kv_heads;
  const int64_t key_tiles = ceil_divide(shape.kv_length, key_tile);
  schedule.backward_workers = choose_workers(
      io_model::backward_flops(sizes_of(shape), schedule.pairs), heads * key_tiles, plan.threads);
  schedule.shares = share_backward(heads, key_tiles, schedule.backward_workers);
  schedule.backward =
      backward_layout(*plan.kernel, shape, schedule.geometry, plan.programs,
                      table_sizes(plan.problem, schedule.score), plan.bound_steps,
                      schedule.backward_workers, schedule.shares.slots(), real_bytes(plan.problem));
}

void validate(const Plan::Data& plan, const Step& step, const char* operation) {
  validate_step(plan.problem, step, operation);
  require_used(plan.problem.mask.expression(), plan.problem.score.expression(), step, operation);
}

// Of a valid step.
Schedule::Data build(const Plan::Data& plan, const Step& step, const char* operation) {
  const expr::Expression* mask = plan.problem.mask.expression();
  Schedule::Data schedule;
  schedule.plan_id = plan.id;
  schedule.step = step;
  schedule.step.tables.clear();
  schedule.step.scalars.clear();
  schedule.shape = make_shape(plan.problem, step.batch, step.query_length, step.kv_length);
  if (mask != nullptr) schedule.mask_values = bind(*mask, step, operation);
  schedule.heads = classify_heads(plan.problem.mask, schedule.mask_values, step,
                                  schedule.shape.query_heads, operation);
  schedule.score =
      make_score_programs(plan.problem.score, step, schedule.shape.query_heads, operation);
  tile_backward(plan, schedule);
  schedule_forward(plan, schedule);
  if (step.query_length > 0 && step.query_length <= kDecodeQueries) schedule_decode(plan, schedule);
  schedule_backward(plan, schedule);
  const ForwardLayout& most = schedule.decodes ? plan.decode : plan.forward;
  if (schedule.forward.bytes > most.bytes || schedule.backward.bytes > plan.backward.bytes ||
      !programs_are_within(plan.programs, schedule)) {
    throw InternalError("schedule: a step needs more memory than its plan; please report this");
  }
  return schedule;
}

}  // namespace

const Step& Schedule::step() const noexcept { return data_->step; }

std::shared_ptr<const Schedule::Data> ScheduleCache::find(const Problem& problem,
                                                          const Step& step) const {
  const std::lock_guard lock(mutex_);
  for (const auto& entry : entries_) {
    if (entry == nullptr || !same_step(entry->step, step)) continue;
    const expr::Expression *mask = problem.mask.expression(), *score = problem.score.expression();
    if ((mask == nullptr || has_values(*mask, entry->mask_values, step)) &&
        (score == nullptr || has_values(*score, entry->score.values, step))) {
      return entry;
    }
  }
  return nullptr;
}

void ScheduleCache::insert(std::shared_ptr<const Schedule::Data> schedule) {
  const std::lock_guard lock(mutex_);
  entries_[next_].swap(schedule);  // the old one is freed after the lock
  next_ = (next_ + 1) % entries_.size();
}

std::shared_ptr<const Schedule::Data> make_schedule(const Plan::Data& plan, const Step& step,
                                                    const char* operation) {
  validate(plan, step, operation);
  if (auto cached = plan.schedules.find(plan.problem, step)) return cached;
  const auto schedule = std::make_shared<Schedule::Data>(build(plan, step, operation));
  plan.schedules.insert(schedule);
  return schedule;
}

void update_schedule(const Plan::Data& plan, std::shared_ptr<const Schedule::Data>& schedule,
                     const Step& step, const char* operation) {
  validate(plan, step, operation);
  Schedule::Data built = build(plan, step, operation);
  if (schedule.use_count() != 1) {
    schedule = std::make_shared<Schedule::Data>(std::move(built));
    return;
  }
  // What another thread read through the copy that it gave up has been read.
  std::atomic_thread_fence(std::memory_order_acquire);
  static_assert(std::is_nothrow_move_assignable_v<Schedule::Data>);
  const_cast<Schedule::Data&>(*schedule) = std::move(built);  // made here or above, not const
}

}  // namespace tilewise
