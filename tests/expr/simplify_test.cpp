// SPDX-License-Identifier: Apache-2.0
#include "expr/simplify.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "expr/eval_scalar.h"
#include "expr/random_mask.h"
#include "expr/rewrite.h"

namespace tilewise::expr {
namespace {

// Equal in double, bit for bit; any NaN is a NaN.
bool same(double a, double b) {
  return std::bit_cast<int64_t>(a) == std::bit_cast<int64_t>(b) || (std::isnan(a) && std::isnan(b));
}

TEST(Simplify, KeepsEveryValue) {
  int64_t smaller = 0;
  for (int seed = 0; seed < 6000; ++seed) {
    RandomMask random(static_cast<uint64_t>(seed) + 3'000'000);
    const int depth = static_cast<int>(1 + random.below(6));
    const Term root = random.one_in(3)   ? random.integer(depth)
                      : random.one_in(4) ? random.real(depth)
                                         : random.boolean(depth);
    const Values& values = random.builder.values;
    const Expression before = random.builder.expression(root), after = simplify(before);
    ASSERT_EQ(after.type(), before.type());
    ASSERT_EQ(after.graph->symbols(), before.graph->symbols());
    ScalarEvaluator old_value(before, values), new_value(after, values);
    for (int i = 0; i < 30; ++i) {
      const Point point{random.below(2), random.below(3), random.below(200) - 100,
                        random.below(200) - 100};
      if (before.type() == Type::kReal) {
        ASSERT_TRUE(same(old_value.real(point), new_value.real(point))) << "seed " << seed;
      } else {
        ASSERT_EQ(old_value.integer(point), new_value.integer(point)) << "seed " << seed;
      }
    }
    smaller += after.graph->nodes().size() < before.graph->nodes().size();
  }
  EXPECT_GT(smaller, 1000);
}

TEST(Simplify, EqualMeaningHashesAlike) {
  MaskBuilder m;
  const Term q = m.q(), k = m.k(), t = m.boolean(true), f = m.boolean(false);
  const Term s = m.variable(Variable::kScore);
  const std::pair<Term, Term> equal[] = {
      {q + 0 >= k, k <= q},
      {q * 1 >= k, q >= k},
      {!(q < k), q >= k},
      {!!(q < k), q < k},
      {!(q == k), q != k},
      {!(q >= k && k < 5), q < k || k >= 5},
      {min(q, q) >= k, q >= k},
      {q + k == 3, k + q == 3},
      {(q == k) && (q < 5), (q < 5) && (k == q)},
      {q - 3 < k, q + m.integer(-3) < k},
      {(q + 1) + 2 < k, q + 3 < k},
      {m.integer(5) - m.integer(2) < k, m.integer(3) < k},
      {q < 5, q <= 4},
      {q > 5, q >= 6},
      {(q >= k) && t, q >= k},
      {(q >= k) || f, q >= k},
      {((q >= k) && f) || (q < 3), q < 3},
      {where(t, q, k) < 3, q < 3},
      {where(q < 3, k, k) < 3, k < 3},
      {where(!(s < m.real(1)), q, k) < 7, where(s < m.real(1), k, q) < 7},
      {where(q < 3, k < 4, f), q < 3 && k < 4},
      {where(q < 3, t, k < 4), q < 3 || k < 4},
      {where(q < 3, f, k < 4), q >= 3 && k < 4},
      {where(q < 3, k < 4, t), q >= 3 || k < 4},
      {abs(q - k) < 4, abs(k - q) < 4},
      {q - k == q - k, t},
      {q - q + k < 3, k < 3},
      {(q * 3) * 2 < k, q * 6 < k},
      {q / 1 + k % 1 < 3, q < 3},
      {q >= k && q < k, f},
      {q == k || q != k, t},
      {q < kMinInt, f},
      {q <= kMaxInt, t},
  };
  for (const auto& [a, b] : equal) {
    const Expression x = simplify(m.expression(a)), y = simplify(m.expression(b));
    EXPECT_EQ(hash_of(*x.graph, x.root), hash_of(*y.graph, y.root))
        << "case " << (&a - &equal[0].first) / 2;
  }
}

// What looks alike and is not: wrapping, NaN, signed zeros.
TEST(Simplify, KeepsWhatDiffers) {
  MaskBuilder m;
  const auto hash = [&](Term t) {
    const Expression e = simplify(m.expression(t));
    return hash_of(*e.graph, e.root);
  };
  EXPECT_NE(hash(m.q() + 1 > m.q()), hash(m.boolean(true)));
  EXPECT_NE(hash(m.q() - m.k() < 0), hash(m.q() < m.k()));
  const Term s = m.variable(Variable::kScore), one = m.real(1);
  EXPECT_NE(hash(!(s < one)), hash(one <= s));
  EXPECT_NE(hash(s == s), hash(m.boolean(true)));
  EXPECT_NE(hash(s + m.real(0.0)), hash(s));
  EXPECT_EQ(hash(s + m.real(-0.0)), hash(s));
  EXPECT_NE(hash(s * m.real(0.0)), hash(m.real(0.0)));
}

}  // namespace
}  // namespace tilewise::expr
