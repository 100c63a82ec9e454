// SPDX-License-Identifier: Apache-2.0
// The parts of a schedule as a run sees them: a uniform step is one part, a ragged batch has one
// for each sequence, and kernels know neither.
#pragma once

#include <cstdint>

#include "engine/plan_data.h"
#include "kernels/dropout.h"

namespace tilewise {

// What the part has of tensors of the whole step.
class PartView {
 public:
  PartView(const Schedule::Data& schedule, const SchedulePart& part) noexcept
      : schedule_(schedule), part_(part), is_whole_(part.sequence == nullptr) {}
  [[nodiscard]] const Schedule::Data& uniform() const noexcept {
    return is_whole_ ? schedule_ : *part_.sequence;
  }
  [[nodiscard]] Tensor queries(const Tensor& tensor) const noexcept;
  [[nodiscard]] Tensor keys(const Tensor& tensor) const noexcept;
  [[nodiscard]] Tensor bias(const Tensor& tensor) const noexcept;
  [[nodiscard]] TileOrigin origin() const noexcept;

 private:
  const Schedule::Data& schedule_;
  const SchedulePart& part_;
  bool is_whole_;
};

// What forward and backward tell kernels alike. Of all parts:
template <class Launch, class Tensors>
void set_step(const Plan::Data& plan, const Tensors& tensors, Launch& launch) noexcept {
  const double scale = *plan.problem.scale;
  launch.scale = static_cast<float>(scale);
  launch.scale_f64 = scale;
  launch.program_sizes = plan.programs;
  launch.sink = tensors.sink;
  launch.dropout = dropout_of(plan.problem.dropout, tensors.dropout_seed);
}
// Of one:
template <class Launch, class Tensors>
void set_part(const PartView& view, const Tensors& tensors, Launch& launch) noexcept {
  const Schedule::Data& one = view.uniform();
  launch.shape = one.shape;
  launch.geometry = one.geometry;
  launch.query = view.queries(tensors.query);
  launch.key = view.keys(tensors.key);
  launch.value = view.keys(tensors.value);
  launch.bias = view.bias(tensors.bias);
  launch.output = view.queries(tensors.output);
  launch.logsumexp = view.queries(tensors.logsumexp);
  launch.class_of_head = one.heads.class_of_head.data();
  launch.origin = view.origin();
}

// Numbers the items of the parts, shares them out, and lays out the memory of a run.
void lay_out(const Plan::Data& plan, Schedule::Data& schedule);

// Sets rows [first, end of the tensor) of the length axis to a number.
void fill_rows(const Tensor& tensor, int64_t first, double value, Executor& executor, int workers,
               int64_t* counter) noexcept;

}  // namespace tilewise
