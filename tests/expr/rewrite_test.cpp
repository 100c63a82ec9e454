// SPDX-License-Identifier: Apache-2.0
#include "expr/rewrite.h"

#include <gtest/gtest.h>

#include <map>

#include "expr/eval_scalar.h"
#include "expr/random_mask.h"

namespace tilewise::expr {
namespace {

// Some nodes become constants, some their first operand.
class Some : public Replacement {
 public:
  std::map<int32_t, bool> constants;
  std::map<int32_t, int32_t> aliases;
  int32_t replace(int32_t index, const Node&, Simplifier& simplifier) const override {
    const auto found = constants.find(index);
    return found == constants.end() ? -1 : simplifier.constant(found->second);
  }
  [[nodiscard]] int32_t alias(int32_t index, const Node&) const override {
    const auto found = aliases.find(index);
    return found == aliases.end() ? -1 : found->second;
  }
};

uint64_t hash(const Expression& e) { return hash_of(*e.graph, e.root); }

TEST(Rewrite, ReplacesNodesInPlainAndNegatedForm) {
  MaskBuilder m;
  const Term a = m.q() >= m.k(), b = m.k() < 5, c = (m.q() + m.k()) % 2 == 0;
  const Expression mask = m.expression(!(a && b) || (b && c));
  Some some;
  some.constants[b.node] = true;
  EXPECT_EQ(hash(rewrite(mask, some)), hash(simplify(m.expression(!a || c))));
  some.constants[b.node] = false;
  EXPECT_EQ(hash(rewrite(mask, some)), hash(simplify(m.expression(m.boolean(true)))));
}

TEST(Rewrite, FollowsAliasesInBothForms) {
  MaskBuilder m;
  const Term a = m.q() >= m.k(), b = m.k() < 5, chosen = where(b, a, m.q() == 3);
  Some some;
  some.aliases[chosen.node] = a.node;
  EXPECT_EQ(hash(rewrite(m.expression(chosen), some)), hash(simplify(m.expression(a))));
  EXPECT_EQ(hash(rewrite(m.expression(!chosen), some)), hash(simplify(m.expression(!a))));
}

// What a replaced node was made from is not made again.
TEST(Rewrite, LeavesNoDeadParts) {
  MaskBuilder m;
  const Term big = (m.q() * 3 + m.k()) % 7 == abs(m.q() - m.k() * 5), a = m.q() >= m.k();
  Some some;
  some.constants[big.node] = true;
  const Expression result = rewrite(m.expression(big && a), some);
  EXPECT_LE(result.graph->nodes().size(), 4u);  // q, k, the comparison and the constant
}

TEST(Rewrite, KeepsNameAndSymbols) {
  MaskBuilder m;
  const auto table = int_table({1, 2, 3});
  const Term mask = m.scalar("unused", 3) < m.k() && m.look_up("t", table, {m.q()}) < m.k();
  Some some;
  some.constants[(m.scalar("unused", 3) < m.k()).node] = true;
  const Expression result = rewrite(m.expression(mask, "mine"), some);
  EXPECT_EQ(result.name, "mine");
  ASSERT_EQ(result.graph->symbols().size(), 2u);
  EXPECT_EQ(result.graph->symbols()[1].name, "t");
}

// Nodes with both a plain and a negated use, nested deep: two forms of each, not 2^300.
TEST(Rewrite, SharedPartsAreRewrittenOnce) {
  MaskBuilder m;
  Term a = m.q() < m.k();
  for (int64_t i = 0; i < 300; ++i) a = (a && m.q() > i) || (!a && m.k() > i);
  const Expression before = m.expression(a), after = simplify(before);
  EXPECT_LT(after.graph->nodes().size(), 3 * before.graph->nodes().size());
}

}  // namespace
}  // namespace tilewise::expr
