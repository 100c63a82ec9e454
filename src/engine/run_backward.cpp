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
#include "engine/plan_data.h"
#include "engine/work.h"
#include "kernels/dropout.h"

namespace tilewise {
namespace {

class BackwardRun {
 public:
  BackwardRun(const Plan::Data& plan, const Schedule::Data& schedule,
              const BackwardTensors& tensors, void* workspace) noexcept
      : plan_(plan),
        schedule_(schedule),
        workspace_(workspace),
        grad_sink_(tensors.grad_sink),
        grad_tables_(tensors.grad_tables) {
    const BackwardLayout& layout = schedule.backward;
    const double scale = *plan.problem.scale;
    launch_.shape = schedule.shape;
    launch_.geometry = schedule.geometry;
    launch_.scale = static_cast<float>(scale);
    launch_.scale_f64 = scale;
    launch_.query = tensors.query;
    launch_.key = tensors.key;
    launch_.value = tensors.value;
    launch_.bias = tensors.bias;
    launch_.sink = tensors.sink;
    launch_.output = tensors.output;
    launch_.logsumexp = tensors.logsumexp;
    launch_.grad_output = tensors.grad_output;
    launch_.grad_logsumexp = tensors.grad_logsumexp;
    launch_.grad_query = tensors.grad_query;
    launch_.grad_key = tensors.grad_key;
    launch_.grad_value = tensors.grad_value;
    launch_.grad_bias = tensors.grad_bias;
    launch_.mask_classes = schedule.backward_masks.data();
    launch_.class_of_head = schedule.heads.class_of_head.data();
    launch_.program_sizes = plan.programs;
    launch_.dropout = dropout_of(plan.problem.dropout, tensors.dropout_seed);
    if (plan.problem.score.expression() != nullptr) set_score(tensors.tables);
    launch_.origin = {schedule.step.batch_offset, schedule.step.head_offset,
                      schedule.step.query_offset, schedule.step.key_offset};
    launch_.lse = layout.lse.in<void>(workspace);
    launch_.delta = layout.delta.in<void>(workspace);
    launch_.grad_query_accumulator = layout.accumulator.in<void>(workspace);
    launch_.turn = layout.turn.in<int32_t>(workspace);
    launch_.bias_turn = layout.bias_turn.in<int32_t>(workspace);
    launch_.careful = layout.careful.in<int32_t>(workspace);
    if (!grad_tables_.empty()) set_tables();
  }

  void run() noexcept {
    const AttentionShape& shape = schedule_.shape;
    const int64_t heads = shape.batch * shape.kv_heads;
    std::fill_n(launch_.careful, heads, 0);
    prepare();
    find_negligible();
    zero_shared_gradients();
    walk_heads(false);
    const bool any_careful =
        std::any_of(launch_.careful, launch_.careful + heads, [](int32_t flag) { return flag; });
    if (any_careful) {
      zero_shared_gradients();
      walk_heads(true);
    }
    for (const NamedTensor& grad : grad_tables_) store_grad_table(grad);
    if (grad_sink_.data != nullptr) store_grad_sink();
  }

 private:
  void set_score(const std::vector<NamedTensor>& tables) noexcept {
    const ScorePrograms& score = schedule_.score;
    real_tables_.emplace(score.tables, tables);
    score_ = (grad_tables_.empty() ? score.backward : score.backward_with_tables)
                 .view(real_tables_->by_symbol);
    launch_.score = &score_;
  }

  void set_tables() noexcept {
    const BackwardLayout& layout = schedule_.backward;
    const ScorePrograms& score = schedule_.score;
    TableGradients& tables = launch_.tables;
    tables.lookups = score.lookups.data();
    tables.lookup_count = static_cast<int32_t>(score.lookups.size());
    tables.elements = score.table_elements;
    tables.copies = table_copies(tables.elements, schedule_.shape.batch * schedule_.shape.kv_heads);
    tables.sums = layout.table_sums.in<void>(workspace_);
    tables.turn = layout.table_turn.in<int32_t>(workspace_);
    tables.parts = layout.table_parts.in<void>(workspace_);
    tables.part_stride = layout.table_stride;
    tables.part_elements = layout.table_elements.in<int32_t>(workspace_);
  }

