// SPDX-License-Identifier: Apache-2.0
#include "expr/tile_rules.h"

#include <algorithm>

#include "expr/recognise.h"
#include "expr/rewrite.h"

namespace tilewise::expr {
namespace {

bool same(const TileRule& a, const TileRule& b) {
  return a.band.lo == b.band.lo && a.band.hi == b.band.hi && a.key_begin == b.key_begin &&
         a.key_end == b.key_end && a.query_begin == b.query_begin && a.query_end == b.query_end &&
         a.program == b.program;
}

bool is_connective(const Node& node) {
  return node.op == Op::kAnd || node.op == Op::kOr || node.op == Op::kNot || node.op == Op::kWhere;
}

// Two graphs from the same root down.
bool same(const Expression& a, const Expression& b) {
  return hash_of(*a.graph, a.root) == hash_of(*b.graph, b.root);
}

// The parts that the signature decides.
class DecidedParts : public Replacement {
 public:
  DecidedParts(const std::vector<int32_t>& parts, uint64_t signature)
      : parts_(parts), signature_(signature) {}
  int32_t replace(int32_t index, const Node&, Simplifier& simplifier) const override {
    const auto found = std::find(parts_.begin(), parts_.end(), index);
    if (found == parts_.end()) return -1;
    const uint64_t known = signature_ >> (2 * (found - parts_.begin())) & 3;
    return known == 3 ? -1 : simplifier.constant(known == 2);
  }

 private:
  const std::vector<int32_t>& parts_;
  uint64_t signature_;
};

}  // namespace

TileRules::TileRules(const Expression& mask, const IntervalProgram& program, const TileGrid& grid)
    : mask_(mask), grid_(grid) {
  // Comparisons first: what they decide decides most connectives, which are worth a place for what
  // refinement alone decides.
  for (const bool connectives : {false, true}) {
    for (int32_t i = 0; i < mask.root; ++i) {
      const Node& node = mask.graph->node(i);
      if (program.register_of(i) < 0 || node.type != Type::kBool || node.is_const()) continue;
      if (is_connective(node) != connectives || parts_.size() == kMaxParts) continue;
      parts_.push_back(i);
    }
  }
  if (parts_.empty()) parts_.push_back(mask.root);
  registers_.reserve(parts_.size());
  for (const int32_t part : parts_) registers_.push_back(program.register_of(part));
}

int32_t TileRules::rule_of(const std::vector<IntervalRegister>& registers, int lane,
                           int64_t tiles) {
  Signature signature = 0;
  for (size_t i = 0; i < registers_.size(); ++i) {
    const IntervalRegister& r = registers[static_cast<size_t>(registers_[i])];
    const auto may_be_false = static_cast<Signature>(1 - r.lo[lane]);
    const auto may_be_true = static_cast<Signature>(r.hi[lane]);
    signature |= (may_be_false | may_be_true << 1) << (2 * i);
  }
  if (latest_ < cases_.size() && cases_[latest_].signature == signature)
    return count(latest_, tiles);
  for (size_t i = 0; i < cases_.size(); ++i) {
    if (cases_[i].signature == signature) return count(i, tiles);
  }
  if (cases_.size() >= kMaxCases) return whole(tiles);
  const int32_t rule = add_rule(rewrite(mask_, DecidedParts(parts_, signature)));
  cases_.push_back({signature, rule, 0});
  return count(cases_.size() - 1, tiles);
}

int32_t TileRules::whole(int64_t tiles) {
  constexpr Signature kNothing = ~Signature{0};
  for (size_t i = 0; i < cases_.size(); ++i) {
    if (cases_[i].signature == kNothing) return count(i, tiles);
  }
  cases_.push_back({kNothing, add_rule(mask_), 0});
  return count(cases_.size() - 1, tiles);
}

int32_t TileRules::count(size_t index, int64_t tiles) {
  latest_ = index;
  cases_[index].tiles += tiles;
  return cases_[index].rule;
}

int32_t TileRules::add_rule(const Expression& mask) {
  Recognised recognised = recognise(mask, grid_);
  TileRule rule = recognised.rule;
  if (recognised.rest.root >= 0) {
    const auto found =
        std::find_if(programs_.begin(), programs_.end(),
                     [&](const Expression& program) { return same(program, recognised.rest); });
    rule.program = static_cast<int32_t>(found - programs_.begin());
    if (found == programs_.end()) programs_.push_back(std::move(recognised.rest));
  }
  const auto found = std::find_if(rules_.begin(), rules_.end(),
                                  [&](const TileRule& other) { return same(other, rule); });
  if (found != rules_.end()) return static_cast<int32_t>(found - rules_.begin());
  rules_.push_back(rule);
  return static_cast<int32_t>(rules_.size() - 1);
}

std::vector<OpenPart> TileRules::open_parts() const {
  std::vector<OpenPart> open;
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (is_connective(mask_.graph->node(parts_[i]))) continue;
    int64_t tiles = 0;
    for (const Case& c : cases_) {
      if ((c.signature >> (2 * i) & 3) == 3) tiles += c.tiles;
    }
    if (tiles > 0) open.push_back({{mask_.graph, parts_[i], {}}, tiles});
  }
  std::sort(open.begin(), open.end(),
            [](const OpenPart& a, const OpenPart& b) { return a.tiles > b.tiles; });
  return open;
}

}  // namespace tilewise::expr
