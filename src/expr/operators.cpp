// SPDX-License-Identifier: Apache-2.0
#include "expr/operators.h"

#include <algorithm>

namespace tilewise::expr {

void Operators::wrong_type(const Operand& value, const char* expected, const char* hint) const {
  const Type got = type(value);
  source_.reject(value.at,
                 value.is_truth       ? "the truth of a number"
                 : got == Type::kBool ? "a bool"
                 : got == Type::kInt  ? "an integer"
                                      : "a real number",
                 expected, hint);
}

Operand Operators::as_bool(const Operand& value) {
  if (type(value) == Type::kBool) return value;
  return {graph_.truth(value.node), value.at, true};
}

Operand Operators::as_number(const Operand& value) const {
  if (type(value) == Type::kBool)
    wrong_type(value, "a number", "where(condition, 1, 0) makes a number of a bool");
  return value;
}

Operand Operators::as_int(const Operand& value) const {
  if (type(as_number(value)) != Type::kInt)
    wrong_type(value, "an integer", "divide integers with //");
  return value;
}

Operand Operators::as_real(const Operand& value) {
  return {graph_.promoted(as_number(value).node), value.at};
}

// Operand of an operator that is bitwise on Python's integers.
Operand Operators::as_pure_bool(const Operand& value) const {
  if (type(value) != Type::kBool || value.is_truth)
    wrong_type(value, "a bool", "there are no bitwise operators: write and, or, not");
  return value;
}

// Two numbers of one type.
void Operators::unify(Operand& a, Operand& b) {
  if (type(as_number(a)) == type(as_number(b))) return;
  a = as_real(a);
  b = as_real(b);
}

Operand Operators::binary(Op op, const Operand& a, const Operand& b) {
  return {graph_.binary(op, a.node, b.node), a.at};
}

Operand Operators::arithmetic(Op op, Operand a, Operand b) {
  unify(a, b);
  return binary(op, a, b);
}

Operand Operators::divide(const Operand& a, const Operand& b) {
  const Operand dividend = as_real(a);
  return binary(Op::kDiv, dividend, as_real(b));
}

Operand Operators::floor_divide(Op op, const Operand& a, const Operand& b) {
  const Operand dividend = as_int(a);
  return binary(op, dividend, as_int(b));
}

Operand Operators::compare(const Token& op, Operand a, Operand b) {
  const bool is_equality = op.is("==") || op.is("!=");
  if (is_equality && type(a) == Type::kBool && type(b) == Type::kBool)
    return compare_bools(op.is("=="), a, b);
  unify(a, b);
  if (op.is("<")) return binary(Op::kLess, a, b);
  if (op.is("<=")) return binary(Op::kLessEqual, a, b);
  if (op.is(">")) return binary(Op::kLess, b, a);
  if (op.is(">=")) return binary(Op::kLessEqual, b, a);
  return binary(op.is("==") ? Op::kEqual : Op::kNotEqual, a, b);
}

Operand Operators::compare_bools(bool is_equal, const Operand& a, const Operand& b) {
  for (const Operand& value : {a, b}) {
    if (value.is_truth)
      wrong_type(value, "a bool", "Python compares the number itself here: write != 0");
  }
  const int32_t other = graph_.unary(Op::kNot, b.node);
  return {is_equal ? graph_.where(a.node, b.node, other) : graph_.where(a.node, other, b.node),
          a.at};
}

Operand Operators::connect(Op op, const Operand& left, const Operand& right) {
  const Operand a = as_bool(left), b = as_bool(right);
  Operand value = binary(op, a, b);
  value.is_truth = a.is_truth || b.is_truth;
  return value;
}

Operand Operators::bitwise(Op op, const Operand& a, const Operand& b) {
  const Operand left = as_pure_bool(a);
  return binary(op, left, as_pure_bool(b));
}

Operand Operators::choose(const Operand& condition, Operand a, Operand b) {
  const size_t at = std::min(condition.at, a.at);
  bool is_truth = false;
  if (type(a) == Type::kBool || type(b) == Type::kBool) {
    a = as_bool(a);
    b = as_bool(b);
    is_truth = a.is_truth || b.is_truth;
  } else {
    unify(a, b);
  }
  return {graph_.where(as_bool(condition).node, a.node, b.node), at, is_truth};
}

Operand Operators::negate(const Operand& a) {
  return {graph_.unary(Op::kNeg, as_number(a).node), a.at};
}
Operand Operators::opposite(const Operand& a) {
  return {graph_.unary(Op::kNot, as_bool(a).node), a.at};
}
Operand Operators::bitwise_opposite(const Operand& a) {
  return {graph_.unary(Op::kNot, as_pure_bool(a).node), a.at};
}

Operand Operators::function(Op op, const Operand& a) {
  if (op == Op::kAbs) return {graph_.unary(op, as_number(a).node), a.at};
  if (op == Op::kToReal) {  // float(2) stays what it is written as
    return type(as_number(a)) == Type::kReal ? a : Operand{graph_.unary(op, a.node), a.at};
  }
  return {graph_.unary(op, as_real(a).node), a.at};
}

}  // namespace tilewise::expr
