// SPDX-License-Identifier: Apache-2.0
// The inner loop of every descent over tiles. Integers are always checked for overflow: 32-bit
// lanes, unchecked arithmetic and wider batches were measured and gained nothing.
#include <algorithm>
#include <bit>

#include "expr/interval_program.h"

namespace tilewise::expr {
namespace {

using Registers = IntervalRegister*;

Interval interval_of(const IntervalRegister& r, int lane) { return {r.lo[lane], r.hi[lane]}; }
RealInterval real_of(const IntervalRegister& r, int lane) {
  return {std::bit_cast<double>(r.lo[lane]), std::bit_cast<double>(r.hi[lane])};
}
void put(IntervalRegister& r, int lane, Interval value) {
  r.lo[lane] = value.lo;
  r.hi[lane] = value.hi;
}
void put(IntervalRegister& r, int lane, RealInterval value) {
  r.lo[lane] = std::bit_cast<int64_t>(value.lo);
  r.hi[lane] = std::bit_cast<int64_t>(value.hi);
}

RealInterval real_step(Op op, RealInterval a, RealInterval b) {
  switch (op) {
    case Op::kAdd:
      return add(a, b);
    case Op::kSub:
      return subtract(a, b);
    case Op::kMul:
      return multiply(a, b);
    case Op::kDiv:
      return divide(a, b);
    case Op::kMin:
      return min(a, b);
    case Op::kMax:
      return max(a, b);
    case Op::kAbs:
      return absolute(a);
    case Op::kNeg:
      return negate(a);
    case Op::kExp:
      return exponential(a);
    case Op::kLog:
      return logarithm(a);
    case Op::kTanh:
      return hyperbolic_tangent(a);
    case Op::kSqrt:
      return square_root(a);
    default:
      return kAnyReal;
  }
}

// Comparisons with a bound that is NaN are false: such a verdict stays open.
Interval compare(Op op, RealInterval a, RealInterval b) {
  const auto verdict = [](bool always, bool never) { return Interval{always, !never}; };
  const bool is_equal = a.lo == a.hi && b.lo == b.hi && a.lo == b.lo;
  const bool is_apart = a.hi < b.lo || b.hi < a.lo;
  switch (op) {
    case Op::kLess:
      return verdict(a.hi < b.lo, b.hi <= a.lo);
    case Op::kLessEqual:
      return verdict(a.hi <= b.lo, b.hi < a.lo);
    case Op::kEqual:
      return verdict(is_equal, is_apart);
    default:
      return verdict(is_apart, is_equal);
  }
}

class Evaluation {
 public:
  Evaluation(const std::vector<IntervalStep>& steps, Registers registers)
      : steps_(steps), registers_(registers) {}

