// SPDX-License-Identifier: Apache-2.0
#include "expr/specialise.h"

#include "expr/rewrite.h"

namespace tilewise::expr {
namespace {

// Everything that is the same for all pairs of a head.
class Constants : public Replacement {
 public:
  Constants(const Values& values, int64_t batch, int64_t head)
      : values_(values), batch_(batch), head_(head) {}

  int32_t replace(int32_t, const Node& node, Simplifier& simplifier) const override {
    if (node.op == Op::kScalar) {
      const Values::Entry& entry = values_.symbols[static_cast<size_t>(node.immediate)];
      return node.type == Type::kInt ? simplifier.constant(entry.integer)
                                     : simplifier.constant(entry.real);
    }
    if (node.op != Op::kVariable) return -1;
    switch (static_cast<Variable>(node.immediate)) {
      case Variable::kBatch:
        return simplifier.constant(batch_);
      case Variable::kHead:
        return simplifier.constant(head_);
      case Variable::kQueryLength:
        return simplifier.constant(values_.query_length);
      case Variable::kKvLength:
        return simplifier.constant(values_.kv_length);
      case Variable::kQueryOffset:
        return simplifier.constant(values_.query_offset);
      case Variable::kKeyOffset:
        return simplifier.constant(values_.key_offset);
      case Variable::kQuery:
      case Variable::kKey:
      case Variable::kScore:
        break;
    }
    return -1;
  }

 private:
  const Values& values_;
  int64_t batch_, head_;
};

// What the bounds decide.
class Decided : public Replacement {
 public:
  explicit Decided(const Bounds& bounds) : bounds_(bounds) {}

  int32_t replace(int32_t index, const Node& node, Simplifier& simplifier) const override {
    if (node.type == Type::kReal || !bounds_.has(index)) return -1;
    const Interval interval = bounds_.integer(index);
    if (!interval.is_one()) return -1;
    return node.type == Type::kInt ? simplifier.constant(interval.lo)
                                   : simplifier.constant(interval.lo != 0);
  }

  [[nodiscard]] int32_t alias(int32_t, const Node& node) const override {
    if (node.op == Op::kWhere) {
      const Interval condition = bounds_.integer(node.operand[0]);
      return condition.is_one() ? node.operand[condition.lo != 0 ? 1 : 2] : -1;
    }
    if (node.type != Type::kInt) return -1;
    switch (node.op) {
      case Op::kMin:
        return ordered(node.operand[0], node.operand[1], true);
      case Op::kMax:
        return ordered(node.operand[0], node.operand[1], false);
      case Op::kAbs:
        return bounds_.integer(node.operand[0]).lo >= 0 ? node.operand[0] : -1;
      case Op::kMod: {
        const Interval a = bounds_.integer(node.operand[0]);
        return a.lo >= 0 && a.hi < bounds_.integer(node.operand[1]).lo ? node.operand[0] : -1;
      }
      default:
        return -1;
    }
  }

 private:
  // The one that is always the smaller (larger).
  [[nodiscard]] int32_t ordered(int32_t a, int32_t b, bool smaller) const {
    const Interval x = bounds_.integer(a), y = bounds_.integer(b);
    if (x.hi <= y.lo) return smaller ? a : b;
    if (y.hi <= x.lo) return smaller ? b : a;
    return -1;
  }

  const Bounds& bounds_;
};

}  // namespace

Expression specialise(const Expression& expression, const Values& values, int64_t batch,
                      int64_t head, const Box& box) {
  const Expression bound = rewrite(expression, Constants(values, batch, head));
  if (box.is_empty()) return bound;
  const Bounds bounds(bound, values, {{batch, batch}, {head, head}, box});
  return rewrite(bound, Decided(bounds));
}

}  // namespace tilewise::expr
