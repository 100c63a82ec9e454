// SPDX-License-Identifier: Apache-2.0
#include "expr/simplify.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "expr/arithmetic.h"

namespace tilewise::expr {
namespace {

constexpr uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15u;
  return hash ^ (hash >> 29);
}

bool is_comparison(Op op) {
  return op == Op::kLess || op == Op::kLessEqual || op == Op::kEqual || op == Op::kNotEqual;
}

// Addition and multiplication of reals commute exactly; their min and max do not (signed zeros).
bool commutes(const Node& node) {
  switch (node.op) {
    case Op::kAdd:
    case Op::kMul:
    case Op::kEqual:
    case Op::kNotEqual:
    case Op::kAnd:
    case Op::kOr:
      return true;
    case Op::kMin:
    case Op::kMax:
      return node.type == Type::kInt;
    default:
      return false;
  }
}

int64_t fold_int(Op op, int64_t a, int64_t b) {
  switch (op) {
    case Op::kAdd:
      return wrap_add(a, b);
    case Op::kSub:
      return wrap_sub(a, b);
    case Op::kMul:
      return wrap_mul(a, b);
    case Op::kMin:
      return std::min(a, b);
    case Op::kMax:
      return std::max(a, b);
    case Op::kAbs:
      return wrap_abs(a);
    case Op::kNeg:
      return wrap_neg(a);
    case Op::kFloorDiv:
      return floor_div(a, b);
    default:
      return floor_mod(a, b);
  }
}

double fold_real(Op op, double a, double b) {
  switch (op) {
    case Op::kAdd:
      return a + b;
    case Op::kSub:
      return a - b;
    case Op::kMul:
      return a * b;
    case Op::kDiv:
      return a / b;
    case Op::kMin:
      return std::isnan(a) || a < b ? a : b;
    case Op::kMax:
      return std::isnan(a) || a > b ? a : b;
    case Op::kAbs:
      return std::fabs(a);
    case Op::kNeg:
      return -a;
    case Op::kExp:
      return std::exp(a);
    case Op::kLog:
      return std::log(a);
    case Op::kTanh:
      return std::tanh(a);
    default:
      return std::sqrt(a);
  }
}

template <class T>
bool fold_comparison(Op op, T a, T b) {
  return op == Op::kLess        ? a < b
         : op == Op::kLessEqual ? a <= b
         : op == Op::kEqual     ? a == b
                                : a != b;
}

}  // namespace

int32_t Simplifier::keep(int32_t index) {
  const auto known = static_cast<int32_t>(hash_.size());
  for (int32_t i = known; i <= index; ++i) {
    const Node& node = at(i);
    uint64_t hash = mix(static_cast<uint64_t>(node.op) << 8 | static_cast<uint64_t>(node.type),
                        static_cast<uint64_t>(node.immediate));
    for (int j = 0; j < node.count; ++j)
      hash = mix(hash, hash_[static_cast<size_t>(node.operand[j])]);
    hash_.push_back(hash);
  }
  return index;
}

int32_t Simplifier::emit(Op op, Type type, int32_t a, int32_t b, int32_t c) {
  Node node{.op = op, .type = type, .operand = {a, b, c, -1}};
  node.count = static_cast<uint8_t>((a >= 0) + (b >= 0) + (c >= 0));
  sort_operands(node);
  return keep(graph_.add(node));
}

// Constants to the right; the rest by structure.
void Simplifier::sort_operands(Node& node) const {
  if (!commutes(node)) return;
  const auto key = [this](int32_t index) {
    return std::pair(at(index).is_const(), hash_[static_cast<size_t>(index)]);
  };
  if (key(node.operand[1]) < key(node.operand[0])) std::swap(node.operand[0], node.operand[1]);
}

