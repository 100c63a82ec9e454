// SPDX-License-Identifier: Apache-2.0
#include "expr/grad.h"

#include <utility>

namespace tilewise::expr {
namespace {

// Real arithmetic that leaves out what is 0 or 1. Factors go into the branches of a `where` with a
// branch of 0, so that the other branch is never multiplied by that 0.
class Algebra {
 public:
  explicit Algebra(Graph& graph)
      : graph_(graph), zero_(graph.constant(0.0)), one_(graph.constant(1.0)) {}

  [[nodiscard]] int32_t zero() const { return zero_; }
  [[nodiscard]] int32_t one() const { return one_; }

  int32_t add(int32_t a, int32_t b) {
    if (a == zero_) return b;
    if (b == zero_) return a;
    if (both_const(a, b)) return graph_.constant(real(a) + real(b));
    if (is(a, Op::kWhere) && is(b, Op::kWhere) && operand(a, 0) == operand(b, 0)) {
      const int32_t yes = add(operand(a, 1), operand(b, 1));
      return where(operand(a, 0), yes, add(operand(a, 2), operand(b, 2)));
    }
    return graph_.binary(Op::kAdd, a, b);
  }

  int32_t negate(int32_t a) {
    if (a == zero_) return zero_;
    if (graph_.node(a).is_const()) return graph_.constant(-real(a));
    if (is(a, Op::kNeg)) return operand(a, 0);
    if (has_zero_branch(a)) return in_branches(a, [this](int32_t x) { return negate(x); });
    return graph_.unary(Op::kNeg, a);
  }

  int32_t multiply(int32_t a, int32_t b) {
    if (a == zero_ || b == zero_) return zero_;
    if (a == one_) return b;
    if (b == one_) return a;
    if (both_const(a, b)) return graph_.constant(real(a) * real(b));
    if (is_minus_one(a)) return negate(b);
    if (is_minus_one(b)) return negate(a);
    if (has_zero_branch(a)) return in_branches(a, [&](int32_t x) { return multiply(x, b); });
    if (has_zero_branch(b)) return in_branches(b, [&](int32_t x) { return multiply(a, x); });
    return graph_.binary(Op::kMul, a, b);
  }

  int32_t divide(int32_t a, int32_t b) {
    if (a == zero_) return zero_;
    if (b == one_) return a;
    if (is(a, Op::kMul) && operand(a, 0) == b) return operand(a, 1);
    if (has_zero_branch(a)) return in_branches(a, [&](int32_t x) { return divide(x, b); });
    return graph_.binary(Op::kDiv, a, b);
  }

  int32_t where(int32_t condition, int32_t a, int32_t b) {
    return a == b ? a : graph_.where(condition, a, b);
  }

 private:
  [[nodiscard]] bool is(int32_t a, Op op) const { return graph_.node(a).op == op; }
  [[nodiscard]] int32_t operand(int32_t a, int i) const { return graph_.node(a).operand[i]; }
  [[nodiscard]] double real(int32_t a) const { return graph_.node(a).real(); }
  [[nodiscard]] bool both_const(int32_t a, int32_t b) const {
    return graph_.node(a).is_const() && graph_.node(b).is_const();
  }
  [[nodiscard]] bool is_minus_one(int32_t a) const {
    return graph_.node(a).is_const() && real(a) == -1;
  }
  [[nodiscard]] bool has_zero_branch(int32_t a) const {
    return is(a, Op::kWhere) && (operand(a, 1) == zero_ || operand(a, 2) == zero_);
  }
  template <class Operation>
  int32_t in_branches(int32_t a, const Operation& operation) {
    const Node node = graph_.node(a);  // a copy: the graph grows
    const int32_t yes = operation(node.operand[1]);
    return where(node.operand[0], yes, operation(node.operand[2]));
  }

  Graph& graph_;
  int32_t zero_, one_;
};

class Reverse {
 public:
  explicit Reverse(const Expression& score)
      : graph_(std::make_shared<Graph>(*score.graph)), algebra_(*graph_), root_(score.root) {}

