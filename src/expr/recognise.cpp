// SPDX-License-Identifier: Apache-2.0
#include "expr/recognise.h"

#include <algorithm>
#include <vector>

#include "base/checked.h"
#include "expr/rewrite.h"

namespace tilewise::expr {
namespace {

// q * query + k * key + constant. Exact: its terms and partial sums do not overflow on the grid.
struct Affine {
  bool is_valid = false;
  int64_t q = 0, k = 0, constant = 0;
  Interval range;  // on the grid
};

Affine checked(int64_t q, int64_t k, int64_t constant, bool fits, Interval range) {
  return {fits && range != kAnyInteger, q, k, constant, range};
}
Affine sum(const Affine& a, const Affine& b) {
  if (!a.is_valid || !b.is_valid) return {};
  int64_t q = 0, k = 0, c = 0;
  const bool fits = checked_add(a.q, b.q, q) && checked_add(a.k, b.k, k) &&
                    checked_add(a.constant, b.constant, c);
  return checked(q, k, c, fits, add(a.range, b.range));
}
Affine scaled(const Affine& a, int64_t factor) {
  if (!a.is_valid) return {};
  int64_t q = 0, k = 0, c = 0;
  const bool fits = checked_multiply(a.q, factor, q) && checked_multiply(a.k, factor, k) &&
                    checked_multiply(a.constant, factor, c);
  return checked(q, k, c, fits, multiply(a.range, {factor, factor}));
}
Affine difference(const Affine& a, const Affine& b) { return sum(a, scaled(b, -1)); }
Affine constant_form(int64_t value) { return {true, 0, 0, value, {value, value}}; }

class Recogniser {
 public:
  Recogniser(const Expression& mask, const TileGrid& grid)
      : graph_(*mask.graph),
        grid_(grid),
        is_small_(is_small(grid)),
        box_(grid.box()),
        forms_(graph_.nodes().size()) {
    const std::vector<bool> reached = reachable(graph_, mask.root);
    for (int32_t i = 0; i <= mask.root; ++i) {
      if (reached[at(i)] && graph_.node(i).type == Type::kInt) forms_[at(i)] = form_of(i);
    }
  }

  // Whether the whole comparison has gone into the rule.
  bool absorb(int32_t index) {
    const Node& node = graph_.node(index);
    if (node.is_const()) {
      if (node.immediate == 0) rule_.band = {1, 0};
      return true;
    }
    if (node.count != 2 || graph_.node(node.operand[0]).type != Type::kInt) return false;
    const TileRule before = rule_;
    const int32_t a = node.operand[0], b = node.operand[1];
    bool done = false;
    if (node.op == Op::kLessEqual) done = at_most(a, b, 0);
    if (node.op == Op::kLess) done = at_most(a, b, 1);
    if (node.op == Op::kEqual) done = at_most(a, b, 0) && at_most(b, a, 0);
    if (!done) rule_ = before;
    return done;
  }

  [[nodiscard]] const TileRule& rule() const { return rule_; }

 private:
  static size_t at(int32_t index) { return static_cast<size_t>(index); }
  [[nodiscard]] const Affine& form(int32_t index) const { return forms_[at(index)]; }

  [[nodiscard]] Affine form_of(int32_t index) const {
    const Node& node = graph_.node(index);
    const auto operand = [&](int i) -> const Affine& { return form(node.operand[i]); };
    switch (node.op) {
      case Op::kConst:
        return constant_form(node.immediate);
      case Op::kVariable:
        if (node.is(Variable::kQuery)) return {true, 1, 0, 0, {box_.q0, box_.q1}};
        if (node.is(Variable::kKey)) return {true, 0, 1, 0, {box_.k0, box_.k1}};
        return {};
      case Op::kAdd:
        return sum(operand(0), operand(1));
      case Op::kSub:
        return difference(operand(0), operand(1));
      case Op::kNeg:
        return scaled(operand(0), -1);
      case Op::kMul:
        if (!graph_.node(node.operand[1]).is_const()) return {};
        return scaled(operand(0), graph_.node(node.operand[1]).immediate);
      default:
        return {};
    }
  }

