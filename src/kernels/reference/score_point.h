// SPDX-License-Identifier: Apache-2.0
// A score at one pair, and its derivatives there by the chain rule from the root down: neither the
// evaluator nor the symbolic derivatives that kernels are made from.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/dtype.h"
#include "expr/arithmetic.h"
#include "expr/values.h"

namespace tilewise::reference {

template <class Real>
class ScorePoint {
 public:
  // Both must outlive it.
  ScorePoint(const expr::Expression& expression, const expr::Values& values)
      : graph_(*expression.graph),
        root_(expression.root),
        values_(values),
        integer_(graph_.nodes().size()),
        real_(graph_.nodes().size()),
        adjoint_(graph_.nodes().size()) {}

  // The score of the pair, in global positions, whose scaled product is s.
  Real value(const expr::Point& point, Real s) {
    for (int32_t i = 0; i <= root_; ++i) evaluate(i, point, s);
    return real_[static_cast<size_t>(root_)];
  }

  // At the pair of the last value(): d score / d s; calls add(symbol, index, derivative) for every
  // lookup in a real table; index: of the four axes of its tensor.
  template <class Add>
  Real derivative(Add&& add) {
    std::fill(adjoint_.begin(), adjoint_.end(), Real(0));
    adjoint_[static_cast<size_t>(root_)] = 1;
    Real by_score = 0;
    for (int32_t i = root_; i >= 0; --i) {
      const Real adjoint = adjoint_[static_cast<size_t>(i)];
      if (adjoint == 0) continue;
      const expr::Node& node = graph_.node(i);
      if (node.is(expr::Variable::kScore)) by_score += adjoint;
      if (node.op == expr::Op::kLookup) {
        int64_t position[4];
        table_index(node, position);
        add(node.immediate, position, adjoint);
      }
      propagate(node, i, adjoint);
    }
    return by_score;
  }

 private:
  using Op = expr::Op;
  using Type = expr::Type;

  int64_t integer(const expr::Node& node, int i) const {
    return integer_[static_cast<size_t>(node.operand[i])];
  }
  Real real(const expr::Node& node, int i) const {
    return real_[static_cast<size_t>(node.operand[i])];
  }
  Type operand_type(const expr::Node& node) const { return graph_.node(node.operand[0]).type; }

  int64_t index(const expr::Node& node, int i, int64_t extent) const {
    return std::clamp<int64_t>(integer(node, i), 0, extent - 1);
  }
  const Tensor& table_of(const expr::Node& node) const {
    return values_.symbols[static_cast<size_t>(node.immediate)].real_table;
  }
  void table_index(const expr::Node& node, int64_t (&position)[4]) const {
    for (int axis = 0; axis < 4; ++axis) {
      const int i = axis - (4 - node.count);
      position[axis] = i < 0 ? 0 : index(node, i, table_of(node).shape[axis]);
    }
  }

  void evaluate(int32_t i, const expr::Point& point, Real s) {
    const expr::Node& node = graph_.node(i);
    int64_t& whole = integer_[static_cast<size_t>(i)];
    Real& x = real_[static_cast<size_t>(i)];
    if (node.type == Type::kReal)
      x = real_value(node, s);
    else
      whole = node.type == Type::kInt ? integer_value(node, point) : truth(node);
  }

  int64_t variable(const expr::Node& node, const expr::Point& point) const {
    switch (static_cast<expr::Variable>(node.immediate)) {
      case expr::Variable::kBatch:
        return point.batch;
      case expr::Variable::kHead:
        return point.head;
      case expr::Variable::kQuery:
        return point.query;
      case expr::Variable::kKey:
        return point.key;
      case expr::Variable::kQueryLength:
        return values_.query_length;
      case expr::Variable::kKvLength:
        return values_.kv_length;
      case expr::Variable::kQueryOffset:
        return values_.query_offset;
      default:
        return values_.key_offset;
    }
  }

  int64_t integer_value(const expr::Node& node, const expr::Point& point) const {
    const auto a = [&] { return integer(node, 0); };
    const auto b = [&] { return integer(node, 1); };
    switch (node.op) {
      case Op::kConst:
        return node.immediate;
      case Op::kVariable:
        return variable(node, point);
      case Op::kScalar:
        return values_.symbols[static_cast<size_t>(node.immediate)].integer;
      case Op::kAdd:
        return expr::wrap_add(a(), b());
      case Op::kSub:
        return expr::wrap_sub(a(), b());
      case Op::kMul:
        return expr::wrap_mul(a(), b());
      case Op::kMin:
        return std::min(a(), b());
      case Op::kMax:
        return std::max(a(), b());
      case Op::kAbs:
        return expr::wrap_abs(a());
      case Op::kNeg:
        return expr::wrap_neg(a());
      case Op::kFloorDiv:
        return expr::floor_div(a(), b());
      case Op::kMod:
        return expr::floor_mod(a(), b());
      case Op::kWhere:
        return a() != 0 ? b() : integer(node, 2);
      default:
        break;
    }
    const expr::IntTable& table = *values_.symbols[static_cast<size_t>(node.immediate)].table;
    int64_t at = 0;
    for (int i = 0; i < node.count; ++i) {
      const int64_t extent = table.shape[static_cast<size_t>(i)];
      at = at * extent + index(node, i, extent);
    }
    return table.data[static_cast<size_t>(at)];
  }