  void run(size_t i) {
    const IntervalStep& step = steps_[i];
    IntervalRegister& r = registers_[i];
    const IntervalRegister& a = operand(step, 0);
    const IntervalRegister& b = operand(step, 1);
    switch (step.op) {
      case IntervalOp::kInput:
      case IntervalOp::kConst:
      case IntervalOp::kRealConst:
      case IntervalOp::kUnknown:
        break;
      case IntervalOp::kAdd:
        each(r, a, b, [](Interval x, Interval y) { return add(x, y); });
        break;
      case IntervalOp::kSubtract:
        each(r, a, b, [](Interval x, Interval y) { return subtract(x, y); });
        break;
      case IntervalOp::kMultiply:
        each(r, a, b, [](Interval x, Interval y) { return multiply(x, y); });
        break;
      case IntervalOp::kSquare:
        each(r, a, b, [](Interval x, Interval) { return square(x); });
        break;
      case IntervalOp::kMin:
        each(r, a, b, [](Interval x, Interval y) {
          return Interval{std::min(x.lo, y.lo), std::min(x.hi, y.hi)};
        });
        break;
      case IntervalOp::kMax:
        each(r, a, b, [](Interval x, Interval y) {
          return Interval{std::max(x.lo, y.lo), std::max(x.hi, y.hi)};
        });
        break;
      case IntervalOp::kAbs:
        each(r, a, b, [](Interval x, Interval) { return absolute(x); });
        break;
      case IntervalOp::kNegate:
        each(r, a, b, [](Interval x, Interval) { return negate(x); });
        break;
      case IntervalOp::kFloorDivBy:
      case IntervalOp::kFloorModBy:
        divide_by(step, r, a);
        break;
      case IntervalOp::kFloorDiv:
        each(r, a, b, [](Interval x, Interval y) { return floor_divide(x, y); });
        break;
      case IntervalOp::kFloorMod:
        each(r, a, b, [](Interval x, Interval y) { return floor_modulo(x, y); });
        break;
      case IntervalOp::kLess:
        each(r, a, b, [](Interval x, Interval y) {
          return Interval{int64_t{x.hi < y.lo}, int64_t{x.lo < y.hi}};
        });
        break;
      case IntervalOp::kLessEqual:
        each(r, a, b, [](Interval x, Interval y) {
          return Interval{int64_t{x.hi <= y.lo}, int64_t{x.lo <= y.hi}};
        });
        break;
      case IntervalOp::kEqual:
      case IntervalOp::kNotEqual:
        equal(step, r, a, b);
        break;
      case IntervalOp::kNot:
        each(r, a, b, [](Interval x, Interval) { return Interval{1 - x.hi, 1 - x.lo}; });
        break;
      case IntervalOp::kWhere:
        where(step, r);
        break;
      case IntervalOp::kLookup:
        look_up(step, r);
        break;
      case IntervalOp::kReal:
        real(step, r);
        break;
      case IntervalOp::kRealCompare:
        for (int l = 0; l < kLanes; ++l)
          put(r, l, compare(static_cast<Op>(step.immediate), real_of(a, l), real_of(b, l)));
        break;
      case IntervalOp::kMeetAtLeast:
      case IntervalOp::kMeetAtMost:
      case IntervalOp::kMeetEqual:
        meet(step, r, a, b);
        break;
      case IntervalOp::kDisprove:
        each(r, a, b, [](Interval x, Interval y) { return Interval{x.lo, std::min(x.hi, y.hi)}; });
        break;
      case IntervalOp::kProve:
        each(r, a, b, [](Interval x, Interval y) { return Interval{std::max(x.lo, y.lo), x.hi}; });
        break;
    }
  }

 private:
  const IntervalRegister& operand(const IntervalStep& step, int i) const {
    return registers_[step.count > i ? step.operand[i] : 0];
  }
  template <class Operation>
  static void each(IntervalRegister& r, const IntervalRegister& a, const IntervalRegister& b,
                   Operation operation) {
    for (int l = 0; l < kLanes; ++l) {
      const Interval x = operation(interval_of(a, l), interval_of(b, l));
      r.lo[l] = x.lo;
      r.hi[l] = x.hi;
    }
  }
  [[nodiscard]] uint64_t set_of(int32_t index, int lane) const {
    const IntervalRegister& r = registers_[index];
    if (steps_[static_cast<size_t>(index)].keeps_set) return r.set[lane];
    const Interval range = interval_of(r, lane);
    return range.is_one() ? set_of_value(range.lo) : set_of_values(range);
  }

  static void divide_by(const IntervalStep& step, IntervalRegister& r, const IntervalRegister& a) {
    const int64_t d = step.immediate;
    const bool is_power = std::has_single_bit(static_cast<uint64_t>(d));
    const int shift = std::countr_zero(static_cast<uint64_t>(d));
    const auto rest = [](int64_t x, int64_t quotient, int64_t divisor) {
      return wrap_sub(x, wrap_mul(quotient, divisor));  // the product may wrap, the rest is right
    };
    for (int l = 0; l < kLanes; ++l) {
      const Interval quotient = is_power ? Interval{a.lo[l] >> shift, a.hi[l] >> shift}
                                         // shifts floor
                                         : Interval{floor_div(a.lo[l], d), floor_div(a.hi[l], d)};
      if (step.op == IntervalOp::kFloorDivBy)
        put(r, l, quotient);
      else if (quotient.is_one())
        put(r, l, Interval{rest(a.lo[l], quotient.lo, d), rest(a.hi[l], quotient.lo, d)});
      else
        put(r, l, Interval{0, d - 1});
    }
  }

  void equal(const IntervalStep& step, IntervalRegister& r, const IntervalRegister& a,
             const IntervalRegister& b) const {
    const bool has_sets = steps_[static_cast<size_t>(step.operand[0])].keeps_set ||
                          steps_[static_cast<size_t>(step.operand[1])].keeps_set;
    for (int l = 0; l < kLanes; ++l) {
      const bool always = a.hi[l] <= b.lo[l] && b.hi[l] <= a.lo[l];
      bool maybe = a.lo[l] <= b.hi[l] && b.lo[l] <= a.hi[l];
      if (maybe && has_sets) maybe = (set_of(step.operand[0], l) & set_of(step.operand[1], l)) != 0;
      put(r, l,
          step.op == IntervalOp::kEqual ? Interval{always, maybe} : Interval{!maybe, !always});
    }
  }

