// SPDX-License-Identifier: Apache-2.0
// [Dao22] Algorithm 4 in phases: prepare every row, then walk the key tiles, then walk the heads
// again whose kernels met NaN or infinity behind a mask (rare). Executor::run() returns when all
// workers are done, which is the barrier between phases.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <optional>

#include "base/dtype.h"
#include "engine/negligible_tiles.h"
#include "engine/parts.h"
#include "engine/work.h"
#include "problem/ragged.h"

namespace tilewise {
namespace {

class BackwardRun {
 public:
  BackwardRun(const Plan::Data& plan, const Schedule::Data& schedule,
              const BackwardTensors& tensors, void* workspace) noexcept
      : plan_(plan), schedule_(schedule), tensors_(tensors), workspace_(workspace) {
    set_step(plan, tensors, launch_);
    launch_.bias_turn = schedule.backward.bias_turn.in<int32_t>(workspace);
    if (plan.problem.score.expression() != nullptr)
      real_tables_.emplace(schedule.score.tables, tensors.tables);
    if (!tensors.grad_tables.empty()) set_tables();
    const Tensor& bias = tensors.grad_bias;
    shares_grad_bias_ = bias.data != nullptr && (bias.shape[0] < schedule.step.batch ||
                                                 bias.shape[1] < plan.problem.query_heads);
  }

  void run() noexcept {
    auto* const careful = schedule_.backward.careful.in<int32_t>(workspace_);
    const int64_t heads = schedule_.backward_heads;
    std::fill_n(careful, heads, 0);
    prepare();
    find_negligible();
    zero_shared_gradients();
    walk_heads(false);
    const bool any_careful =
        std::any_of(careful, careful + heads, [](int32_t flag) { return flag; });
    if (any_careful) {
      zero_shared_gradients();
      walk_heads(true);
    }
    for (const NamedTensor& grad : tensors_.grad_tables) store_grad_table(grad);
    if (tensors_.grad_sink.data != nullptr) store_grad_sink();
    fill_tails();
  }

 private:
  void set_tables() noexcept {
    const BackwardLayout& layout = schedule_.backward;
    const ScorePrograms& score = schedule_.score;
    TableGradients& tables = launch_.tables;
    tables.lookups = score.lookups.data();
    tables.lookup_count = static_cast<int32_t>(score.lookups.size());
    tables.elements = score.table_elements;
    tables.copies = table_copies(tables.elements, schedule_.backward_heads);
    tables.sums = layout.table_sums.in<void>(workspace_);
    tables.turn = layout.table_turn.in<int32_t>(workspace_);
    tables.parts = layout.table_parts.in<void>(workspace_);
    tables.part_stride = layout.table_stride;
    tables.part_elements = layout.table_elements.in<int32_t>(workspace_);
  }

  [[nodiscard]] const SchedulePart& part_at(int64_t index) const noexcept {
    return schedule_.parts[static_cast<size_t>(index)];
  }

  // What kernels are told of a part; score: memory for its program.
  [[nodiscard]] BackwardLaunch launch_of(int64_t index, TileProgram& score) const noexcept {
    const SchedulePart& part = part_at(index);
    const PartView view(schedule_, part);
    const Schedule::Data& one = view.uniform();
    BackwardLaunch launch = launch_;
    set_part(view, tensors_, launch);
    launch.grad_output = view.queries(tensors_.grad_output);
    launch.grad_logsumexp = view.queries(tensors_.grad_logsumexp);
    launch.grad_query = view.queries(tensors_.grad_query);
    launch.grad_key = view.keys(tensors_.grad_key);
    launch.grad_value = view.keys(tensors_.grad_value);
    launch.grad_bias = view.bias(tensors_.grad_bias);
    launch.mask_classes = one.backward_masks.data();
    if (real_tables_) {
      score = (tensors_.grad_tables.empty() ? one.score.backward : one.score.backward_with_tables)
                  .view(real_tables_->by_symbol);
      launch.score = &score;
    }
    launch.lse = row_numbers(schedule_.backward.lse, part);
    launch.delta = row_numbers(schedule_.backward.delta, part);
    launch.careful = careful_of(part);
    return launch;
  }
  // Of LSE and delta, [query_heads][queries] of each part.
  [[nodiscard]] void* row_numbers(const WorkspacePart& all,
                                  const SchedulePart& part) const noexcept {
    return all.in<std::byte>(workspace_) +
           real_bytes(plan_.problem) * schedule_.shape.query_heads * part.first_query;
  }
  [[nodiscard]] int32_t* careful_of(const SchedulePart& part) const noexcept {
    return schedule_.backward.careful.in<int32_t>(workspace_) + part.first_head;
  }