bool Simplifier::is_int_constant(int32_t index) const {
  return at(index).is_const() && at(index).type == Type::kInt;
}
bool Simplifier::is_int(int32_t index, int64_t value) const {
  return is_int_constant(index) && at(index).immediate == value;
}
bool Simplifier::is_bool(int32_t index, bool value) const {
  return at(index).is_const() && at(index).type == Type::kBool &&
         (at(index).immediate != 0) == value;
}
bool Simplifier::is_real(int32_t index, double value) const {
  return at(index).is_const() && at(index).type == Type::kReal &&
         at(index).immediate == std::bit_cast<int64_t>(value);
}
bool Simplifier::are_opposite(int32_t a, int32_t b) const {
  const auto is_not = [this](int32_t x, int32_t y) {
    return at(x).op == Op::kNot && at(x).operand[0] == y;
  };
  if (is_not(a, b) || is_not(b, a)) return true;
  // Two integer comparisons, one the other turned round.
  const Node &x = at(a), &y = at(b);
  if (!is_comparison(x.op) || !is_comparison(y.op) || at(x.operand[0]).type != Type::kInt)
    return false;
  const bool is_same = x.operand[0] == y.operand[0] && x.operand[1] == y.operand[1];
  const bool is_swapped = x.operand[0] == y.operand[1] && x.operand[1] == y.operand[0];
  const auto are = [&](Op p, Op q) { return (x.op == p && y.op == q) || (x.op == q && y.op == p); };
  return (is_swapped && are(Op::kLess, Op::kLessEqual)) ||
         (is_same && are(Op::kEqual, Op::kNotEqual));
}

int32_t Simplifier::negate(int32_t a) {
  const Node node = at(a);
  if (node.is_const()) return constant(node.immediate == 0);
  if (node.op == Op::kNot) return node.operand[0];
  // A comparison with NaN is false, and so may be its opposite: only integers turn round.
  if (!is_comparison(node.op) || at(node.operand[0]).type != Type::kInt)
    return emit(Op::kNot, Type::kBool, a);
  Node opposite = node;
  switch (node.op) {
    case Op::kLess:
      opposite.op = Op::kLessEqual;
      break;
    case Op::kLessEqual:
      opposite.op = Op::kLess;
      break;
    case Op::kEqual:
      opposite.op = Op::kNotEqual;
      return add(opposite);
    default:
      opposite.op = Op::kEqual;
      return add(opposite);
  }
  std::swap(opposite.operand[0], opposite.operand[1]);
  return add(opposite);
}

int32_t Simplifier::add(Node node) {
  sort_operands(node);
  if (node.count == 0 || node.op == Op::kLookup) return keep(graph_.add(node));
  if (is_comparison(node.op)) return add_comparison(node);
  switch (node.op) {
    case Op::kAnd:
    case Op::kOr:
      return add_connective(node);
    case Op::kNot:
      return negate(node.operand[0]);
    case Op::kWhere:
      return add_where(node);
    case Op::kToReal:
      if (at(node.operand[0]).is_const())
        return constant(static_cast<double>(at(node.operand[0]).immediate));
      return keep(graph_.add(node));
    default:
      return node.type == Type::kInt ? add_int(node) : add_real(node);
  }
}

