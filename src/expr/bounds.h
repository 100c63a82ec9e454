// SPDX-License-Identifier: Apache-2.0
// What values every part of an expression can take on a box of pairs, and what follows before
// anything runs: no division by 0, no index outside its table, 32-bit arithmetic.
#pragma once

#include <cstdint>
#include <vector>

#include "expr/interval_program.h"

namespace tilewise::expr {

// Pairs: global positions, all four inclusive.
struct Box {
  int64_t q0 = 0, q1 = 0, k0 = 0, k1 = 0;
  [[nodiscard]] bool is_empty() const { return q0 > q1 || k0 > k1; }
};

// Where an expression is asked.
struct Domain {
  Interval batch{0, 0}, head{0, 0};
  Box box;
};

// Contains, for every node that the root depends on, every value at a point of the domain, which is
// not empty.
class Bounds {
 public:
  Bounds(const Expression& expression, const Values& values, const Domain& domain);
  [[nodiscard]] bool has(int32_t node) const { return program_.register_of(node) >= 0; }
  // Of an int or a bool.
  [[nodiscard]] Interval integer(int32_t node) const;
  [[nodiscard]] RealInterval real(int32_t node) const;

 private:
  IntervalProgram program_;
  std::vector<IntervalRegister> registers_;
};

// Throws InvalidArgument, in the name of the operation, if a divisor of // or % may be 0 or an
// index may leave its table somewhere in the domain.
void check_bound(const Expression& expression, const Values& values, const Domain& domain,
                 const char* operation);

// Whether every integer that the evaluation of the root meets in the domain fits in 32 bits.
[[nodiscard]] bool fits_32_bits(const Expression& expression, const Values& values,
                                const Domain& domain);

}  // namespace tilewise::expr