  template <class Body>
  void for_items(int64_t items, const Body& body) const noexcept {
    const int workers = static_cast<int>(std::clamp<int64_t>(items, 1, schedule_.backward_workers));
    run_items(*plan_.executor, workers, items, counter(), body);
  }
  [[nodiscard]] int64_t* counter() const noexcept {
    return schedule_.backward.counter.in<int64_t>(workspace_);
  }

  void prepare() const noexcept {
    auto* const grad_sink = tensors_.grad_sink.data != nullptr
                                ? schedule_.backward.grad_sink.in<double>(workspace_)
                                : nullptr;
    for_items(schedule_.items.prepare.total(), [&](int64_t index, int) {
      const PartItems::Place place = schedule_.items.prepare.find(index);
      TileProgram score;
      const BackwardLaunch launch = launch_of(place.part, score);
      const AttentionShape& shape = launch.shape;
      const int64_t blocks = ceil_divide(shape.query_length, kRowsPerItem);
      const int64_t head = place.item / blocks;
      const int64_t begin = place.item % blocks * kRowsPerItem;
      const PrepareItem item = {head / shape.query_heads, head % shape.query_heads, begin,
                                std::min(begin + kRowsPerItem, shape.query_length),
                                grad_sink != nullptr ? grad_sink + index : nullptr};
      plan_.kernel->backward_prepare(launch, item);
    });
  }

  [[nodiscard]] NegligibleSearch::Memory memory_of(int64_t index) const noexcept {
    return negligible_memory(schedule_.backward.negligible, workspace_, index,
                             part_at(index).first_head, schedule_.items.backward_rows.first(index));
  }
  [[nodiscard]] const TileRange* significant(int64_t index) const noexcept {
    if (plan_.bound_steps == 0) return nullptr;
    const NegligibleSearch::Memory memory = memory_of(index);
    return *memory.is_searched != 0 ? memory.ranges : nullptr;
  }

  // Distant keys, where the score says so.
  void find_negligible() const noexcept {
    if (plan_.bound_steps == 0) return;
    const auto search_of = [&](int64_t index) {
      const PartView view(schedule_, part_at(index));
      const Schedule::Data& one = view.uniform();
      const NegligibleInputs inputs = {
          .score = &one.score.bounds,
          .derivative = &one.score.derivative_bounds,
          .tiles = &one.backward_tiles,
          .class_of_head = one.heads.class_of_head.data(),
          .grid = cut(one.step, one.geometry.backward_query_tile, one.geometry.backward_key_tile),
          .origin = view.origin(),
          .scale = launch_.scale_f64,
          .query = view.queries(tensors_.query),
          .key = view.keys(tensors_.key),
          .value = view.keys(tensors_.value),
          .grad_output = view.queries(tensors_.grad_output),
          .lse = row_numbers(schedule_.backward.lse, part_at(index)),
          .delta = row_numbers(schedule_.backward.delta, part_at(index)),
          .real_tables = real_tables_->by_symbol};
      return NegligibleSearch(inputs, memory_of(index));
    };
    find_negligible_tiles(schedule_.items.key_blocks, schedule_.items.backward_rows, search_of,
                          *plan_.executor, schedule_.backward_workers, counter());
  }

  void zero_shared_gradients() const noexcept {
    const Tensor& bias = tensors_.grad_bias;  // tiles that are never visited must hold 0, and sums
    fill_rows(bias, 0, 0, *plan_.executor, schedule_.backward_workers, counter());  // start from it
    if (launch_.tables.lookups == nullptr) return;
    for (const WorkspacePart& part : {schedule_.backward.table_sums, schedule_.backward.table_turn,
                                      schedule_.backward.table_parts})
      std::memset(part.in<std::byte>(workspace_), 0, static_cast<size_t>(part.bytes));
  }

