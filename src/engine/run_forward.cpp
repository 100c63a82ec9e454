// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <optional>

#include "engine/negligible_tiles.h"
#include "engine/plan_data.h"
#include "engine/work.h"
#include "kernels/dropout.h"

namespace tilewise {

void run_forward(const Plan::Data& plan, const Schedule::Data& schedule,
                 const ForwardTensors& tensors, void* workspace) noexcept {
  const AttentionShape& shape = schedule.shape;
  const double scale = *plan.problem.scale;
  ForwardLaunch launch{};
  launch.shape = shape;
  launch.geometry = schedule.geometry;
  launch.scale = static_cast<float>(scale);
  launch.scale_f64 = scale;
  launch.query = tensors.query;
  launch.key = tensors.key;
  launch.value = tensors.value;
  launch.bias = tensors.bias;
  launch.sink = tensors.sink;
  launch.output = tensors.output;
  launch.logsumexp = tensors.logsumexp;
  launch.mask_classes = schedule.forward_masks.data();
  launch.class_of_head = schedule.heads.class_of_head.data();
  launch.program_sizes = plan.programs;
  launch.dropout = dropout_of(plan.problem.dropout, tensors.dropout_seed);
  std::optional<RealTables> tables;
  TileProgram score;
  if (plan.problem.score.expression() != nullptr) {
    tables.emplace(schedule.score.tables, tensors.tables);
    score =
        (schedule.decodes ? schedule.score.decode : schedule.score.forward).view(tables->by_symbol);
    launch.score = &score;
  }
  launch.origin = {schedule.step.batch_offset, schedule.step.head_offset,
                   schedule.step.query_offset, schedule.step.key_offset};

  auto* const scratch = schedule.forward.scratch.in<std::byte>(workspace);
  auto* const counter = schedule.forward.counter.in<int64_t>(workspace);
  // Distant keys, where the score says so.
  if (plan.bound_steps > 0 && !schedule.decodes) {
    const NegligibleSearch search = {
        .score = &schedule.score.bounds,
        .derivative = nullptr,
        .tiles = &schedule.forward_tiles,
        .class_of_head = launch.class_of_head,
        .grid = cut(schedule.step, launch.geometry.query_tile, launch.geometry.key_tile),
        .origin = launch.origin,
        .scale = scale,
        .query = tensors.query,
        .key = tensors.key,
        .value = tensors.value,
        .grad_output = {},
        .real_tables = tables->by_symbol};
    launch.significant = find_negligible_tiles(search, schedule.forward.negligible, *plan.executor,
                                               schedule.forward_workers, counter, workspace);
  }
  // item_of(index, next): the item, and the next one of the same worker where there is one.
  const auto run_all = [&](const auto& item_of, auto kernel) {
    run_items(*plan.executor, schedule.forward_workers, schedule.forward_items, counter,
              [&](int64_t index, int worker) {
                const int64_t after = index + schedule.forward_workers;
                const bool is_last = after >= schedule.forward_items;
                const auto next = item_of(is_last ? index : after, nullptr);
                const auto item = item_of(index, is_last ? nullptr : &next);
                kernel(launch, item, scratch + worker * schedule.forward.scratch_stride);
              });
  };
  if (schedule.decodes) {
    launch.decode = schedule.decode;
    launch.decode.sums = schedule.forward.decode_sums.in<void>(workspace);
    launch.decode.turn = schedule.forward.decode_turn.in<int32_t>(workspace);
    std::memset(launch.decode.turn, 0, static_cast<size_t>(schedule.forward.decode_turn.bytes));
    const int64_t tiles = launch.decode.row_tiles, heads = shape.batch * shape.kv_heads;
    // Chunks outside: neighbours in time belong to different heads and need not wait.
    const auto item_of = [&](int64_t index, const DecodeItem* next) {
      const int64_t head = index / tiles % heads;
      return DecodeItem{head / shape.kv_heads, head % shape.kv_heads, index % tiles,
                        launch.decode.first_chunk + index / (tiles * heads), next};
    };
    run_all(item_of, plan.kernel->decode);
  } else {
    const int64_t tiles = ceil_divide(shape.query_length, launch.geometry.query_tile);
    const auto item_of = [&](int64_t index, const ForwardItem* next) {
      const int64_t head = index / tiles;  // of all batches; heads that share keys are neighbours
      const auto& order =
          schedule.forward_tiles[static_cast<size_t>(launch.class_of_head[head])].order;
      return ForwardItem{head / shape.query_heads, head % shape.query_heads,
                         order[static_cast<size_t>(index % tiles)], next};
    };
    run_all(item_of, plan.kernel->forward);
  }
}

}  // namespace tilewise