  template <class Body>
  void for_items(int64_t items, const Body& body) const noexcept {
    const int workers = static_cast<int>(std::clamp<int64_t>(items, 1, schedule_.backward_workers));
    run_items(*plan_.executor, workers, items, schedule_.backward.counter.in<int64_t>(workspace_),
              body);
  }

  void prepare() const noexcept {
    const AttentionShape& shape = schedule_.shape;
    const int64_t blocks = ceil_divide(shape.query_length, kRowsPerItem);
    auto* const grad_sink = schedule_.backward.grad_sink.in<double>(workspace_);
    for_items(shape.batch * shape.query_heads * blocks, [&](int64_t index, int) {
      const int64_t head = index / blocks;
      const int64_t begin = index % blocks * kRowsPerItem;
      const PrepareItem item = {head / shape.query_heads, head % shape.query_heads, begin,
                                std::min(begin + kRowsPerItem, shape.query_length),
                                grad_sink_.data != nullptr ? grad_sink + index : nullptr};
      plan_.kernel->backward_prepare(launch_, item);
    });
  }

  // Distant keys, where the score says so.
  void find_negligible() noexcept {
    if (plan_.bound_steps == 0) return;
    const NegligibleSearch search = {
        .score = &schedule_.score.bounds,
        .derivative = &schedule_.score.derivative_bounds,
        .tiles = &schedule_.backward_tiles,
        .class_of_head = launch_.class_of_head,
        .grid = cut(schedule_.step, launch_.geometry.backward_query_tile,
                    launch_.geometry.backward_key_tile),
        .origin = launch_.origin,
        .scale = launch_.scale_f64,
        .query = launch_.query,
        .key = launch_.key,
        .value = launch_.value,
        .grad_output = launch_.grad_output,
        .lse = launch_.lse,
        .delta = launch_.delta,
        .real_tables = real_tables_->by_symbol};
    launch_.significant = find_negligible_tiles(
        search, schedule_.backward.negligible, *plan_.executor, schedule_.backward_workers,
        schedule_.backward.counter.in<int64_t>(workspace_), workspace_);
  }

  void zero_shared_gradients() const noexcept {
    zero_grad_bias();
    if (launch_.tables.lookups == nullptr) return;
    for (const WorkspacePart& part : {schedule_.backward.table_sums, schedule_.backward.table_turn,
                                      schedule_.backward.table_parts})
      std::memset(part.in<std::byte>(workspace_), 0, static_cast<size_t>(part.bytes));
  }