int32_t Simplifier::add_int(const Node& node) {
  const int32_t a = node.operand[0], b = node.operand[1];
  if (is_int_constant(a) && (node.count == 1 || is_int_constant(b))) {
    const int64_t second = node.count == 1 ? 0 : at(b).immediate;
    return constant(fold_int(node.op, at(a).immediate, second));
  }
  switch (node.op) {
    case Op::kAdd:
      return add_sum(a, b);
    case Op::kSub:
      return add_difference(a, b);
    case Op::kMul:
      return add_product(a, b);
    case Op::kMin:
    case Op::kMax:
      return add_extremum(node);
    case Op::kNeg:
      if (at(a).op == Op::kNeg) return at(a).operand[0];
      if (at(a).op == Op::kSub) return add_difference(at(a).operand[1], at(a).operand[0]);
      break;
    case Op::kAbs:
      if (at(a).op == Op::kAbs) return a;
      if (at(a).op == Op::kNeg) return emit(Op::kAbs, Type::kInt, at(a).operand[0]);
      if (at(a).op == Op::kSub) {  // |x - y| = |y - x|, also where they wrap
        int32_t x = at(a).operand[0], y = at(a).operand[1];
        if (hash_[static_cast<size_t>(y)] < hash_[static_cast<size_t>(x)]) std::swap(x, y);
        return emit(Op::kAbs, Type::kInt, emit(Op::kSub, Type::kInt, x, y));
      }
      break;
    case Op::kFloorDiv:
      if (is_int(b, 1)) return a;
      if (is_int(b, 0) || is_int(a, 0)) return constant(int64_t{0});
      break;
    case Op::kMod:
      if (is_int(b, 1) || is_int(b, -1) || is_int(b, 0) || is_int(a, 0))
        return constant(int64_t{0});
      break;
    default:
      break;
  }
  return emit(node.op, node.type, a, b);
}

int32_t Simplifier::add_sum(int32_t a, int32_t b) {
  if (is_int_constant(a)) std::swap(a, b);
  if (is_int_constant(b)) {
    const int64_t c = at(b).immediate;
    if (is_int_constant(a)) return constant(wrap_add(at(a).immediate, c));
    if (c == 0) return a;
    const Node left = at(a);  // a copy: adding nodes moves them
    if (left.op == Op::kAdd && is_int_constant(left.operand[1]))
      return add_sum(left.operand[0], constant(wrap_add(at(left.operand[1]).immediate, c)));
    if (left.op == Op::kSub && is_int_constant(left.operand[0])) {
      const int32_t x = left.operand[1];
      return add_difference(constant(wrap_add(at(left.operand[0]).immediate, c)), x);
    }
    return emit(Op::kAdd, Type::kInt, a, b);
  }
  if (at(b).op == Op::kNeg) return add_difference(a, at(b).operand[0]);
  if (at(a).op == Op::kNeg) return add_difference(b, at(a).operand[0]);
  return emit(Op::kAdd, Type::kInt, a, b);
}

int32_t Simplifier::add_difference(int32_t a, int32_t b) {
  if (a == b) return constant(int64_t{0});
  if (is_int_constant(b)) return add_sum(a, constant(wrap_neg(at(b).immediate)));
  if (is_int(a, 0)) {
    if (at(b).op == Op::kNeg) return at(b).operand[0];
    return emit(Op::kNeg, Type::kInt, b);
  }
  if (at(b).op == Op::kNeg) return add_sum(a, at(b).operand[0]);
  return emit(Op::kSub, Type::kInt, a, b);
}

int32_t Simplifier::add_product(int32_t a, int32_t b) {
  if (!is_int_constant(b)) return emit(Op::kMul, Type::kInt, a, b);
  const int64_t c = at(b).immediate;
  if (is_int_constant(a)) return constant(wrap_mul(at(a).immediate, c));
  if (c == 0) return b;
  if (c == 1) return a;
  const Node left = at(a);  // a copy: adding nodes moves them
  if (left.op == Op::kMul && is_int_constant(left.operand[1]))
    return add_product(left.operand[0], constant(wrap_mul(at(left.operand[1]).immediate, c)));
  if (c == -1) return add_difference(constant(int64_t{0}), a);
  return emit(Op::kMul, Type::kInt, a, b);
}

int32_t Simplifier::add_extremum(const Node& node) {
  const int32_t a = node.operand[0], b = node.operand[1];
  if (a == b) return a;
  if (is_int_constant(b)) {
    const int64_t c = at(b).immediate;
    if (c == (node.op == Op::kMin ? kMinInt : kMaxInt)) return b;
    if (c == (node.op == Op::kMin ? kMaxInt : kMinInt)) return a;
    const Node left = at(a);  // a copy: adding nodes moves them
    if (left.op == node.op && is_int_constant(left.operand[1])) {
      const int64_t both = fold_int(node.op, at(left.operand[1]).immediate, c);
      const int32_t x = left.operand[0];
      return emit(node.op, Type::kInt, x, constant(both));
    }
  }
  return emit(node.op, Type::kInt, a, b);
}

