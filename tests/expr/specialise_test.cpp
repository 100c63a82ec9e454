// SPDX-License-Identifier: Apache-2.0
#include "expr/specialise.h"

#include <gtest/gtest.h>

#include <set>

#include "expr/eval_scalar.h"
#include "expr/random_mask.h"

namespace tilewise::expr {
namespace {

uint64_t hash(const Expression& e) { return hash_of(*e.graph, e.root); }

TEST(Specialise, KeepsEveryPairOfTheBox) {
  int64_t constants = 0;
  for (int seed = 0; seed < 4000; ++seed) {
    RandomMask random(static_cast<uint64_t>(seed) + 4'000'000);
    const Term root = random.boolean(static_cast<int>(1 + random.below(5)));
    Values& values = random.builder.values;
    values.query_length = 30;
    values.kv_length = 40;
    const int64_t q = random.below(100) - 50, k = random.below(100) - 50;
    const Box box{q, q + random.below(20), k, k + random.below(20)};
    const int64_t batch = random.below(2), head = random.below(3);
    const Expression before = random.builder.expression(root);
    const Expression after = specialise(before, values, batch, head, box);
    ScalarEvaluator old_value(before, values), new_value(after, values);
    for (int64_t i = box.q0; i <= box.q1; ++i) {
      for (int64_t j = box.k0; j <= box.k1; ++j) {
        ASSERT_EQ(old_value.boolean({batch, head, i, j}), new_value.boolean({batch, head, i, j}))
            << "seed " << seed;
      }
    }
    for (const Variable v : {Variable::kBatch, Variable::kHead, Variable::kKvLength})
      EXPECT_FALSE(depends_on(after, v));
    constants += after.node().is_const();
  }
  EXPECT_GT(constants, 500);
  EXPECT_LT(constants, 3800);
}

// 64 heads of a window table with two different windows are two masks.
TEST(Specialise, HeadsOfEqualMeaningHashAlike) {
  MaskBuilder m;
  std::vector<int32_t> widths(64);
  for (size_t i = 0; i < widths.size(); ++i) widths[i] = i % 3 != 0 ? 4096 : 512;
  const Term width = m.look_up("width", int_table(widths, {2, 32}), {m.b(), m.h()});
  const Expression mask = m.expression(m.q() >= m.k() && m.q() - m.k() <= width);
  std::set<uint64_t> hashes;
  for (int64_t b = 0; b < 2; ++b) {
    for (int64_t h = 0; h < 32; ++h)
      hashes.insert(hash(specialise(mask, m.values, b, h, {0, 65535, 0, 65535})));
  }
  EXPECT_EQ(hashes.size(), 2u);
}

// A head number in a part that the box decides does not make heads different.
TEST(Specialise, DecidedPartsLeaveNoTrace) {
  MaskBuilder m;
  const Expression mask = m.expression(m.q() >= m.k() || m.q() + m.k() < m.h() - 5);
  const Box box{0, 99, 0, 99};
  const Expression first = specialise(mask, m.values, 0, 0, box);
  EXPECT_EQ(hash(first), hash(specialise(mask, m.values, 0, 4, box)));
  EXPECT_NE(hash(first), hash(specialise(mask, m.values, 0, 40, box)));
}

TEST(Specialise, ScalarsLengthsAndOffsetsAreConstants) {
  MaskBuilder m;
  m.values.query_length = 10;
  m.values.kv_length = 30;
  m.values.query_offset = 3;
  m.values.key_offset = 4;
  const Term shift = m.variable(Variable::kKvLength) - m.variable(Variable::kQueryLength) +
                     m.variable(Variable::kQueryOffset) - m.variable(Variable::kKeyOffset) +
                     m.scalar("more", 7);
  const Expression special =
      specialise(m.expression(m.q() + shift >= m.k()), m.values, 0, 0, {0, 99, 0, 99});
  MaskBuilder n;
  const Expression expected =
      specialise(n.expression(n.q() + 26 >= n.k()), n.values, 0, 0, {0, 99, 0, 99});
  EXPECT_EQ(hash(special), hash(expected));
}

TEST(Specialise, AliasesWhatTheBoxDecides) {
  MaskBuilder m;
  const Box box{10, 20, 30, 40};
  const auto special = [&](Term t) {
    return hash(specialise(m.expression(t), m.values, 0, 0, box));
  };
  EXPECT_EQ(special(min(m.q(), m.k()) == m.q() * m.q() + 3), special(m.q() == m.q() * m.q() + 3));
  EXPECT_EQ(special(max(m.q(), m.k()) < m.q() * 3), special(m.k() < m.q() * 3));
  EXPECT_EQ(special(abs(m.q()) < 15), special(m.q() < 15));
  EXPECT_EQ(special(m.q() % 21 < 15), special(m.q() < 15));
  EXPECT_NE(special(m.q() % 20 < 15), special(m.q() < 15));
  EXPECT_EQ(special(where(m.q() < m.k(), m.q(), m.k()) < 15), special(m.q() < 15));
}

TEST(Specialise, LookupsWithConstantIndicesFold) {
  MaskBuilder m;
  const auto table = int_table({1, 2, 3, 4, 5, 6, 7, 8}, {2, 2, 2});
  const Term value = m.look_up("t", table, {m.b(), m.h(), m.integer(1)});
  const Expression special =
      specialise(m.expression(m.q() < value), m.values, 1, 0, {0, 99, 0, 99});
  EXPECT_EQ(hash(special),
            hash(specialise(m.expression(m.q() < 6), m.values, 0, 0, {0, 99, 0, 99})));
}

}  // namespace
}  // namespace tilewise::expr
