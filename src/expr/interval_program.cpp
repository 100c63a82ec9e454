// SPDX-License-Identifier: Apache-2.0
#include "expr/interval_program.h"

#include <algorithm>
#include <utility>

namespace tilewise::expr {
namespace {

// Limits of refinement, so that a hostile expression compiles in linear time.
constexpr size_t kMaxConjuncts = 8;
constexpr int kMaxFacts = 32;
constexpr size_t kMaxRefinedSteps = 256;

IntervalOp interval_op(Op op) {
  switch (op) {
    case Op::kAdd:
      return IntervalOp::kAdd;
    case Op::kSub:
      return IntervalOp::kSubtract;
    case Op::kMul:
      return IntervalOp::kMultiply;
    case Op::kMin:
    case Op::kAnd:
      return IntervalOp::kMin;
    case Op::kMax:
    case Op::kOr:
      return IntervalOp::kMax;
    case Op::kAbs:
      return IntervalOp::kAbs;
    case Op::kNeg:
      return IntervalOp::kNegate;
    case Op::kFloorDiv:
      return IntervalOp::kFloorDiv;
    case Op::kMod:
      return IntervalOp::kFloorMod;
    case Op::kLess:
      return IntervalOp::kLess;
    case Op::kLessEqual:
      return IntervalOp::kLessEqual;
    case Op::kEqual:
      return IntervalOp::kEqual;
    case Op::kNotEqual:
      return IntervalOp::kNotEqual;
    case Op::kNot:
      return IntervalOp::kNot;
    case Op::kWhere:
      return IntervalOp::kWhere;
    default:
      return IntervalOp::kReal;
  }
}

bool is_comparison(Op op) {
  return op == Op::kLess || op == Op::kLessEqual || op == Op::kEqual || op == Op::kNotEqual;
}

}  // namespace

// A register is known by the index of its step in `draft_` until order() puts the steps in place.
class IntervalCompiler {
 public:
  IntervalCompiler(const Expression& expression, const Values& values, IntervalProgram& program)
      : graph_(*expression.graph), root_(expression.root), values_(values), program_(program) {
    for (int i = 0; i < 4; ++i) emit({.op = IntervalOp::kInput});
    register_of_.assign(graph_.nodes().size(), -1);
  }

  void run(IntervalProgram::Refine refine) {
    const std::vector<bool> reached = reachable(graph_, root_);
    const std::vector<bool> is_inner = inner_connectives(reached);
    for (int32_t i = 0; i <= root_; ++i) {
      if (!reached[at(i)]) continue;
      register_of_[at(i)] = lower(graph_.node(i), register_of_);
      const Op op = graph_.node(i).op;
      if (refine == IntervalProgram::Refine::kYes && (op == Op::kAnd || op == Op::kOr) &&
          !is_inner[at(i)])
        refine_connective(i);
    }
    order();
  }

 private:
  static size_t at(int32_t index) { return static_cast<size_t>(index); }

  int32_t emit(const IntervalStep& step) {
    draft_.push_back(step);
    gives_set_.push_back(gives_set(step));
    return static_cast<int32_t>(draft_.size() - 1);
  }
  int32_t constant(int64_t value) { return emit({.op = IntervalOp::kConst, .immediate = value}); }
  [[nodiscard]] bool is_constant(int32_t index) const {
    return draft_[at(index)].op == IntervalOp::kConst;
  }

  // Sets tell more than the interval of an unsorted table, and of what is made from one.
  [[nodiscard]] bool gives_set(const IntervalStep& step) const {
    const auto operand_gives = [&](int i) { return bool{gives_set_[at(step.operand[i])]}; };
    switch (step.op) {
      case IntervalOp::kLookup:
        return step.index->has_sets();
      case IntervalOp::kWhere:
        return operand_gives(1) || operand_gives(2);
      case IntervalOp::kMeetAtLeast:
      case IntervalOp::kMeetAtMost:
      case IntervalOp::kMeetEqual:
        return operand_gives(0);
      default:
        return false;
    }
  }
  void want_set(int32_t index) {
    IntervalStep& step = draft_[at(index)];
    if (step.keeps_set || !gives_set_[at(index)]) return;
    step.keeps_set = true;
    if (step.op == IntervalOp::kLookup) return;
    const bool is_where = step.op == IntervalOp::kWhere;
    want_set(step.operand[is_where ? 1 : 0]);
    if (is_where) want_set(step.operand[2]);
  }

