// SPDX-License-Identifier: Apache-2.0
// Python's operators on the parts of a text: its conversions between bools, integers and reals, and
// errors that point at the operand which does not fit.
#pragma once

#include "expr/ir.h"
#include "expr/tokens.h"

namespace tilewise::expr {

struct Operand {
  int32_t node = -1;
  size_t at = 0;  // where its text begins
  // A bool made of numbers by `and`, `or` or a branch of `if`, where Python keeps the number. It is
  // a condition like any other, but may not be compared or negated bitwise.
  bool is_truth = false;
};

class Operators {
 public:
  explicit Operators(const Source& source) : source_(source) {}

  [[nodiscard]] Graph& graph() noexcept { return graph_; }
  [[nodiscard]] Type type(const Operand& value) const { return graph_.node(value.node).type; }

  // The value as what is wanted, or an error.
  Operand as_bool(const Operand& value);  // a number is true if it is not 0
  [[nodiscard]] Operand as_number(const Operand& value) const;
  [[nodiscard]] Operand as_int(const Operand& value) const;
  Operand as_real(const Operand& value);

  Operand arithmetic(Op op, Operand a,
                     Operand b);  // + - * min max: an int beside a real is promoted
  Operand divide(const Operand& a, const Operand& b);
  Operand floor_divide(Op op, const Operand& a, const Operand& b);  // // and %
  Operand compare(const Token& op, Operand a, Operand b);           // < <= > >= == !=
  Operand connect(Op op, const Operand& a, const Operand& b);       // and, or
  Operand bitwise(Op op, const Operand& a, const Operand& b);       // & and |, of bools only
  Operand choose(const Operand& condition, Operand a, Operand b);   // a if condition else b
  Operand negate(const Operand& a);                                 // -
  Operand opposite(const Operand& a);                               // not
  Operand bitwise_opposite(const Operand& a);                       // ~, of a bool only
  Operand function(Op op, const Operand& a);                        // abs float exp log tanh sqrt

 private:
  [[noreturn]] void wrong_type(const Operand& value, const char* expected, const char* hint) const;
  [[nodiscard]] Operand as_pure_bool(const Operand& value) const;
  void unify(Operand& a, Operand& b);
  Operand binary(Op op, const Operand& a, const Operand& b);
  Operand compare_bools(bool is_equal, const Operand& a, const Operand& b);

  Source source_;
  Graph graph_;
};

}  // namespace tilewise::expr
