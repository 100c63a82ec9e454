// SPDX-License-Identifier: Apache-2.0
// What a score can be on tiles, once a run has given real tables and the size of products.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "expr/bounds.h"
#include "tilewise/tensor.h"

namespace tilewise {

// Immutable; the state of a thread is its registers, steps() of them.
class ScoreBounds {
 public:
  ScoreBounds() = default;  // of nothing: steps() is 0
  // The tables of the values must outlive it. expression: of reals.
  ScoreBounds(const expr::Expression& expression, const expr::Values& values);

  [[nodiscard]] int64_t steps() const noexcept;
  // For one head and the pairs of a box. real_tables: by symbol; each stands for the range of what
  // the head can read of it.
  void begin(expr::IntervalRegister* registers, int64_t batch, int64_t head, const expr::Box& box,
             const Tensor* real_tables) const;
  // From now on |s| <= largest.
  void bound_products(expr::IntervalRegister* registers, double largest) const;
  // result[i]: on the queries, in every one of boxes[i], global positions.
  void evaluate(expr::IntervalRegister* registers, const expr::Box (&boxes)[expr::kLanes],
                expr::RealInterval (&result)[expr::kLanes]) const;

 private:
  struct Lookup {
    int32_t result;  // registers
    int32_t index[expr::kMaxOperands];
    int32_t rank;
    int32_t symbol;
  };
  std::optional<expr::IntervalProgram> program_;
  int32_t score_ = -1;  // the register of s; -1: not read
  std::vector<Lookup> lookups_;
};

}  // namespace tilewise