  // a + gap <= b, into the rule.
  bool at_most(int32_t a, int32_t b, int64_t gap) {
    const Node &x = graph_.node(a), &y = graph_.node(b);
    if (x.op == Op::kMax) return at_most(x.operand[0], b, gap) && at_most(x.operand[1], b, gap);
    if (y.op == Op::kMin) return at_most(a, y.operand[0], gap) && at_most(a, y.operand[1], gap);
    if (x.op == Op::kAbs) {  // the operand's form excludes that |x| overflows
      const Affine inner = form(x.operand[0]);
      return not_positive(difference(inner, form(b)), gap) &&
             not_positive(difference(scaled(inner, -1), form(b)), gap);
    }
    // x // d <= c: x <= c d + d - 1.    c <= x // d: c d <= x.
    if (x.op == Op::kFloorDiv && has_positive_divisor(x) && y.is_const()) {
      const int64_t d = graph_.node(x.operand[1]).immediate;
      const Affine limit = scaled(sum(constant_form(y.immediate), constant_form(1 - gap)), d);
      return not_positive(difference(form(x.operand[0]), limit), 1);
    }
    if (y.op == Op::kFloorDiv && has_positive_divisor(y) && x.is_const()) {
      const int64_t d = graph_.node(y.operand[1]).immediate;
      const Affine limit = scaled(sum(constant_form(x.immediate), constant_form(gap)), d);
      return not_positive(difference(limit, form(y.operand[0])), 0);
    }
    return not_positive(difference(form(a), form(b)), gap);
  }
  [[nodiscard]] bool has_positive_divisor(const Node& node) const {
    const Node& divisor = graph_.node(node.operand[1]);
    return divisor.is_const() && divisor.immediate > 0;
  }

  // q * query + k * key + c + gap <= 0, into the rule.
  bool not_positive(const Affine& affine, int64_t gap) {
    const Affine form = sum(affine, constant_form(gap));
    if (!form.is_valid || form.constant == kMinInt || form.q == kMinInt) return false;
    const int64_t shift_q = -grid_.query_offset, shift_k = -grid_.key_offset;
    if (form.k != 0 && form.q == -form.k)  // k * (key - query) <= -c
      return limit(form.k, form.constant, shift_k - shift_q, rule_.band.lo, rule_.band.hi, 0);
    if (form.k != 0 && form.q == 0)
      return limit(form.k, form.constant, shift_k, rule_.key_begin, rule_.key_end, 1);
    if (form.q != 0 && form.k == 0)
      return limit(form.q, form.constant, shift_q, rule_.query_begin, rule_.query_end, 1);
    return false;
  }

  // factor * x + c <= 0, where x + shift lies from `lo` to `hi - past_end`.
  [[nodiscard]] bool limit(int64_t factor, int64_t c, int64_t shift, int64_t& lo, int64_t& hi,
                           int64_t past_end) const {
    if (!is_small_ || factor == kMinInt) return false;
    // No position or difference of positions of a small grid is as far away as 4 kSmall.
    const auto local = [&](int64_t x) { return std::clamp(x, -4 * kSmall, 4 * kSmall) + shift; };
    if (factor > 0)
      hi = std::min(hi, local(floor_div(-c, factor)) + past_end);
    else
      lo = std::max(lo, local(-floor_div(-c, -factor)));
    return true;
  }
  static bool is_small(const TileGrid& grid) {
    return grid.query_offset >= -kSmall && grid.query_offset <= kSmall &&
           grid.key_offset >= -kSmall && grid.key_offset <= kSmall && grid.queries <= kSmall &&
           grid.keys <= kSmall;
  }

  static constexpr int64_t kSmall = int64_t{1} << 59;

  const Graph& graph_;
  const TileGrid& grid_;
  const bool is_small_;
  const Box box_;
  std::vector<Affine> forms_;
  TileRule rule_;
};

// The operands of the conjunction that the mask is, each once.
std::vector<int32_t> conjuncts_of(const Expression& mask) {
  std::vector<int32_t> found, open{mask.root};
  std::vector<bool> seen(mask.graph->nodes().size(), false);
  while (!open.empty()) {
    const int32_t index = open.back();
    open.pop_back();
    if (seen[static_cast<size_t>(index)]) continue;
    seen[static_cast<size_t>(index)] = true;
    const Node& node = mask.graph->node(index);
    if (node.op == Op::kAnd)
      open.insert(open.end(), {node.operand[1], node.operand[0]});
    else
      found.push_back(index);
  }
  return found;
}

// Where the rule holds, so do the conjuncts that went into it.
class Absorbed : public Replacement {
 public:
  explicit Absorbed(std::vector<int32_t> nodes) : nodes_(std::move(nodes)) {}
  int32_t replace(int32_t index, const Node&, Simplifier& simplifier) const override {
    const bool is_absorbed = std::find(nodes_.begin(), nodes_.end(), index) != nodes_.end();
    return is_absorbed ? simplifier.constant(true) : -1;
  }

 private:
  std::vector<int32_t> nodes_;
};

}  // namespace

Recognised recognise(const Expression& mask, const TileGrid& grid) {
  Recogniser recogniser(mask, grid);
  const std::vector<int32_t> conjuncts = conjuncts_of(mask);
  std::vector<int32_t> absorbed;
  for (const int32_t index : conjuncts) {
    if (recogniser.absorb(index)) absorbed.push_back(index);
  }
  if (absorbed.size() == conjuncts.size()) return {recogniser.rule(), {}};
  if (absorbed.empty()) return {recogniser.rule(), mask};
  Expression rest = rewrite(mask, Absorbed(absorbed));
  if (rest.node().is_const() && rest.node().immediate != 0) rest = {};
  return {recogniser.rule(), rest};
}

}  // namespace tilewise::expr