  Derivatives run() {
    grads_.assign(static_cast<size_t>(root_) + 1, algebra_.zero());
    grads_[static_cast<size_t>(root_)] = algebra_.one();
    const std::vector<bool> reached = reachable(*graph_, root_);
    // Operands come before their node, so the sum of a node is complete when it is visited.
    for (int32_t i = root_; i >= 0; --i) {
      if (reached[static_cast<size_t>(i)] && graph_->node(i).type == Type::kReal) visit(i);
    }
    Derivatives result;
    result.by_score = expression(by_score_ < 0 ? algebra_.zero() : by_score_);
    for (const auto& [lookup, derivative] : by_lookup_)
      result.by_lookup.push_back({lookup, expression(derivative)});
    return result;
  }

 private:
  Expression expression(int32_t root) const { return {graph_, root}; }
  void give(int32_t operand, int32_t gradient) {
    int32_t& sum = grads_[static_cast<size_t>(operand)];
    sum = algebra_.add(sum, gradient);
  }

  // y = op(a, b); g = d score / d y, complete.
  void visit(int32_t y) {
    const Node node = graph_->node(y);  // a copy: the graph grows
    const int32_t a = node.operand[0], b = node.operand[1];
    const int32_t g = grads_[static_cast<size_t>(y)];
    switch (node.op) {
      case Op::kVariable:
        by_score_ = g;
        break;
      case Op::kLookup:
        by_lookup_.emplace_back(y, g);
        break;
      case Op::kAdd:
        give(a, g);
        give(b, g);
        break;
      case Op::kSub:
        give(a, g);
        give(b, algebra_.negate(g));
        break;
      case Op::kMul:
        give(a, algebra_.multiply(g, b));
        give(b, algebra_.multiply(g, a));
        break;
      case Op::kDiv:  // y = a / b: dy/da = 1 / b, dy/db = -y / b
        give(a, algebra_.divide(g, b));
        give(b, algebra_.negate(algebra_.divide(algebra_.multiply(g, y), b)));
        break;
      case Op::kMin:
        choose(graph_->binary(Op::kLessEqual, a, b), a, b, g);
        break;
      case Op::kMax:
        choose(graph_->binary(Op::kLessEqual, b, a), a, b, g);
        break;
      case Op::kWhere:
        choose(a, b, node.operand[2], g);
        break;
      case Op::kNeg:
        give(a, algebra_.negate(g));
        break;
      case Op::kAbs: {
        const int32_t zero = algebra_.zero();
        const int32_t below =
            algebra_.where(graph_->binary(Op::kLess, a, zero), algebra_.negate(g), zero);
        give(a, algebra_.where(graph_->binary(Op::kLess, zero, a), g, below));
        break;
      }
      case Op::kExp:  // y = exp(a): dy/da = y
        give(a, algebra_.multiply(g, y));
        break;
      case Op::kLog:
        give(a, algebra_.divide(g, a));
        break;
      case Op::kTanh:  // dy/da = 1 - y y
        give(a, algebra_.multiply(
                    g, graph_->binary(Op::kSub, algebra_.one(), graph_->binary(Op::kMul, y, y))));
        break;
      case Op::kSqrt:  // dy/da = 1 / (2 y)
        give(a, algebra_.divide(g, graph_->binary(Op::kAdd, y, y)));
        break;
      default:  // constants, named numbers, integers made real
        break;
    }
  }
  // y is a where the condition holds, else b.
  void choose(int32_t condition, int32_t a, int32_t b, int32_t g) {
    give(a, algebra_.where(condition, g, algebra_.zero()));
    give(b, algebra_.where(condition, algebra_.zero(), g));
  }

  std::shared_ptr<Graph> graph_;
  Algebra algebra_;
  int32_t root_;
  std::vector<int32_t> grads_;  // d score / d node, so far
  int32_t by_score_ = -1;
  std::vector<std::pair<int32_t, int32_t>> by_lookup_;
};

}  // namespace

Derivatives derivatives(const Expression& score) { return Reverse(score).run(); }

}  // namespace tilewise::expr