  bool truth(const expr::Node& node) const {
    if (node.op == Op::kConst) return node.immediate != 0;
    const bool is_real = operand_type(node) == Type::kReal;
    const auto compare = [&](auto operation) {
      return is_real ? operation(real(node, 0), real(node, 1))
                     : operation(integer(node, 0), integer(node, 1));
    };
    switch (node.op) {
      case Op::kLess:
        return compare([](auto a, auto b) { return a < b; });
      case Op::kLessEqual:
        return compare([](auto a, auto b) { return a <= b; });
      case Op::kEqual:
        return compare([](auto a, auto b) { return a == b; });
      case Op::kNotEqual:
        return compare([](auto a, auto b) { return a != b; });
      case Op::kAnd:
        return integer(node, 0) != 0 && integer(node, 1) != 0;
      case Op::kOr:
        return integer(node, 0) != 0 || integer(node, 1) != 0;
      case Op::kNot:
        return integer(node, 0) == 0;
      default:
        return integer(node, integer(node, 0) != 0 ? 1 : 2) != 0;
    }
  }

  Real real_value(const expr::Node& node, Real s) const {
    const auto a = [&] { return real(node, 0); };
    const auto b = [&] { return real(node, 1); };
    switch (node.op) {
      case Op::kConst:
        return static_cast<Real>(node.real());
      case Op::kVariable:
        return s;
      case Op::kScalar:
        return static_cast<Real>(values_.symbols[static_cast<size_t>(node.immediate)].real);
      case Op::kAdd:
        return a() + b();
      case Op::kSub:
        return a() - b();
      case Op::kMul:
        return a() * b();
      case Op::kDiv:
        return a() / b();
      case Op::kMin:
        return takes_first(node) ? a() : b();
      case Op::kMax:
        return takes_first(node) ? a() : b();
      case Op::kAbs:
        return std::fabs(a());
      case Op::kNeg:
        return -a();
      case Op::kExp:
        return std::exp(a());
      case Op::kLog:
        return std::log(a());
      case Op::kTanh:
        return std::tanh(a());
      case Op::kSqrt:
        return std::sqrt(a());
      case Op::kToReal:
        return static_cast<Real>(integer(node, 0));
      case Op::kWhere:
        return real(node, integer(node, 0) != 0 ? 1 : 2);
      default:
        break;
    }
    const Tensor& table = table_of(node);
    int64_t position[4], at = 0;
    table_index(node, position);
    for (int axis = 0; axis < 4; ++axis) at += position[axis] * table.strides[axis];
    return static_cast<Real>(load_element(table.data, table.dtype, at));
  }

  // Of min and max; equal operands: the first. NaN wins.
  bool takes_first(const expr::Node& node) const {
    const Real a = real(node, 0), b = real(node, 1);
    if (std::isnan(a) || std::isnan(b)) return std::isnan(a);
    return node.op == Op::kMin ? a <= b : a >= b;
  }

  void propagate(const expr::Node& node, int32_t i, Real adjoint) {
    const auto add = [&](int operand, Real factor) {
      adjoint_[static_cast<size_t>(node.operand[operand])] += factor * adjoint;
    };
    const Real x = real_[static_cast<size_t>(i)];
    switch (node.op) {
      case Op::kAdd:
        add(0, 1), add(1, 1);
        break;
      case Op::kSub:
        add(0, 1), add(1, -1);
        break;
      case Op::kMul:
        add(0, real(node, 1)), add(1, real(node, 0));
        break;
      case Op::kDiv:
        add(0, 1 / real(node, 1)), add(1, -x / real(node, 1));
        break;
      case Op::kMin:
      case Op::kMax:
        add(takes_first(node) ? 0 : 1, 1);
        break;
      case Op::kAbs:
        add(0, real(node, 0) > 0 ? Real(1) : real(node, 0) < 0 ? Real(-1) : Real(0));
        break;
      case Op::kNeg:
        add(0, -1);
        break;
      case Op::kExp:
        add(0, x);
        break;
      case Op::kLog:
        add(0, 1 / real(node, 0));
        break;
      case Op::kTanh:
        add(0, 1 - x * x);
        break;
      case Op::kSqrt:
        add(0, Real(0.5) / x);
        break;
      case Op::kWhere:
        add(integer(node, 0) != 0 ? 1 : 2, 1);
        break;
      default:
        break;
    }
  }

  const expr::Graph& graph_;
  int32_t root_;
  const expr::Values& values_;
  std::vector<int64_t> integer_;  // of int and bool nodes
  std::vector<Real> real_;
  std::vector<Real> adjoint_;
};

}  // namespace tilewise::reference