  // The sum over batch and rows, in order.
  void store_grad_sink() const noexcept {
    const AttentionShape& shape = schedule_.shape;
    const int64_t blocks = ceil_divide(shape.query_length, kRowsPerItem);
    const auto* parts = schedule_.backward.grad_sink.in<double>(workspace_);
    for (int64_t head = 0; head < shape.query_heads; ++head) {
      double sum = 0;
      for (int64_t batch = 0; batch < shape.batch; ++batch)
        for (int64_t block = 0; block < blocks; ++block)
          sum += parts[(batch * shape.query_heads + head) * blocks + block];
      store_element(grad_sink_.data, grad_sink_.dtype, head * grad_sink_.strides[1], sum);
    }
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

  // Tiles that are never visited must hold 0, and sums over broadcast axes start from it.
  void zero_grad_bias() const noexcept {
    const Tensor& bias = launch_.grad_bias;
    if (bias.data == nullptr) return;
    const int64_t blocks = ceil_divide(bias.shape[2], kRowsPerItem);
    for_items(bias.shape[0] * bias.shape[1] * blocks, [&](int64_t index, int) {
      const int64_t head = index / blocks;
      const int64_t begin = index % blocks * kRowsPerItem;
      const int64_t end = std::min(begin + kRowsPerItem, bias.shape[2]);
      for (int64_t row = begin; row < end; ++row) {
        zero_row(bias, head / bias.shape[1], head % bias.shape[1], row);
      }
    });
  }

  static void zero_row(const Tensor& tensor, int64_t batch, int64_t head, int64_t row) noexcept {
    const int64_t size = dtype_bytes(tensor.dtype);
    auto* element =
        static_cast<std::byte*>(tensor.data) +
        size * (batch * tensor.strides[0] + head * tensor.strides[1] + row * tensor.strides[2]);
    for (int64_t i = 0; i < tensor.shape[3]; ++i) {
      std::memset(element + i * size * tensor.strides[3], 0, static_cast<size_t>(size));
    }
  }

  // The first walk takes every head. The second takes those with the careful flag, and the others
  // too where gradients that are sums over heads had to start again.
  void walk_heads(bool is_second) const noexcept {
    const BackwardShares& shares = schedule_.shares;
    std::memset(launch_.turn, 0, static_cast<size_t>(schedule_.backward.turn.bytes));
    std::memset(launch_.bias_turn, 0, static_cast<size_t>(schedule_.backward.bias_turn.bytes));
    for_items(shares.claims(), [&](int64_t claim, int worker) {
      if (claim < shares.whole_heads) {
        if (!takes(claim, is_second)) return;
        reset_turns(worker);
        for (int64_t tile = 0; tile < shares.key_tiles; ++tile) {
          run_tile(claim, tile, worker, worker, is_second);
        }
      } else {
        const int64_t index = (claim - shares.whole_heads) / shares.key_tiles;
        const int64_t tile = (claim - shares.whole_heads) % shares.key_tiles;
        const int64_t head = shares.whole_heads + index;
        if (takes(head, is_second)) {
          run_tile(head, tile, shares.worker_slots + index, worker, is_second);
        }
      }
    });
  }

  [[nodiscard]] bool is_careful(int64_t head) const noexcept {
    return std::atomic_ref<int32_t>(launch_.careful[head]).load(std::memory_order_relaxed) != 0;
  }
  [[nodiscard]] bool takes(int64_t head, bool is_second) const noexcept {
    return !is_second || launch_.grad_bias.data != nullptr || launch_.tables.lookups != nullptr ||
           is_careful(head);
  }

  // Before a worker starts its next whole head, on the slot of that worker alone.
  void reset_turns(int64_t slot) const noexcept {
    const AttentionShape& shape = schedule_.shape;
    const int64_t turns =
        shape.query_heads / shape.kv_heads * launch_.mask_classes[0].by_query.rows;
    std::fill_n(launch_.turn + slot * turns, turns, 0);
  }

  void run_tile(int64_t head, int64_t tile, int64_t slot, int worker,
                bool is_second) const noexcept {
    const BackwardItem item = {head / schedule_.shape.kv_heads,
                               head % schedule_.shape.kv_heads,
                               tile,
                               slot,
                               is_second && is_careful(head),
                               worker};
    auto* const scratch = schedule_.backward.scratch.in<std::byte>(workspace_);
    plan_.kernel->backward(launch_, item, scratch + worker * schedule_.backward.scratch_stride);
  }

  const Plan::Data& plan_;
  const Schedule::Data& schedule_;
  void* workspace_;
  const Tensor grad_sink_;
  const std::vector<NamedTensor>& grad_tables_;
  std::optional<RealTables> real_tables_;  // none: no score
  TileProgram score_;
  BackwardLaunch launch_{};
};

}  // namespace

void run_backward(const Plan::Data& plan, const Schedule::Data& schedule,
                  const BackwardTensors& tensors, void* workspace) noexcept {
  BackwardRun(plan, schedule, tensors, workspace).run();
}

}  // namespace tilewise
