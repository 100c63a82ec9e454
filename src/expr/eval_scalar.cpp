// SPDX-License-Identifier: Apache-2.0
#include "expr/eval_scalar.h"

#include <algorithm>
#include <cmath>

#include "base/dtype.h"
#include "expr/arithmetic.h"

namespace tilewise::expr {

ScalarEvaluator::ScalarEvaluator(const Expression& expression, const Values& values)
    : expression_(expression), values_(values), value_(expression.graph->nodes().size()) {
  const std::vector<bool> reached = reachable(*expression.graph, expression.root);
  for (size_t i = 0; i < reached.size(); ++i) {
    if (reached[i]) order_.push_back(static_cast<int32_t>(i));
  }
}

bool ScalarEvaluator::boolean(const Point& point) { return evaluate(point).integer != 0; }
int64_t ScalarEvaluator::integer(const Point& point) { return evaluate(point).integer; }
double ScalarEvaluator::real(const Point& point) { return evaluate(point).real; }

ScalarEvaluator::Value ScalarEvaluator::look_up(const Node& node) const {
  const Values::Entry& entry = values_.symbols[static_cast<size_t>(node.immediate)];
  if (node.type == Type::kInt) {
    const IntTable& table = *entry.table;
    int64_t at = 0;
    for (int i = 0; i < node.count; ++i) {
      const int64_t extent = table.shape[static_cast<size_t>(i)];
      at = at * extent +
           std::clamp<int64_t>(value_[static_cast<size_t>(node.operand[i])].integer, 0, extent - 1);
    }
    return {.integer = table.data[static_cast<size_t>(at)]};
  }
  const Tensor& table = entry.real_table;
  int64_t at = 0;
  for (int i = 0; i < node.count; ++i) {
    const int axis = 4 - node.count + i;
    at += table.strides[axis] *
          std::clamp<int64_t>(value_[static_cast<size_t>(node.operand[i])].integer, 0,
                              table.shape[axis] - 1);
  }
  return {.real = load_element(table.data, table.dtype, at)};
}

const ScalarEvaluator::Value& ScalarEvaluator::evaluate(const Point& point) {
  for (const int32_t index : order_) {
    const Node& node = expression_.graph->node(index);
    const auto operand = [&](int i) -> const Value& {
      return value_[static_cast<size_t>(node.operand[i])];
    };
    const bool is_real = node.type == Type::kReal;
    // Comparisons are typed by their operands.
    const bool compares_real =
        node.count > 0 && expression_.graph->node(node.operand[0]).type == Type::kReal;
    const auto integer = [&](auto operation) {
      return Value{.integer = operation(operand(0).integer, operand(1).integer)};
    };
    const auto real = [&](auto operation) {
      return Value{.real = operation(operand(0).real, operand(1).real)};
    };
    const auto compare = [&](auto operation) {
      return Value{.integer = compares_real ? operation(operand(0).real, operand(1).real)
                                            : operation(operand(0).integer, operand(1).integer)};
    };
    Value value{.integer = 0};
    switch (node.op) {
      case Op::kConst:
        value.integer = node.immediate;  // the bits, if it is real
        break;
      case Op::kVariable:
        switch (static_cast<Variable>(node.immediate)) {
          case Variable::kBatch:
            value.integer = point.batch;
            break;
          case Variable::kHead:
            value.integer = point.head;
            break;
          case Variable::kQuery:
            value.integer = point.query;
            break;
          case Variable::kKey:
            value.integer = point.key;
            break;
          case Variable::kQueryLength:
            value.integer = values_.query_length;
            break;
          case Variable::kKvLength:
            value.integer = values_.kv_length;
            break;
          case Variable::kQueryOffset:
            value.integer = values_.query_offset;
            break;
          case Variable::kKeyOffset:
            value.integer = values_.key_offset;
            break;
          case Variable::kScore:
            value.real = point.score;
            break;
        }
        break;
      case Op::kScalar: {
        const Values::Entry& entry = values_.symbols[static_cast<size_t>(node.immediate)];
        if (is_real)
          value.real = entry.real;
        else
          value.integer = entry.integer;
        break;
      }
      case Op::kAdd:
        value = is_real ? real([](double a, double b) { return a + b; }) : integer(wrap_add);
        break;
      case Op::kSub:
        value = is_real ? real([](double a, double b) { return a - b; }) : integer(wrap_sub);
        break;
      case Op::kMul:
        value = is_real ? real([](double a, double b) { return a * b; }) : integer(wrap_mul);
        break;
      case Op::kMin:
        value = is_real ? real([](double a, double b) { return std::isnan(a) || a < b ? a : b; })
                        : integer([](int64_t a, int64_t b) { return std::min(a, b); });
        break;
      case Op::kMax:
        value = is_real ? real([](double a, double b) { return std::isnan(a) || a > b ? a : b; })
                        : integer([](int64_t a, int64_t b) { return std::max(a, b); });
        break;
      case Op::kAbs:
        if (is_real)
          value.real = std::fabs(operand(0).real);
        else
          value.integer = wrap_abs(operand(0).integer);
        break;
      case Op::kNeg:
        if (is_real)
          value.real = -operand(0).real;
        else
          value.integer = wrap_neg(operand(0).integer);
        break;
      case Op::kFloorDiv:
        value = integer(floor_div);
        break;
      case Op::kMod:
        value = integer(floor_mod);
        break;
      case Op::kDiv:
        value = real([](double a, double b) { return a / b; });
        break;
      case Op::kExp:
        value.real = std::exp(operand(0).real);
        break;
      case Op::kLog:
        value.real = std::log(operand(0).real);
        break;
      case Op::kTanh:
        value.real = std::tanh(operand(0).real);
        break;
      case Op::kSqrt:
        value.real = std::sqrt(operand(0).real);
        break;
      case Op::kToReal:
        value.real = static_cast<double>(operand(0).integer);
        break;
      case Op::kLess:
        value = compare([](auto a, auto b) { return int64_t{a < b}; });
        break;
      case Op::kLessEqual:
        value = compare([](auto a, auto b) { return int64_t{a <= b}; });
        break;
      case Op::kEqual:
        value = compare([](auto a, auto b) { return int64_t{a == b}; });
        break;
      case Op::kNotEqual:
        value = compare([](auto a, auto b) { return int64_t{a != b}; });
        break;
      case Op::kAnd:
        value = integer([](int64_t a, int64_t b) { return a & b; });
        break;
      case Op::kOr:
        value = integer([](int64_t a, int64_t b) { return a | b; });
        break;
      case Op::kNot:
        value.integer = operand(0).integer ^ 1;
        break;
      case Op::kWhere:
        value = operand(0).integer != 0 ? operand(1) : operand(2);
        break;
      case Op::kLookup:
        value = look_up(node);
        break;
    }
    value_[static_cast<size_t>(index)] = value;
  }
  return value_[static_cast<size_t>(expression_.root)];
}

}  // namespace tilewise::expr