  // Ints and bools; of a real, kReal.
  void where(const IntervalStep& step, IntervalRegister& r) const {
    const IntervalRegister& condition = operand(step, 0);
    for (int l = 0; l < kLanes; ++l) {
      const bool always = condition.lo[l] != 0, never = condition.hi[l] == 0;
      const Interval a = interval_of(operand(step, 1), l), b = interval_of(operand(step, 2), l);
      put(r, l, always ? a : never ? b : hull(a, b));
      if (!step.keeps_set) continue;
      r.set[l] =
          (never ? 0 : set_of(step.operand[1], l)) | (always ? 0 : set_of(step.operand[2], l));
    }
  }

  void look_up(const IntervalStep& step, IntervalRegister& r) const {
    for (int l = 0; l < kLanes; ++l) {
      Interval box[kMaxOperands];
      for (int i = 0; i < step.count; ++i) box[i] = interval_of(operand(step, i), l);
      const ValueRange range = step.index->over(box);
      put(r, l, range.interval);
      if (step.keeps_set) r.set[l] = range.set;
    }
  }

  void real(const IntervalStep& step, IntervalRegister& r) const {
    const auto op = static_cast<Op>(step.immediate);
    for (int l = 0; l < kLanes; ++l) {
      const IntervalRegister& first = operand(step, 0);
      if (op == Op::kToReal) {
        put(r, l, to_real(static_cast<double>(first.lo[l]), static_cast<double>(first.hi[l])));
      } else if (op == Op::kWhere) {
        const RealInterval a = real_of(operand(step, 1), l), b = real_of(operand(step, 2), l);
        put(r, l, first.lo[l] != 0 ? a : first.hi[l] == 0 ? b : hull(a, b));
      } else {
        put(r, l, real_step(op, real_of(first, l), real_of(operand(step, 1), l)));
      }
    }
  }

  // An empty meet means that the fact is false on the box; its operand is then left as it is.
  void meet(const IntervalStep& step, IntervalRegister& r, const IntervalRegister& a,
            const IntervalRegister& b) const {
    for (int l = 0; l < kLanes; ++l) {
      Interval x = interval_of(a, l);
      if (step.op != IntervalOp::kMeetAtMost) x.lo = std::max(x.lo, b.lo[l]);
      if (step.op != IntervalOp::kMeetAtLeast) x.hi = std::min(x.hi, b.hi[l]);
      if (x.lo > x.hi) x = interval_of(a, l);
      put(r, l, x);
      if (!step.keeps_set) continue;
      uint64_t set = set_of(step.operand[0], l) & set_of_values(x);
      if (step.op == IntervalOp::kMeetEqual) set &= set_of(step.operand[1], l);
      r.set[l] = set != 0 ? set : ~uint64_t{0};
    }
  }

  const std::vector<IntervalStep>& steps_;
  Registers registers_;
};

}  // namespace

void IntervalProgram::evaluate(IntervalRegister* registers, size_t from, size_t to) const {
  Evaluation evaluation(steps_, registers);
  to = std::min(to, steps_.size());
  for (size_t i = from; i < to; ++i) evaluation.run(i);
}

std::vector<IntervalRegister> IntervalProgram::start() const {
  std::vector<IntervalRegister> registers(steps_.size());
  start(registers.data());
  return registers;
}

void IntervalProgram::start(IntervalRegister* registers) const {
  for (size_t i = 0; i < steps_.size(); ++i) {
    const IntervalStep& step = steps_[i];
    for (int l = 0; l < kLanes; ++l) {
      if (step.op == IntervalOp::kConst)
        put(registers[i], l, Interval{step.immediate, step.immediate});
      else if (step.op == IntervalOp::kRealConst)
        put(registers[i], l, real_constant(std::bit_cast<double>(step.immediate)));
      else if (step.op == IntervalOp::kUnknown)
        put(registers[i], l, kAnyReal);
    }
  }
  evaluate(registers, 0, q_begin_);
}

}  // namespace tilewise::expr
