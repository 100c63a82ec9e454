// SPDX-License-Identifier: Apache-2.0
#include "expr/rewrite.h"

#include <memory>
#include <utility>
#include <vector>

namespace tilewise::expr {
namespace {

// Rewrites every node of the source that the root needs, in up to two forms: as it is, and, for a
// bool, negated.
class Rewriter {
 public:
  Rewriter(const Expression& source, const Replacement& replacement, Graph& target)
      : source_(*source.graph),
        replacement_(replacement),
        simplifier_(target),
        states_(static_cast<size_t>(source.root) + 1) {}

  int32_t run(int32_t root) {
    at(root).is_needed[0] = true;
    for (int32_t i = root; i >= 0; --i) {
      if (at(i).is_needed[0] || at(i).is_needed[1]) mark_operands(i);
    }
    for (int32_t i = 0; i <= root; ++i) {
      for (const bool negated : {false, true}) {
        if (at(i).is_needed[negated]) at(i).built[negated] = build(i, negated);
      }
    }
    return at(root).built[0];
  }

 private:
  struct State {
    bool is_needed[2] = {false, false};  // [negated]
    int32_t replaced = -1, alias = -1;
    int32_t built[2] = {-1, -1};  // [negated]
  };
  State& at(int32_t index) { return states_[static_cast<size_t>(index)]; }

  // Whether the negation of the node is made from the negation of this operand.
  static bool moves_inwards(const Node& node, int operand) {
    return node.op == Op::kAnd || node.op == Op::kOr ||
           (node.op == Op::kWhere && node.type == Type::kBool && operand > 0);
  }

  void mark_operands(int32_t index) {
    const Node& node = source_.node(index);
    State& state = at(index);
    state.replaced = replacement_.replace(index, node, simplifier_);
    if (state.replaced >= 0) return;
    state.alias = replacement_.alias(index, node);
    for (const bool negated : {false, true}) {
      if (!state.is_needed[negated]) continue;
      if (state.alias >= 0) {
        at(state.alias).is_needed[negated] = true;
        continue;
      }
      for (int j = 0; j < node.count; ++j) {
        const bool form = node.op == Op::kNot ? !negated : negated && moves_inwards(node, j);
        at(node.operand[j]).is_needed[form] = true;
      }
    }
  }

  int32_t build(int32_t index, bool negated) {
    const Node& node = source_.node(index);
    const State& state = at(index);
    if (state.replaced >= 0) return negated ? simplifier_.negate(state.replaced) : state.replaced;
    if (state.alias >= 0) return at(state.alias).built[negated];
    if (node.op == Op::kNot) return at(node.operand[0]).built[!negated];
    Node copy = node;
    for (int j = 0; j < node.count; ++j)
      copy.operand[j] = at(node.operand[j]).built[negated && moves_inwards(node, j)];
    if (!negated) return simplifier_.add(copy);
    if (node.count == 0 || !moves_inwards(node, node.count - 1))
      return simplifier_.negate(simplifier_.add(copy));
    if (node.op != Op::kWhere) copy.op = node.op == Op::kAnd ? Op::kOr : Op::kAnd;
    return simplifier_.add(copy);
  }

  const Graph& source_;
  const Replacement& replacement_;
  Simplifier simplifier_;
  std::vector<State> states_;
};

class Nothing : public Replacement {
 public:
  int32_t replace(int32_t, const Node&, Simplifier&) const override { return -1; }
};

}  // namespace

Expression rewrite(const Expression& source, const Replacement& replacement) {
  auto graph = std::make_shared<Graph>();
  for (const Symbol& symbol : source.graph->symbols()) graph->symbol(symbol);
  const int32_t root = Rewriter(source, replacement, *graph).run(source.root);
  return {std::move(graph), root, source.name};
}

Expression simplify(const Expression& source) { return rewrite(source, Nothing()); }

}  // namespace tilewise::expr