  // The sum over sequences or batch, and rows, in order.
  void store_grad_sink() const noexcept {
    const Tensor& to = tensors_.grad_sink;
    const auto* const sums = schedule_.backward.grad_sink.in<double>(workspace_);
    const int64_t heads = schedule_.shape.query_heads;
    for (int64_t head = 0; head < heads; ++head) {
      double sum = 0;
      for (size_t i = 0; i < schedule_.parts.size(); ++i) {
        const PartView view(schedule_, schedule_.parts[i]);
        const AttentionShape& shape = view.uniform().shape;
        const int64_t blocks = ceil_divide(shape.query_length, kRowsPerItem);
        const double* const of_part = sums + schedule_.items.prepare.first(static_cast<int64_t>(i));
        for (int64_t batch = 0; batch < shape.batch; ++batch)
          for (int64_t block = 0; block < blocks; ++block)
            sum += of_part[(batch * heads + head) * blocks + block];
      }
      store_element(to.data, to.dtype, head * to.strides[1], sum);
    }
  }

  // Rows behind the last sequence.
  void fill_tails() const noexcept {
    const Step& step = schedule_.step;
    if (!is_ragged(step)) return;
    const auto zero = [&](const Tensor& tensor, const SequenceStarts& starts) {
      fill_rows(tensor, total_length(starts), 0, *plan_.executor, schedule_.backward_workers,
                counter());
    };
    zero(tensors_.grad_query, step.query_starts);
    zero(tensors_.grad_key, step.key_starts);
    zero(tensors_.grad_value, step.key_starts);
  }

  // The sum of all copies, in order; 0 beyond the elements that the step can read.
  void store_grad_table(const NamedTensor& grad) const noexcept {
    const std::vector<ScoreTable>& tables = schedule_.score.tables;
    const auto table = std::find_if(tables.begin(), tables.end(), [&grad](const ScoreTable& one) {
      return one.name == grad.name;
    });
    const Tensor& to = grad.tensor;
    int64_t i[4];
    for (i[0] = 0; i[0] < to.shape[0]; ++i[0])
      for (i[1] = 0; i[1] < to.shape[1]; ++i[1])
        for (i[2] = 0; i[2] < to.shape[2]; ++i[2])
          for (i[3] = 0; i[3] < to.shape[3]; ++i[3]) {
            int64_t element = 0, at = 0;
            bool is_read = true;
            for (int axis = 0; axis < 4; ++axis) {
              is_read = is_read && i[axis] < table->extent[axis];
              element = element * table->extent[axis] + i[axis];
              at += i[axis] * to.strides[axis];
            }
            const int64_t first = table->first + element;
            if (to.dtype == DType::kFloat64)
              static_cast<double*>(to.data)[at] = is_read ? sum_of_copies<double>(first) : 0;
            else
              static_cast<float*>(to.data)[at] = is_read ? sum_of_copies<float>(first) : 0;
          }
  }
  template <class Real>
  [[nodiscard]] Real sum_of_copies(int64_t element) const noexcept {
    const auto* sums = static_cast<const Real*>(launch_.tables.sums);
    Real sum = 0;
    for (int64_t copy = 0; copy < launch_.tables.copies; ++copy)
      sum += sums[copy * launch_.tables.elements + element];
    return sum;
  }

