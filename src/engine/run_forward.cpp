// SPDX-License-Identifier: Apache-2.0
// [Dao22] Algorithm 1: one list of items for all parts of a schedule, those with most keys first.
#include <cstring>
#include <limits>
#include <optional>

#include "engine/negligible_tiles.h"
#include "engine/parts.h"
#include "engine/work.h"
#include "problem/ragged.h"

namespace tilewise {
namespace {

class ForwardRun {
 public:
  ForwardRun(const Plan::Data& plan, const Schedule::Data& schedule, const ForwardTensors& tensors,
             void* workspace) noexcept
      : plan_(plan), schedule_(schedule), tensors_(tensors), workspace_(workspace) {
    set_step(plan, tensors, launch_);
    if (plan.problem.score.expression() != nullptr)
      tables_.emplace(schedule.score.tables, tensors.tables);
  }

  void run() noexcept {
    find_negligible();
    std::memset(schedule_.forward.decode_turn.in<std::byte>(workspace_), 0,
                static_cast<size_t>(schedule_.forward.decode_turn.bytes));
    const PartItems& items = schedule_.items.forward;
    run_items(*plan_.executor, schedule_.forward_workers, items.total(), counter(),
              [&](int64_t index, int worker) {
                const PartItems::Place place = items.find(index);
                const SchedulePart& part = schedule_.parts[static_cast<size_t>(place.part)];
                // Probably the next item of the same worker.
                const int64_t after = place.item + schedule_.forward_workers;
                const bool is_last = items.first(place.part) + after >= items.end(place.part);
                run_item(part, place, is_last ? place.item : after, worker);
              });
    fill_tails();
  }

 private:
  [[nodiscard]] int64_t* counter() const noexcept {
    return schedule_.forward.counter.in<int64_t>(workspace_);
  }

  // What kernels are told of a part; score: memory for its program.
  [[nodiscard]] ForwardLaunch launch_of(int64_t index, TileProgram& score) const noexcept {
    const SchedulePart& part = schedule_.parts[static_cast<size_t>(index)];
    const PartView view(schedule_, part);
    const Schedule::Data& one = view.uniform();
    ForwardLaunch launch = launch_;
    set_part(view, tensors_, launch);
    launch.mask_classes = one.forward_masks.data();
    if (tables_) {
      score = (one.decodes ? one.score.decode : one.score.forward).view(tables_->by_symbol);
      launch.score = &score;
    }
    if (one.decodes) {
      const int64_t heads = one.shape.kv_heads, sums = one.shape.value_dim + 3;
      launch.decode = one.decode;
      launch.decode.sums =
          schedule_.forward.decode_sums.in<std::byte>(workspace_) +
          real_bytes(plan_.problem) * part.first_decode_query * one.shape.query_heads * sums;
      launch.decode.turn =
          schedule_.forward.decode_turn.in<int32_t>(workspace_) + part.first_decode_tile * heads;
    } else if (plan_.bound_steps > 0) {
      launch.significant = significant(index);
    }
    return launch;
  }

  void run_item(const SchedulePart& part, const PartItems::Place& place, int64_t after,
                int worker) const noexcept {
    const Schedule::Data& one = PartView(schedule_, part).uniform();
    TileProgram score;
    const ForwardLaunch launch = launch_of(place.part, score);
    auto* const scratch = schedule_.forward.scratch.in<std::byte>(workspace_) +
                          worker * schedule_.forward.scratch_stride;
    if (one.decodes) {
      const DecodeItem next = decode_item(one, after);
      DecodeItem item = decode_item(one, place.item);
      if (after != place.item) item.next = &next;
      plan_.kernel->decode(launch, item, scratch);
    } else {
      const ForwardItem next = forward_item(one, after);
      ForwardItem item = forward_item(one, place.item);
      if (after != place.item) item.next = &next;
      plan_.kernel->forward(launch, item, scratch);
    }
  }

  // Heads that share keys are neighbours.
  static ForwardItem forward_item(const Schedule::Data& one, int64_t index) noexcept {
    const int64_t tiles = ceil_divide(one.shape.query_length, one.geometry.query_tile);
    const int64_t head = index / tiles;  // of all batches
    const auto& order =
        one.forward_tiles[static_cast<size_t>(one.heads.class_of_head[static_cast<size_t>(head)])]
            .order;
    return {head / one.shape.query_heads, head % one.shape.query_heads,
            order[static_cast<size_t>(index % tiles)]};
  }

  // Chunks outside: neighbours in time belong to different heads and need not wait.
  static DecodeItem decode_item(const Schedule::Data& one, int64_t index) noexcept {
    const int64_t tiles = one.decode.row_tiles, heads = one.shape.batch * one.shape.kv_heads;
    const int64_t head = index / tiles % heads;
    return {head / one.shape.kv_heads, head % one.shape.kv_heads, index % tiles,
            one.decode.first_chunk + index / (tiles * heads)};
  }

  [[nodiscard]] NegligibleSearch::Memory memory_of(int64_t index) const noexcept {
    return negligible_memory(schedule_.forward.negligible, workspace_, index,
                             schedule_.parts[static_cast<size_t>(index)].first_head,
                             schedule_.items.forward_rows.first(index));
  }
  [[nodiscard]] const TileRange* significant(int64_t index) const noexcept {
    const NegligibleSearch::Memory memory = memory_of(index);
    return *memory.is_searched != 0 ? memory.ranges : nullptr;
  }

  // Distant keys, where the score says so.
  void find_negligible() const noexcept {
    if (plan_.bound_steps == 0) return;
    const auto search_of = [&](int64_t index) {
      const PartView view(schedule_, schedule_.parts[static_cast<size_t>(index)]);
      const Schedule::Data& one = view.uniform();
      const NegligibleInputs inputs = {
          .score = &one.score.bounds,
          .derivative = nullptr,
          .tiles = &one.forward_tiles,
          .class_of_head = one.heads.class_of_head.data(),
          .grid = cut(one.step, one.geometry.query_tile, one.geometry.key_tile),
          .origin = view.origin(),
          .scale = launch_.scale_f64,
          .query = view.queries(tensors_.query),
          .key = view.keys(tensors_.key),
          .value = view.keys(tensors_.value),
          .grad_output = {},
          .real_tables = tables_->by_symbol,
          .is_wanted = !one.decodes};
      return NegligibleSearch(inputs, memory_of(index));
    };
    find_negligible_tiles(schedule_.items.key_blocks, schedule_.items.forward_rows, search_of,
                          *plan_.executor, schedule_.forward_workers, counter());
  }

  void fill_tails() const noexcept {
    if (!is_ragged(schedule_.step)) return;
    const int64_t first = total_length(schedule_.step.query_starts);
    const auto fill = [&](const Tensor& tensor, double value) {
      fill_rows(tensor, first, value, *plan_.executor, schedule_.forward_workers, counter());
    };
    fill(tensors_.output, 0);
    fill(tensors_.logsumexp, -std::numeric_limits<double>::infinity());
  }

  const Plan::Data& plan_;
  const Schedule::Data& schedule_;
  const ForwardTensors& tensors_;
  void* workspace_;
  std::optional<RealTables> tables_;  // none: no score
  ForwardLaunch launch_{};            // what the parts have in common
};

}  // namespace

void run_forward(const Plan::Data& plan, const Schedule::Data& schedule,
                 const ForwardTensors& tensors, void* workspace) noexcept {
  ForwardRun(plan, schedule, tensors, workspace).run();
}

}  // namespace tilewise
