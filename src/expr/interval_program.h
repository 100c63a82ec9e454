// SPDX-License-Identifier: Apache-2.0
// An expression compiled for boxes: what values can each node take on a box of pairs? Four boxes at
// a time. A register holds, for each of them, an interval that contains every value of the node on
// that box (it may be wider); of a bool, where 0 is false and 1 is true, so that and is the
// minimum, or the maximum.
#pragma once

#include <cstdint>
#include <vector>

#include "expr/ir.h"
#include "expr/range_index.h"
#include "expr/real_interval.h"
#include "expr/values.h"

namespace tilewise::expr {

inline constexpr int kLanes = 4;

enum class IntervalOp : uint8_t {
  kInput,  // written by the caller
  // Written once, by start().
  kConst,      // immediate
  kRealConst,  // immediate: the bits of the double
  kUnknown,    // a real that nobody knows before the run: the score, a real table
  // As in ir.h, of ints (and bools).
  kAdd,
  kSubtract,
  kMultiply,
  kSquare,
  kMin,
  kMax,
  kAbs,
  kNegate,
  kFloorDivBy,  // the divisor is a positive constant: immediate
  kFloorModBy,
  kFloorDiv,
  kFloorMod,
  kLess,
  kLessEqual,
  kEqual,
  kNotEqual,
  kNot,
  kWhere,
  kLookup,
  // As in ir.h, of reals: one step for all operators, which are rare in masks. immediate: the Op.
  kReal,
  kRealCompare,
  // Refinement. Operand 0 as it is where a fact about it holds: at least, at most, equal to
  // operand 1.
  kMeetAtLeast,
  kMeetAtMost,
  kMeetEqual,
  // Operand 0, a conjunction, false where operand 1 is false; a disjunction, true where it is true.
  kDisprove,
  kProve,
};

struct IntervalStep {
  IntervalOp op;
  bool keeps_set = false;  // an int whose set of values is compared
  uint8_t count = 0;
  int32_t operand[kMaxOperands] = {-1, -1, -1, -1};
  int64_t immediate = 0;
  const RangeIndex* index = nullptr;  // of kLookup
};

// Reals are kept as the bits of the doubles. The set is of a step that keeps one.
struct IntervalRegister {
  int64_t lo[kLanes], hi[kLanes];
  uint64_t set[kLanes];
};

// Steps in an order in which operands come first: the inputs, the constants, what depends on q
// alone, on k alone, and the rest, so that a descent computes each part as rarely as it can.
class IntervalProgram {
 public:
  // The registers of the inputs.
  static constexpr int32_t kBatch = 0, kHead = 1, kQuery = 2, kKey = 3;
  enum class Refine : bool { kNo, kYes };

  // The tables of the values must outlive it. Refine::kYes: a conjunct is evaluated once more under
  // the facts that the others state, and may then disprove the conjunction (dually for or). A
  // refined interval holds for the conjunction only, so the nodes keep their plain ones.
  IntervalProgram(const Expression& expression, const Values& values, Refine refine);

  [[nodiscard]] const std::vector<IntervalStep>& steps() const noexcept { return steps_; }
  [[nodiscard]] int32_t root() const noexcept { return root_; }
  // The register of a node of the expression's graph; -1: the root does not depend on it.
  [[nodiscard]] int32_t register_of(int32_t node) const {
    return register_of_[static_cast<size_t>(node)];
  }
  [[nodiscard]] size_t q_begin() const noexcept { return q_begin_; }
  [[nodiscard]] size_t k_begin() const noexcept { return k_begin_; }
  [[nodiscard]] size_t mixed_begin() const noexcept { return mixed_begin_; }

  // Registers in which everything is in place that depends on no input.
  [[nodiscard]] std::vector<IntervalRegister> start() const;
  // The same in memory for steps().size() registers.
  void start(IntervalRegister* registers) const;
  // Steps [from, to); to = -1: to the end. Steps before `from` must have been evaluated.
  void evaluate(std::vector<IntervalRegister>& registers, size_t from,
                size_t to = static_cast<size_t>(-1)) const {
    evaluate(registers.data(), from, to);
  }
  void evaluate(IntervalRegister* registers, size_t from,
                size_t to = static_cast<size_t>(-1)) const;

 private:
  friend class IntervalCompiler;
  std::vector<IntervalStep> steps_;
  std::vector<int32_t> register_of_;
  int32_t root_ = -1;
  size_t q_begin_ = 0, k_begin_ = 0, mixed_begin_ = 0;
};

}  // namespace tilewise::expr