int32_t Simplifier::add_real(const Node& node) {
  const int32_t a = node.operand[0], b = node.operand[1];
  if (at(a).is_const() && (node.count == 1 || at(b).is_const()))
    return constant(fold_real(node.op, at(a).real(), node.count == 1 ? 0 : at(b).real()));
  switch (node.op) {
    case Op::kAdd:
      if (is_real(b, -0.0)) return a;  // x + 0 turns -0 into 0
      break;
    case Op::kSub:
      if (is_real(b, 0.0)) return a;
      break;
    case Op::kMul:
    case Op::kDiv:
      if (is_real(b, 1.0)) return a;
      break;
    case Op::kMin:
    case Op::kMax:
      if (a == b) return a;
      break;
    case Op::kNeg:
      if (at(a).op == Op::kNeg) return at(a).operand[0];
      break;
    default:
      break;
  }
  return emit(node.op, node.type, a, b);
}

int32_t Simplifier::add_comparison(const Node& node) {
  const int32_t a = node.operand[0], b = node.operand[1];
  if (at(a).type == Type::kReal) {
    if (at(a).is_const() && at(b).is_const())
      return constant(fold_comparison(node.op, at(a).real(), at(b).real()));
    return emit(node.op, Type::kBool, a, b);
  }
  if (is_int_constant(a) && is_int_constant(b))
    return constant(fold_comparison(node.op, at(a).immediate, at(b).immediate));
  if (a == b) return constant(node.op == Op::kLessEqual || node.op == Op::kEqual);
  if (node.op == Op::kLess) {
    if (is_int(b, kMinInt) || is_int(a, kMaxInt)) return constant(false);
    if (is_int_constant(b))
      return add_comparison({.op = Op::kLessEqual,
                             .type = Type::kBool,
                             .count = 2,
                             .operand = {a, constant(at(b).immediate - 1), -1, -1}});
    if (is_int_constant(a))
      return add_comparison({.op = Op::kLessEqual,
                             .type = Type::kBool,
                             .count = 2,
                             .operand = {constant(at(a).immediate + 1), b, -1, -1}});
  }
  if (node.op == Op::kLessEqual && (is_int(b, kMaxInt) || is_int(a, kMinInt)))
    return constant(true);
  return emit(node.op, Type::kBool, a, b);
}

int32_t Simplifier::add_connective(const Node& node) {
  const int32_t a = node.operand[0], b = node.operand[1];
  const bool neutral = node.op == Op::kAnd;
  if (is_bool(a, neutral) || a == b) return b;
  if (is_bool(b, neutral)) return a;
  if (is_bool(a, !neutral) || is_bool(b, !neutral) || are_opposite(a, b)) return constant(!neutral);
  return emit(node.op, Type::kBool, a, b);
}

int32_t Simplifier::add_where(const Node& node) {
  const int32_t condition = node.operand[0], a = node.operand[1], b = node.operand[2];
  if (at(condition).is_const()) return at(condition).immediate != 0 ? a : b;
  if (a == b) return a;
  if (at(condition).op == Op::kNot)
    return emit(Op::kWhere, node.type, at(condition).operand[0], b, a);
  const auto connective = [this](Op op, int32_t x, int32_t y) {
    return add({.op = op, .type = Type::kBool, .count = 2, .operand = {x, y, -1, -1}});
  };
  if (is_bool(a, true)) return connective(Op::kOr, condition, b);
  if (is_bool(b, false)) return connective(Op::kAnd, condition, a);
  if (is_bool(a, false)) return connective(Op::kAnd, negate(condition), b);
  if (is_bool(b, true)) return connective(Op::kOr, negate(condition), a);
  return emit(Op::kWhere, node.type, condition, a, b);
}

}  // namespace tilewise::expr
