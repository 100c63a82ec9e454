// SPDX-License-Identifier: Apache-2.0
#include "engine/parts.h"

#include <algorithm>

#include "base/dtype.h"
#include "engine/negligible_tiles.h"
#include "engine/work.h"
#include "problem/ragged.h"

namespace tilewise {
namespace {

int64_t kv_heads_of(const AttentionShape& shape) { return shape.batch * shape.kv_heads; }

void lay_out_forward(const Plan::Data& plan, Schedule::Data& schedule) {
  ForwardExtents extents;
  int64_t flops = 0;
  for (SchedulePart& part : schedule.parts) {
    const Schedule::Data& one = PartView(schedule, part).uniform();
    const AttentionShape& shape = one.shape;
    const int64_t rows = one.decodes ? 0 : ceil_divide(shape.query_length, one.geometry.query_tile);
    schedule.items.forward.add(one.forward_items);
    schedule.items.forward_rows.add(shape.batch * shape.query_heads * rows);
    part.first_decode_query = extents.decode_queries;
    part.first_decode_tile = extents.decode_tiles;
    if (one.decodes) {
      extents.decode_queries += shape.batch * shape.query_length;
      extents.decode_tiles += shape.batch * one.decode.row_tiles;
    }
    extents.batch += shape.batch;
    extents.tile_rows += shape.batch * rows;
    extents.scratch_bytes = std::max(
        extents.scratch_bytes,
        one.decodes ? plan.kernel->decode_scratch_bytes(shape, plan.programs)
                    : plan.kernel->forward_scratch_bytes(shape, one.geometry, plan.programs));
    flops += one.forward_flops;
  }
  schedule.forward_workers = choose_workers(flops, schedule.items.forward.total(), plan.threads);
  schedule.forward = forward_layout(schedule.shape, extents, plan.bound_steps,
                                    schedule.forward_workers, real_bytes(plan.problem));
}

// The shares of the parts, and where each begins in what they share.
void share_heads(Schedule::Data& schedule, BackwardExtents& extents) {
  const auto work_of = [](const Schedule::Data& one) {  // of a head
    return static_cast<double>(
        std::max<int64_t>(one.pairs / std::max<int64_t>(kv_heads_of(one.shape), 1), 1));
  };
  double work = 0;
  for (const SchedulePart& part : schedule.parts) {
    const Schedule::Data& one = PartView(schedule, part).uniform();
    work += work_of(one) * static_cast<double>(kv_heads_of(one.shape));
  }
  HeadBalance balance(work, schedule.backward_workers);
  int64_t head = 0, whole_head = 0;
  for (SchedulePart& part : schedule.parts) {
    const Schedule::Data& one = PartView(schedule, part).uniform();
    part.shares = balance.share(kv_heads_of(one.shape),
                                ceil_divide(one.shape.kv_length, one.geometry.backward_key_tile),
                                work_of(one));
    part.first_head = head;
    part.first_whole_head = whole_head;
    head += part.shares.heads();
    whole_head += part.shares.whole_heads;
    schedule.items.claims.add(part.shares.claims());
  }
  schedule.worker_slots = std::min<int64_t>(whole_head, schedule.backward_workers);
  extents.slot_queries = schedule.worker_slots * schedule.longest_queries;
  extents.slot_tiles = schedule.worker_slots * schedule.most_query_tiles;
  for (SchedulePart& part : schedule.parts) {
    const Schedule::Data& one = PartView(schedule, part).uniform();
    part.first_slot_query = extents.slot_queries;
    part.first_slot_tile = extents.slot_tiles;
    extents.slot_queries += part.shares.shared_heads * one.shape.query_length;
    extents.slot_tiles += part.shares.shared_heads *
                          ceil_divide(one.shape.query_length, one.geometry.backward_query_tile);
  }
}

void lay_out_backward(const Plan::Data& plan, Schedule::Data& schedule) {
  BackwardExtents extents;
  extents.key_tile = plan.tiles.geometry.backward_key_tile;
  int64_t items = 0;
  for (const SchedulePart& part : schedule.parts) {
    const Schedule::Data& one = PartView(schedule, part).uniform();
    const AttentionShape& shape = one.shape;
    const int64_t rows = ceil_divide(shape.query_length, one.geometry.backward_query_tile);
    const int64_t key_tiles = ceil_divide(shape.kv_length, one.geometry.backward_key_tile);
    schedule.items.prepare.add(shape.batch * shape.query_heads *
                               ceil_divide(shape.query_length, kRowsPerItem));
    schedule.items.key_blocks.add(kv_heads_of(shape) * ceil_divide(shape.kv_length, kKeysPerItem));
    schedule.items.backward_rows.add(shape.batch * shape.query_heads * rows);
    extents.batch += shape.batch;
    extents.queries += shape.batch * shape.query_length;
    extents.tile_rows += shape.batch * rows;
    extents.key_tiles = std::max(extents.key_tiles, key_tiles);
    schedule.longest_queries = std::max(schedule.longest_queries, shape.query_length);
    schedule.most_query_tiles = std::max(schedule.most_query_tiles, rows);
    extents.scratch_bytes =
        std::max(extents.scratch_bytes,
                 plan.kernel->backward_scratch_bytes(shape, one.geometry, plan.programs));
    items += kv_heads_of(shape) * key_tiles;
  }
  schedule.most_key_tiles = extents.key_tiles;
  schedule.backward_heads = extents.batch * schedule.shape.kv_heads;
  schedule.backward_workers = choose_workers(
      io_model::backward_flops(sizes_of(schedule.shape), schedule.pairs), items, plan.threads);
  share_heads(schedule, extents);
  schedule.backward = backward_layout(*plan.kernel, schedule.shape, extents,
                                      table_sizes(plan.problem, schedule.score), plan.bound_steps,
                                      schedule.backward_workers, real_bytes(plan.problem));
}

}  // namespace

Tensor PartView::queries(const Tensor& tensor) const noexcept {
  if (is_whole_ || tensor.data == nullptr) return tensor;
  return rows_of(tensor, part_.first_query, part_.sequence->shape.query_length);
}
Tensor PartView::keys(const Tensor& tensor) const noexcept {
  if (is_whole_ || tensor.data == nullptr) return tensor;
  return rows_of(tensor, part_.first_key, part_.sequence->shape.kv_length);
}
Tensor PartView::bias(const Tensor& tensor) const noexcept {
  if (is_whole_) return tensor;
  const AttentionShape& shape = part_.sequence->shape;
  return bias_of(tensor, part_.index, shape.query_length, shape.kv_length);
}
TileOrigin PartView::origin() const noexcept {
  const Step& step = schedule_.step;
  return {step.batch_offset + part_.index, step.head_offset, step.query_offset, step.key_offset};
}

void lay_out(const Plan::Data& plan, Schedule::Data& schedule) {
  lay_out_forward(plan, schedule);
  lay_out_backward(plan, schedule);
}

void fill_rows(const Tensor& tensor, int64_t first, double value, Executor& executor, int workers,
               int64_t* counter) noexcept {
  const int64_t rows = tensor.shape[2] - first;
  if (tensor.data == nullptr || rows <= 0) return;
  const int64_t blocks = ceil_divide(rows, kRowsPerItem), heads = tensor.shape[1];
  run_items(executor, workers, tensor.shape[0] * heads * blocks, counter, [&](int64_t item, int) {
    const int64_t head = item / blocks, begin = first + item % blocks * kRowsPerItem;
    const int64_t end = std::min(begin + kRowsPerItem, tensor.shape[2]);
    for (int64_t row = begin; row < end; ++row) {
      const int64_t at = head / heads * tensor.strides[0] + head % heads * tensor.strides[1] +
                         row * tensor.strides[2];
      for (int64_t i = 0; i < tensor.shape[3]; ++i)
        store_element(tensor.data, tensor.dtype, at + i * tensor.strides[3], value);
    }
  });
}

}  // namespace tilewise