  // The step of a node whose operands are in these registers.
  int32_t lower(const Node& node, const std::vector<int32_t>& registers) {
    switch (node.op) {
      case Op::kConst:
        return emit({.op = node.type == Type::kReal ? IntervalOp::kRealConst : IntervalOp::kConst,
                     .immediate = node.immediate});
      case Op::kVariable:
        return variable(static_cast<Variable>(node.immediate));
      case Op::kScalar: {
        const Values::Entry& entry = values_.symbols[static_cast<size_t>(node.immediate)];
        if (node.type == Type::kInt) return constant(entry.integer);
        return emit(
            {.op = IntervalOp::kRealConst, .immediate = std::bit_cast<int64_t>(entry.real)});
      }
      default:
        break;
    }
    IntervalStep step{.op = interval_op(node.op), .count = node.count};
    for (int i = 0; i < node.count; ++i) step.operand[i] = registers[at(node.operand[i])];
    if (node.op == Op::kLookup) return look_up(node, step);
    if (node.type == Type::kReal) {
      step.op = IntervalOp::kReal;
      step.immediate = static_cast<int64_t>(node.op);
    } else if (is_comparison(node.op)) {
      compare(node, step);
    } else if (node.op == Op::kMul && step.operand[0] == step.operand[1]) {
      step.op = IntervalOp::kSquare;
    } else if (node.op == Op::kFloorDiv || node.op == Op::kMod) {
      divide(node, step);
    }
    return emit(step);
  }

  int32_t variable(Variable variable) {
    switch (variable) {
      case Variable::kBatch:
        return IntervalProgram::kBatch;
      case Variable::kHead:
        return IntervalProgram::kHead;
      case Variable::kQuery:
        return IntervalProgram::kQuery;
      case Variable::kKey:
        return IntervalProgram::kKey;
      case Variable::kQueryLength:
        return constant(values_.query_length);
      case Variable::kKvLength:
        return constant(values_.kv_length);
      case Variable::kQueryOffset:
        return constant(values_.query_offset);
      case Variable::kKeyOffset:
        return constant(values_.key_offset);
      case Variable::kScore:
        break;
    }
    return emit({.op = IntervalOp::kUnknown});
  }

  void compare(const Node& node, IntervalStep& step) {
    if (graph_.node(node.operand[0]).type == Type::kReal) {
      step.op = IntervalOp::kRealCompare;
      step.immediate = static_cast<int64_t>(node.op);
    } else if (node.op == Op::kEqual || node.op == Op::kNotEqual) {
      want_set(step.operand[0]);
      want_set(step.operand[1]);
    }
  }

  void divide(const Node& node, IntervalStep& step) {
    const IntervalStep& divisor = draft_[at(step.operand[1])];
    if (divisor.op != IntervalOp::kConst || divisor.immediate < 1) return;
    step.op = node.op == Op::kFloorDiv ? IntervalOp::kFloorDivBy : IntervalOp::kFloorModBy;
    step.immediate = divisor.immediate;
    step.count = 1;
    step.operand[1] = -1;
  }

  // Leading constant indices pick a slice of the table.
  int32_t look_up(const Node& node, IntervalStep step) {
    if (node.type == Type::kReal) return emit({.op = IntervalOp::kUnknown});
    const IntTable& table = *values_.symbols[static_cast<size_t>(node.immediate)].table;
    int leading = 0;
    int64_t offset = 0;
    for (; leading < node.count - 1 && is_constant(step.operand[leading]); ++leading) {
      const int64_t extent = table.shape[static_cast<size_t>(leading)];
      offset = offset * extent +
               std::clamp<int64_t>(draft_[at(step.operand[leading])].immediate, 0, extent - 1);
    }
    for (int i = leading; i < node.count; ++i) offset *= table.shape[static_cast<size_t>(i)];
    step.op = IntervalOp::kLookup;
    step.count = static_cast<uint8_t>(node.count - leading);
    for (int i = 0; i < kMaxOperands; ++i)
      step.operand[i] = i < step.count ? step.operand[i + leading] : -1;
    step.index = &table.range_indices.slice(table, step.count, offset);
    return emit(step);
  }

