// SPDX-License-Identifier: Apache-2.0
// Python's operators on values of a text: its conversions between bools, integers and reals, and
// errors that point at the operand which does not fit.
#pragma once

#include "expr/ir.h"
#include "expr/tokens.h"

namespace tilewise::expr {

struct Value {
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
  [[nodiscard]] Type type(const Value& value) const { return graph_.node(value.node).type; }

  // The value as what is wanted, or an error.
  Value as_bool(const Value& value);  // a number is true if it is not 0
  [[nodiscard]] Value as_number(const Value& value) const;
  [[nodiscard]] Value as_int(const Value& value) const;
  Value as_real(const Value& value);

  Value arithmetic(Op op, Value a, Value b);  // + - * min max: an int beside a real is promoted
  Value divide(const Value& a, const Value& b);
  Value floor_divide(Op op, const Value& a, const Value& b);  // // and %
  Value compare(const Token& op, Value a, Value b);           // < <= > >= == !=
  Value connect(Op op, const Value& a, const Value& b);       // and, or
  Value bitwise(Op op, const Value& a, const Value& b);       // & and |, of bools only
  Value choose(const Value& condition, Value a, Value b);     // a if condition else b
  Value negate(const Value& a);                               // -
  Value opposite(const Value& a);                             // not
  Value bitwise_opposite(const Value& a);                     // ~, of a bool only
  Value function(Op op, const Value& a);                      // abs float exp log tanh sqrt

 private:
  [[noreturn]] void wrong_type(const Value& value, const char* expected, const char* hint) const;
  [[nodiscard]] Value as_pure_bool(const Value& value) const;
  void unify(Value& a, Value& b);
  Value binary(Op op, const Value& a, const Value& b);
  Value compare_bools(bool is_equal, const Value& a, const Value& b);

  Source source_;
  Graph graph_;
};

}  // namespace tilewise::expr