  // The first walk takes every head. The second takes those with the careful flag, and the others
  // too where gradients that are sums over heads had to start again.
  void walk_heads(bool is_second) const noexcept {
    for (const WorkspacePart& turns : {schedule_.backward.turn, schedule_.backward.bias_turn})
      std::memset(turns.in<std::byte>(workspace_), 0, static_cast<size_t>(turns.bytes));
    for_items(schedule_.items.claims.total(), [&](int64_t index, int worker) {
      const PartItems::Place place = schedule_.items.claims.find(index);
      const BackwardShares& shares = part_at(place.part).shares;
      const int64_t shared = place.item - shares.whole_heads;
      const int64_t head = shared < 0 ? place.item : shares.whole_heads + shared / shares.key_tiles;
      const bool careful = is_second && is_careful(place.part, head);
      if (is_second && !careful && tensors_.grad_bias.data == nullptr &&
          launch_.tables.lookups == nullptr)
        return;
      TileProgram score;
      BackwardLaunch launch = launch_of(place.part, score);
      launch.significant = significant(place.part);
      BackwardItem item{};
      item.batch = head / launch.shape.kv_heads;
      item.kv_head = head % launch.shape.kv_heads;
      item.careful = careful;
      item.worker = worker;
      set_slot(item, place.part, head, launch);
      if (shared >= 0) {
        run_tile(launch, item, place.part, shared % shares.key_tiles);
      } else {
        std::fill_n(item.turn, group() * launch.mask_classes[0].by_query.rows, 0);
        for (int64_t tile = 0; tile < shares.key_tiles; ++tile)
          run_tile(launch, item, place.part, tile);
      }
    });
  }

  [[nodiscard]] int64_t group() const noexcept {
    return schedule_.shape.query_heads / schedule_.shape.kv_heads;
  }
  [[nodiscard]] bool is_careful(int64_t part, int64_t head) const noexcept {
    int32_t& flag = careful_of(part_at(part))[head];
    return std::atomic_ref<int32_t>(flag).load(std::memory_order_relaxed) != 0;
  }

  // Whole heads use the slot of their worker, or one of their own if they are fewer than workers.
  void set_slot(BackwardItem& item, int64_t index, int64_t head,
                const BackwardLaunch& launch) const noexcept {
    const SchedulePart& part = part_at(index);
    const int64_t shared = head - part.shares.whole_heads;
    int64_t query = part.first_slot_query + shared * launch.shape.query_length;
    int64_t tile = part.first_slot_tile + shared * launch.mask_classes[0].by_query.rows;
    if (shared < 0) {
      const bool is_of_worker = schedule_.worker_slots == schedule_.backward_workers;
      const int64_t slot = is_of_worker ? item.worker : part.first_whole_head + head;
      query = slot * schedule_.longest_queries;
      tile = slot * schedule_.most_query_tiles;
    }
    item.grad_query_sums = schedule_.backward.accumulator.in<std::byte>(workspace_) +
                           real_bytes(plan_.problem) * group() * query * launch.shape.head_dim;
    item.turn = schedule_.backward.turn.in<int32_t>(workspace_) + group() * tile;
  }

  // Sums over heads have the order of claims: of parts, of heads within, of key tiles within. Since
  // the parts with most keys come first, all heads before one that has a key tile have it too.
  void run_tile(const BackwardLaunch& launch, BackwardItem& item, int64_t index,
                int64_t tile) const noexcept {
    const SchedulePart& part = part_at(index);
    const int64_t head = part.first_head + item.batch * launch.shape.kv_heads + item.kv_head;
    item.key_tile = tile;
    item.bias_turn = shares_grad_bias_ ? static_cast<int32_t>(head) : -1;
    if (launch.tables.lookups != nullptr) {
      const int64_t first = head / launch.tables.copies * schedule_.most_key_tiles;
      const bool is_last = tile + 1 == part.shares.key_tiles;
      item.table_copy = head % launch.tables.copies;
      item.table_turn = static_cast<int32_t>(first + tile);
      item.next_table_turn =
          static_cast<int32_t>(is_last ? first + schedule_.most_key_tiles : first + tile + 1);
    }
    auto* const scratch = schedule_.backward.scratch.in<std::byte>(workspace_);
    plan_.kernel->backward(launch, item, scratch + item.worker * schedule_.backward.scratch_stride);
  }

  const Plan::Data& plan_;
  const Schedule::Data& schedule_;
  const BackwardTensors& tensors_;
  void* workspace_;
  std::optional<RealTables> real_tables_;  // none: no score
  BackwardLaunch launch_{};                // what the parts have in common
  bool shares_grad_bias_ = false;          // several heads add to one element
};

}  // namespace

void run_backward(const Plan::Data& plan, const Schedule::Data& schedule,
                  const BackwardTensors& tensors, void* workspace) noexcept {
  BackwardRun(plan, schedule, tensors, workspace).run();
}

}  // namespace tilewise