  // Which conjunctions are operands of conjunctions (disjunctions of disjunctions) alone.
  [[nodiscard]] std::vector<bool> inner_connectives(const std::vector<bool>& reached) const {
    std::vector<bool> inner(graph_.nodes().size(), false);
    for (int32_t i = 0; i <= root_; ++i) {
      const Node& node = graph_.node(i);
      if (!reached[at(i)] || (node.op != Op::kAnd && node.op != Op::kOr)) continue;
      for (int j = 0; j < 2; ++j) {
        if (graph_.node(node.operand[j]).op == node.op) inner[at(node.operand[j])] = true;
      }
    }
    return inner;
  }

  // The operands of a chain of one connective; more than kMaxConjuncts are not wanted.
  [[nodiscard]] std::vector<int32_t> conjuncts_of(int32_t index) const {
    const Op op = graph_.node(index).op;
    std::vector<int32_t> found, open{index};
    // Shared parts of a graph may be met any number of times: a limit on visits, too.
    for (size_t visits = 0; !open.empty() && visits < 4 * kMaxConjuncts; ++visits) {
      if (found.size() > kMaxConjuncts) break;
      const Node& node = graph_.node(open.back());
      if (node.op != op) {
        if (std::find(found.begin(), found.end(), open.back()) == found.end())
          found.push_back(open.back());
        open.pop_back();
        continue;
      }
      open.back() = node.operand[0];
      open.push_back(node.operand[1]);
    }
    if (!open.empty() || found.size() > kMaxConjuncts) found.clear();
    return found;
  }

  // Each comparison narrows an operand of its own in the other conjuncts. In a disjunction the
  // negation of the comparison is the fact: the others matter only where this one is false.
  void refine_connective(int32_t index) {
    const bool is_and = graph_.node(index).op == Op::kAnd;
    const std::vector<int32_t> conjuncts = conjuncts_of(index);
    for (const int32_t fact : conjuncts) {
      const Node& node = graph_.node(fact);
      const bool is_order = node.op == Op::kLess || node.op == Op::kLessEqual;
      const bool is_equality = node.op == (is_and ? Op::kEqual : Op::kNotEqual);
      if (!(is_order || is_equality) || graph_.node(node.operand[0]).type != Type::kInt) continue;
      for (int side = 0; side < 2; ++side) {
        const int32_t x = node.operand[side];
        const Op op = graph_.node(x).op;
        if (op == Op::kConst || op == Op::kVariable || op == Op::kScalar) continue;
        if (facts_++ >= kMaxFacts) return;
        // x <= y bounds x from above and y from below; its negation is y < x.
        const IntervalOp meet = is_equality             ? IntervalOp::kMeetEqual
                                : (side == 0) == is_and ? IntervalOp::kMeetAtMost
                                                        : IntervalOp::kMeetAtLeast;
        const bool is_strict = is_order && (node.op == Op::kLess) == is_and;
        assume(index, conjuncts, fact, x, meet, bound(node.operand[1 - side], meet, is_strict));
      }
    }
  }

  // The register that x is compared with; beside a constant bound a strict comparison gains one.
  int32_t bound(int32_t y, IntervalOp meet, bool is_strict) {
    const int32_t index = register_of_[at(y)];
    if (!is_strict || !is_constant(index)) return index;
    const int64_t value = draft_[at(index)].immediate;
    if (value == kMinInt || value == kMaxInt) return index;
    return constant(meet == IntervalOp::kMeetAtMost ? value - 1 : value + 1);
  }

