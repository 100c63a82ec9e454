// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <cmath>
#include <type_traits>
#include <utility>

#include "engine/parts.h"
#include "engine/plan_data.h"
#include "problem/bind.h"
#include "problem/ragged.h"
#include "problem/validate.h"
#include "tilewise/error.h"

namespace tilewise {
namespace {

bool same_step(const Step& a, const Step& b) {
  return a.batch == b.batch && a.query_length == b.query_length && a.kv_length == b.kv_length &&
         a.query_offset == b.query_offset && a.key_offset == b.key_offset &&
         a.batch_offset == b.batch_offset && a.head_offset == b.head_offset &&
         same_starts(a.query_starts, b.query_starts) && same_starts(a.key_starts, b.key_starts);
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
  schedule.forward_flops = std::max(schedule.forward_flops, kFlopsPerWord * words);
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
void tile_backward(const Plan::Data& plan, Schedule::Data& schedule, bool is_sequence) {
  schedule.geometry = plan.tiles.geometry;
  // Gradients of tables are summed by panels of keys from the first key of a tile on.
  // So are those of a bias that the sequences of a ragged batch share.
  const bool has_one_tile =
      !schedule.score.tables.empty() || (is_sequence && plan.problem.has_bias);
  const Geometry blocks =
      !has_one_tile ? follow_blocks(plan.tiles.geometry, *plan.kernel, blocks_of(schedule))
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

// workers: that share this step.
void tile_forward(const Plan::Data& plan, Schedule::Data& schedule, int workers) {
  const AttentionShape& shape = schedule.shape;
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
  schedule.forward_flops = io_model::forward_flops(sizes_of(shape), schedule.pairs);
  if (shape.query_length > 0 && shape.query_length <= kDecodeQueries)
    schedule_decode(plan, schedule);
  if (!programs_are_within(plan.programs, schedule))
    throw InternalError("schedule: a program is larger than its plan's; please report this");
}

void validate(const Plan::Data& plan, const Step& step, const char* operation) {
  validate_step(plan.problem, step, operation);
  require_used(plan.problem.mask.expression(), plan.problem.score.expression(), step, operation);
}

// Workers that have enough to do, of those that share `rows` rows.
int workers_for(const Plan::Data& plan, const AttentionShape& shape, int64_t pairs, int64_t rows) {
  return choose_workers(io_model::forward_flops(sizes_of(shape), pairs), rows, plan.threads);
}

// What all of a step has in common.
Schedule::Data start(const Plan::Data& plan, const Step& step, const char* operation) {
  const expr::Expression *mask = plan.problem.mask.expression(),
                         *score = plan.problem.score.expression();
  Schedule::Data schedule;
  schedule.plan_id = plan.id;
  schedule.step = step;
  schedule.step.tables.clear();
  schedule.step.scalars.clear();
  schedule.shape =
      make_shape(plan.problem, is_ragged(step) ? 1 : step.batch, step.query_length, step.kv_length);
  if (mask != nullptr) schedule.mask_values = bind(*mask, step, operation);
  if (score != nullptr) schedule.score.values = bind(*score, step, operation);
  return schedule;
}

// Mask, score, and the tiles of the backward, of a uniform step with its values.
void tile_step(const Plan::Data& plan, Schedule::Data& schedule, bool is_sequence,
               const char* operation) {
  const Problem& problem = plan.problem;
  schedule.heads = classify_heads(problem.mask, schedule.mask_values, schedule.step,
                                  problem.query_heads, operation);
  schedule.score = make_score_programs(problem.score, schedule.score.values, schedule.step,
                                       problem.query_heads, operation);
  tile_backward(plan, schedule, is_sequence);
}

std::shared_ptr<Schedule::Data> tile_sequence(const Plan::Data& plan, const Schedule::Data& whole,
                                              const Step& step, const char* operation) {
  auto sequence = std::make_shared<Schedule::Data>();
  sequence->plan_id = plan.id;
  sequence->step = step;
  sequence->shape = make_shape(plan.problem, 1, step.query_length, step.kv_length);
  sequence->mask_values = whole.mask_values;
  sequence->score.values = whole.score.values;
  for (expr::Values* values : {&sequence->mask_values, &sequence->score.values}) {
    values->query_length = step.query_length;
    values->kv_length = step.kv_length;
  }
  tile_step(plan, *sequence, true, operation);
  return sequence;
}

std::vector<int64_t> copy_of(const SequenceStarts& starts) {
  std::vector<int64_t> copy(static_cast<size_t>(starts.size));
  for (int64_t i = 0; i < starts.size; ++i) copy[static_cast<size_t>(i)] = start_at(starts, i);
  return copy;
}

// Sequences whose items take longest first: each query of an item meets all keys.
std::vector<Step> ordered_sequences(const Step& step) {
  std::vector<Step> sequences;
  for (int64_t i = 0; i < step.batch; ++i) sequences.push_back(sequence_step(step, i));
  std::stable_sort(sequences.begin(), sequences.end(), [](const Step& a, const Step& b) {
    return std::pair(a.kv_length, a.query_length) > std::pair(b.kv_length, b.query_length);
  });
  return sequences;
}

bool depends_on_batch(const expr::Expression* expression) {
  return expression != nullptr && expr::depends_on(*expression, expr::Variable::kBatch);
}

// Sequences of equal lengths follow one another and share a schedule, unless b tells them apart.
void build_ragged(const Plan::Data& plan, Schedule::Data& whole, const char* operation) {
  const Problem& problem = plan.problem;
  whole.geometry = plan.tiles.geometry;
  whole.query_starts = copy_of(whole.step.query_starts);
  whole.key_starts = copy_of(whole.step.key_starts);
  const auto starts = [&](const std::vector<int64_t>& copy) {
    return SequenceStarts{copy.data(), IntegerType::kInt64, whole.step.batch + 1};
  };
  whole.step.query_starts = starts(whole.query_starts);
  whole.step.key_starts = starts(whole.key_starts);
  whole.score = make_score_programs(problem.score, whole.score.values, {.batch = 0},
                                    problem.query_heads, operation);
  const bool is_shared =
      !depends_on_batch(problem.mask.expression()) && !depends_on_batch(problem.score.expression());
  std::vector<std::shared_ptr<Schedule::Data>> made;
  for (const Step& step : ordered_sequences(whole.step)) {
    const bool is_known = is_shared && !made.empty() &&
                          made.back()->shape.query_length == step.query_length &&
                          made.back()->shape.kv_length == step.kv_length;
    if (!is_known) {
      made.push_back(tile_sequence(plan, whole, step, operation));
      widen_tables(whole.score, problem.score, made.back()->score);
    }
    SchedulePart part;
    part.sequence = made.back();
    part.index = step.batch_offset - whole.step.batch_offset;
    part.first_query = whole.query_starts[static_cast<size_t>(part.index)];
    part.first_key = whole.key_starts[static_cast<size_t>(part.index)];
    whole.parts.push_back(std::move(part));
    whole.pairs += made.back()->pairs;
  }
  const int workers =
      workers_for(plan, whole.shape, whole.pairs, whole.query_starts.back() * problem.query_heads);
  for (const auto& sequence : made) {
    const double share = static_cast<double>(sequence->pairs) / static_cast<double>(whole.pairs);
    tile_forward(plan, *sequence,
                 whole.pairs > 0 ? static_cast<int>(std::ceil(share * workers)) : 1);
  }
}

void build_uniform(const Plan::Data& plan, Schedule::Data& schedule, const char* operation) {
  tile_step(plan, schedule, false, operation);
  const AttentionShape& shape = schedule.shape;
  tile_forward(plan, schedule,
               workers_for(plan, shape, schedule.pairs,
                           shape.batch * shape.query_heads * shape.query_length));
  schedule.parts.emplace_back();
}

// Of a valid step.
Schedule::Data build(const Plan::Data& plan, const Step& step, const char* operation) {
  Schedule::Data schedule = start(plan, step, operation);
  if (is_ragged(step))
    build_ragged(plan, schedule, operation);
  else
    build_uniform(plan, schedule, operation);
  lay_out(plan, schedule);
  if (schedule.forward.bytes > plan.forward.bytes || schedule.backward.bytes > plan.backward.bytes)
    throw InternalError("schedule: a step needs more memory than its plan; please report this");
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
