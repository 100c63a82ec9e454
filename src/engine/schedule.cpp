// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <numeric>

#include "engine/plan_data.h"
#include "problem/mask.h"
#include "problem/validate.h"
#include "tilewise/error.h"

namespace tilewise {
namespace {

bool same_step(const Step& a, const Step& b) {
  return a.batch == b.batch && a.query_length == b.query_length && a.kv_length == b.kv_length &&
         a.query_offset == b.query_offset && a.key_offset == b.key_offset &&
         a.batch_offset == b.batch_offset && a.head_offset == b.head_offset;
}

// Rows with the most tiles first, so that the last items of a head are short; equal rows ascend.
std::vector<int32_t> longest_first(const TileRowList& rows) {
  const TileRows view = rows.view();
  std::vector<int64_t> tiles(static_cast<size_t>(view.rows));
  for (int64_t row = 0; row < view.rows; ++row) {
    for (int64_t run = view.begin[row]; run < view.begin[row + 1]; ++run) {
      tiles[static_cast<size_t>(row)] += view.runs[run].last - view.runs[run].first;
    }
  }
  std::vector<int32_t> order(tiles.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&tiles](int32_t a, int32_t b) {
    return tiles[static_cast<size_t>(a)] > tiles[static_cast<size_t>(b)];
  });
  return order;
}

// Few queries. The chunks that some query sees, as work for kv heads and tiles of rows.
void schedule_decode(const Plan::Data& plan, Schedule::Data& schedule) {
  const AttentionShape& shape = schedule.shape;
  const Band& band = schedule.band;
  schedule.decodes = true;
  DecodeLaunch& decode = schedule.decode;
  decode.chunk_keys =
      plan.problem.same_bits_as_prefill ? std::max<int64_t>(shape.kv_length, 1) : kDecodeChunk;
  decode.first_key = std::clamp<int64_t>(band.lo, 0, shape.kv_length);
  decode.last_key = std::clamp<int64_t>(shape.query_length + band.hi, 0, shape.kv_length);
  if (schedule.pairs == 0) decode.first_key = decode.last_key = 0;
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
  schedule.forward =
      decode_layout(*plan.kernel, shape, schedule.forward_workers, real_bytes(plan.problem));
}

void schedule_forward(const Plan::Data& plan, Schedule::Data& schedule) {
  const AttentionShape& shape = schedule.shape;
  // Workers that have enough to do first, then tiles for them, then no more workers than items.
  const int64_t flops = io_model::forward_flops(sizes_of(shape), schedule.pairs);
  const int64_t rows = shape.batch * shape.query_heads * shape.query_length;
  const int workers = choose_workers(flops, rows, plan.threads);
  schedule.geometry = choose_geometry(plan.tiles.geometry, *plan.kernel, shape, workers);
  schedule.forward_rows =
      tile_rows_by_query(schedule.band, shape.query_length, shape.kv_length,
                         schedule.geometry.query_tile, schedule.geometry.key_tile);
  schedule.forward_order = longest_first(schedule.forward_rows);
  schedule.forward_items =
      shape.batch * shape.query_heads * static_cast<int64_t>(schedule.forward_order.size());
  schedule.forward_workers = choose_workers(flops, schedule.forward_items, plan.threads);
  schedule.forward =
      forward_layout(*plan.kernel, shape, schedule.geometry, schedule.forward_workers);
}

void schedule_backward(const Plan::Data& plan, Schedule::Data& schedule) {
  const AttentionShape& shape = schedule.shape;
  const int64_t query_tile = schedule.geometry.backward_query_tile;
  const int64_t key_tile = schedule.geometry.backward_key_tile;
  schedule.backward_rows_by_query =
      tile_rows_by_query(schedule.band, shape.query_length, shape.kv_length, query_tile, key_tile);
  schedule.backward_rows_by_key =
      tile_rows_by_key(schedule.band, shape.query_length, shape.kv_length, query_tile, key_tile);
  const int64_t heads = shape.batch * shape.kv_heads;
  const int64_t key_tiles = ceil_divide(shape.kv_length, key_tile);
  schedule.backward_workers = choose_workers(
      io_model::backward_flops(sizes_of(shape), schedule.pairs), heads * key_tiles, plan.threads);
  schedule.shares = share_backward(heads, key_tiles, schedule.backward_workers);
  schedule.backward =
      backward_layout(*plan.kernel, shape, schedule.geometry, schedule.backward_workers,
                      schedule.shares.slots(), real_bytes(plan.problem));
}

}  // namespace

const Step& Schedule::step() const noexcept { return data_->step; }

std::shared_ptr<const Schedule::Data> ScheduleCache::find(const Step& step) const {
  const std::lock_guard lock(mutex_);
  for (const auto& entry : entries_) {
    if (entry != nullptr && same_step(entry->step, step)) return entry;
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
  validate_step(plan.problem, step, operation);
  if (auto cached = plan.schedules.find(step)) return cached;
  auto schedule = std::make_shared<Schedule::Data>();
  schedule->plan_id = plan.id;
  schedule->step = step;
  schedule->shape = make_shape(plan.problem, step.batch, step.query_length, step.kv_length);
  schedule->band = detail::band_of(plan.problem.mask, step.query_length, step.kv_length,
                                   step.query_offset, step.key_offset);
  schedule->pairs = detail::visible_pairs(schedule->band, step.query_length, step.kv_length);
  schedule_forward(plan, *schedule);
  if (step.query_length > 0 && step.query_length <= kDecodeQueries)
    schedule_decode(plan, *schedule);
  schedule_backward(plan, *schedule);
  schedule->rule.band = schedule->band;
  schedule->class_of_head.assign(static_cast<size_t>(step.batch * schedule->shape.query_heads), 0);
  schedule->forward_mask = {schedule->forward_rows.view(), {}, &schedule->rule, nullptr};
  schedule->backward_mask = {schedule->backward_rows_by_query.view(),
                             schedule->backward_rows_by_key.view(), &schedule->rule, nullptr};
  const ForwardLayout& most = schedule->decodes ? plan.decode : plan.forward;
  if (schedule->forward.bytes > most.bytes || schedule->backward.bytes > plan.backward.bytes) {
    throw InternalError("schedule: a step needs more memory than its plan; please report this");
  }
  plan.schedules.insert(schedule);
  return schedule;
}

}  // namespace tilewise
