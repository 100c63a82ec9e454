// SPDX-License-Identifier: Apache-2.0
#include "engine/score_bounds.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/dtype.h"

namespace tilewise {
namespace {

using expr::Interval;
using expr::IntervalProgram;
using expr::IntervalRegister;
using expr::RealInterval;

void put(IntervalRegister& to, Interval value) {
  std::fill_n(to.lo, expr::kLanes, value.lo);
  std::fill_n(to.hi, expr::kLanes, value.hi);
}
void put(IntervalRegister& to, RealInterval value) {
  put(to, Interval{std::bit_cast<int64_t>(value.lo), std::bit_cast<int64_t>(value.hi)});
}

// The values in a rectangle of a table; unknown if they are too many to look at, or one is NaN.
RealInterval range_of(const Tensor& table, const Interval (&index)[expr::kMaxOperands], int rank) {
  constexpr int64_t kMost = 4096;
  int64_t begin[4] = {}, size[4] = {1, 1, 1, 1}, elements = 1;
  for (int i = 0; i < rank; ++i) {
    const int axis = 4 - rank + i;
    const int64_t last = table.shape[axis] - 1;
    begin[axis] = std::clamp<int64_t>(index[i].lo, 0, last);
    size[axis] = std::clamp<int64_t>(index[i].hi, 0, last) - begin[axis] + 1;
    if (size[axis] > kMost || (elements *= size[axis]) > kMost) return expr::kAnyReal;
  }
  RealInterval range{INFINITY, -INFINITY};
  for (int64_t n = 0; n < elements; ++n) {
    int64_t rest = n, at = 0;
    for (int axis = 3; axis >= 0; --axis) {
      at += (begin[axis] + rest % size[axis]) * table.strides[axis];
      rest /= size[axis];
    }
    const double value = load_element(table.data, table.dtype, at);
    if (std::isnan(value)) return expr::kAnyReal;
    range = {std::min(range.lo, value), std::max(range.hi, value)};
  }
  return expr::widen(range.lo, range.hi);  // kernels round to single precision
}

}  // namespace

ScoreBounds::ScoreBounds(const expr::Expression& expression, const expr::Values& values)
    : program_(std::in_place, expression, values, IntervalProgram::Refine::kNo) {
  const expr::Graph& graph = *expression.graph;
  for (int32_t i = 0; i <= expression.root; ++i) {
    const int32_t at = program_->register_of(i);
    if (at < 0) continue;
    const expr::Node& node = graph.node(i);
    if (node.is(expr::Variable::kScore)) score_ = at;
    if (node.op != expr::Op::kLookup || node.type != expr::Type::kReal) continue;
    Lookup lookup{at, {}, node.count, static_cast<int32_t>(node.immediate)};
    for (int axis = 0; axis < node.count; ++axis)
      lookup.index[axis] = program_->register_of(node.operand[axis]);
    lookups_.push_back(lookup);
  }
}

int64_t ScoreBounds::steps() const noexcept {
  return program_ ? static_cast<int64_t>(program_->steps().size()) : 0;
}

void ScoreBounds::begin(IntervalRegister* registers, int64_t batch, int64_t head,
                        const expr::Box& box, const Tensor* real_tables) const {
  program_->start(registers);
  put(registers[IntervalProgram::kBatch], Interval{batch, batch});
  put(registers[IntervalProgram::kHead], Interval{head, head});
  put(registers[IntervalProgram::kQuery], Interval{box.q0, box.q1});
  put(registers[IntervalProgram::kKey], Interval{box.k0, box.k1});
  program_->evaluate(registers, 0);
  for (const Lookup& lookup : lookups_) {
    Interval index[expr::kMaxOperands];
    for (int axis = 0; axis < lookup.rank; ++axis) {
      const IntervalRegister& r = registers[lookup.index[axis]];
      index[axis] = {r.lo[0], r.hi[0]};
    }
    put(registers[lookup.result], range_of(real_tables[lookup.symbol], index, lookup.rank));
  }
}

void ScoreBounds::bound_products(IntervalRegister* registers, double largest) const {
  if (score_ >= 0) put(registers[score_], RealInterval{-largest, largest});
}

void ScoreBounds::evaluate(IntervalRegister* registers, const expr::Box (&boxes)[expr::kLanes],
                           RealInterval (&result)[expr::kLanes]) const {
  for (int i = 0; i < expr::kLanes; ++i) {
    registers[IntervalProgram::kQuery].lo[i] = boxes[i].q0;
    registers[IntervalProgram::kQuery].hi[i] = boxes[i].q1;
    registers[IntervalProgram::kKey].lo[i] = boxes[i].k0;
    registers[IntervalProgram::kKey].hi[i] = boxes[i].k1;
  }
  program_->evaluate(registers, 0);
  const IntervalRegister& root = registers[program_->root()];
  for (int i = 0; i < expr::kLanes; ++i)
    result[i] = {std::bit_cast<double>(root.lo[i]), std::bit_cast<double>(root.hi[i])};
}

}  // namespace tilewise