  // Evaluates the other conjuncts once more with x narrowed.
  void assume(int32_t connective, const std::vector<int32_t>& conjuncts, int32_t fact, int32_t x,
              IntervalOp meet, int32_t bound) {
    const std::vector<bool> uses_x = dependents(x, connective);
    int32_t narrowed = -1;
    for (const int32_t other : conjuncts) {
      if (other == fact || !uses_x[at(other)]) continue;
      std::vector<bool> cone = reachable(graph_, other);
      size_t steps = 2;
      for (size_t i = 0; i < cone.size(); ++i) steps += cone[i] && uses_x[i] ? 1 : 0;
      if (refined_steps_ + steps > kMaxRefinedSteps) return;
      refined_steps_ += steps;
      if (narrowed < 0) {
        narrowed = emit({.op = meet, .count = 2, .operand = {register_of_[at(x)], bound, -1, -1}});
      }
      std::vector<int32_t> registers = register_of_;
      registers[at(x)] = narrowed;
      for (int32_t i = x + 1; i <= other; ++i) {
        if (cone[at(i)] && uses_x[at(i)]) registers[at(i)] = lower(graph_.node(i), registers);
      }
      const bool is_and = graph_.node(connective).op == Op::kAnd;
      register_of_[at(connective)] =
          emit({.op = is_and ? IntervalOp::kDisprove : IntervalOp::kProve,
                .count = 2,
                .operand = {register_of_[at(connective)], registers[at(other)], -1, -1}});
    }
  }

  // Nodes up to `last` that x is a part of.
  [[nodiscard]] std::vector<bool> dependents(int32_t x, int32_t last) const {
    std::vector<bool> uses(graph_.nodes().size(), false);
    uses[at(x)] = true;
    for (int32_t i = x + 1; i <= last; ++i) {
      const Node& node = graph_.node(i);
      for (int j = 0; j < node.count; ++j) {
        if (uses[at(node.operand[j])]) uses[at(i)] = true;
      }
    }
    return uses;
  }

  // A stable partition by what a step depends on keeps operands before their users.
  void order() {
    constexpr int kOnQuery = 1, kOnKey = 2, kOnMore = 4;
    std::vector<int> depends(draft_.size(), 0);
    depends[IntervalProgram::kBatch] = depends[IntervalProgram::kHead] = kOnMore;
    depends[IntervalProgram::kQuery] = kOnQuery;
    depends[IntervalProgram::kKey] = kOnKey;
    for (size_t i = 4; i < draft_.size(); ++i) {
      for (int j = 0; j < draft_[i].count; ++j) depends[i] |= depends[at(draft_[i].operand[j])];
    }
    std::vector<int32_t> place(draft_.size());
    std::vector<IntervalStep>& steps = program_.steps_;
    steps.reserve(draft_.size());
    const auto append = [&](size_t i) {
      place[i] = static_cast<int32_t>(steps.size());
      steps.push_back(draft_[i]);
      for (int j = 0; j < draft_[i].count; ++j)
        steps.back().operand[j] = place[at(draft_[i].operand[j])];
    };
    const auto append_all = [&](auto belongs) {
      for (size_t i = 4; i < draft_.size(); ++i) {
        if (belongs(depends[i])) append(i);
      }
    };
    for (size_t i = 0; i < 4; ++i) append(i);
    append_all([](int d) { return d == 0; });
    program_.q_begin_ = steps.size();
    append_all([](int d) { return d == kOnQuery; });
    program_.k_begin_ = steps.size();
    append_all([](int d) { return d == kOnKey; });
    program_.mixed_begin_ = steps.size();
    append_all([](int d) { return d > kOnKey; });

    program_.root_ = place[at(register_of_[at(root_)])];
    for (int32_t& index : register_of_) index = index < 0 ? -1 : place[at(index)];
    program_.register_of_ = std::move(register_of_);
  }

  const Graph& graph_;
  const int32_t root_;
  const Values& values_;
  IntervalProgram& program_;
  std::vector<IntervalStep> draft_;
  std::vector<bool> gives_set_;  // of a step of the draft
  std::vector<int32_t> register_of_;
  int facts_ = 0;
  size_t refined_steps_ = 0;
};

IntervalProgram::IntervalProgram(const Expression& expression, const Values& values,
                                 Refine refine) {
  IntervalCompiler(expression, values, *this).run(refine);
}

}  // namespace tilewise::expr
