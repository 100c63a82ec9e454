// SPDX-License-Identifier: Apache-2.0
#include "expr/interval_program.h"

#include <gtest/gtest.h>

#include <vector>

#include "expr/mask_builder.h"
#include "expr/random_mask.h"
#include "expr/specialise.h"
#include "expr/truth.h"

namespace tilewise::expr {
namespace {

using Refine = IntervalProgram::Refine;

// The root on one box, in lane 0.
class OneBox {
 public:
  OneBox(const Expression& expression, const Values& values, Refine refine)
      : program_(expression, values, refine), registers_(program_.start()) {
    set(IntervalProgram::kBatch, {0, 0});
    set(IntervalProgram::kHead, {0, 0});
  }
  Interval operator()(const Box& box) {
    set(IntervalProgram::kQuery, {box.q0, box.q1});
    set(IntervalProgram::kKey, {box.k0, box.k1});
    program_.evaluate(registers_, program_.q_begin());
    const IntervalRegister& root = registers_[static_cast<size_t>(program_.root())];
    return {root.lo[0], root.hi[0]};
  }

 private:
  void set(int32_t input, Interval range) {
    for (int l = 0; l < kLanes; ++l) {
      registers_[static_cast<size_t>(input)].lo[l] = range.lo;
      registers_[static_cast<size_t>(input)].hi[l] = range.hi;
    }
  }
  IntervalProgram program_;
  std::vector<IntervalRegister> registers_;
};

constexpr Interval kFalse{0, 0}, kTrue{1, 1}, kBoth{0, 1};

// Random masks on random boxes, four at a time: a verdict is what every pair says. With and without
// refinement, before and after specialisation. How many masks: 1.2 million verdicts.
TEST(IntervalProgram, VerdictsOfRandomMasksAreRight) {
  constexpr int kMasks = 5000, kRounds = 20;
  int64_t verdicts = 0, uniform = 0, decided = 0;
  for (int seed = 0; seed < kMasks; ++seed) {
    RandomMask random(static_cast<uint64_t>(seed) + 1'000'000);
    const Term root = random.boolean(static_cast<int>(1 + random.below(5)));
    const int64_t side = 6 + random.below(30);
    const int64_t q0 = random.one_in(3) ? random.below(1000) - 500 : 0;
    const int64_t k0 = random.one_in(3) ? random.below(1000) - 500 : 0;
    const Box all{q0, q0 + side - 1, k0, k0 + side - 1};
    Values& values = random.builder.values;
    values.query_length = values.kv_length = side;
    const int64_t batch = random.below(2), head = random.below(3);
    const Expression mask = random.builder.expression(root);
    const Expression special = specialise(mask, values, batch, head, all);
    const Truth truth(mask, values, batch, head, all);
    for (const auto& [expression, refine] :
         {std::pair(mask, Refine::kNo), {mask, Refine::kYes}, {special, Refine::kYes}}) {
      const IntervalProgram program(expression, values, refine);
      std::vector<IntervalRegister> registers = program.start();
      for (int round = 0; round < kRounds; ++round) {
        Box boxes[kLanes];
        for (int l = 0; l < kLanes; ++l) {
          const auto span = [&](int64_t origin) {
            const int64_t length = 1 + random.below(std::min<int64_t>(side, 9));
            const int64_t first = origin + random.below(side - length + 1);
            return Interval{first, first + length - 1};
          };
          const Interval q = span(q0), k = span(k0);
          boxes[l] = {q.lo, q.hi, k.lo, k.hi};
          const auto put = [&](int32_t input, Interval range) {
            registers[static_cast<size_t>(input)].lo[l] = range.lo;
            registers[static_cast<size_t>(input)].hi[l] = range.hi;
          };
          put(IntervalProgram::kBatch, {batch, batch});
          put(IntervalProgram::kHead, {head, head});
          put(IntervalProgram::kQuery, q);
          put(IntervalProgram::kKey, k);
        }
        program.evaluate(registers, program.q_begin());
        const IntervalRegister& result = registers[static_cast<size_t>(program.root())];
        for (int l = 0; l < kLanes; ++l) {
          const TileKind kind = truth.kind(boxes[l]);
          ASSERT_TRUE(result.lo[l] == 0 || kind == TileKind::kFull) << "seed " << seed;
          ASSERT_TRUE(result.hi[l] == 1 || kind == TileKind::kEmpty) << "seed " << seed;
          ++verdicts;
          uniform += kind != TileKind::kPartial;
          decided += result.lo[l] == result.hi[l];
        }
      }
    }
  }
  EXPECT_EQ(verdicts, int64_t{kMasks} * kRounds * 3 * kLanes);
  EXPECT_GT(static_cast<double>(decided), 0.8 * static_cast<double>(uniform));
}

// The sets of both arms count while the condition is open, of one when it is decided.
TEST(IntervalProgram, WhereJoinsTheSetsOfItsArms) {
  MaskBuilder m;
  const auto ids = int_table({1, 20, 1, 20, 1, 20, 1, 20});
  const auto others = int_table({7, 30, 7, 30, 7, 30, 7, 30});
  const Term arms =
      where(m.q() < 4, m.look_up("ids", ids, {m.k()}), m.look_up("others", others, {m.k()}));
  const auto equals = [&](int64_t value) {
    return OneBox(m.expression(arms == value), m.values, Refine::kNo);
  };
  const Box first{0, 3, 0, 7}, second{4, 7, 0, 7}, both{0, 7, 0, 7};
  EXPECT_EQ(equals(20)(first), kBoth);
  EXPECT_EQ(equals(20)(second), kFalse);
  EXPECT_EQ(equals(20)(both), kBoth);
  EXPECT_EQ(equals(30)(first), kFalse);
  EXPECT_EQ(equals(30)(second), kBoth);
  EXPECT_EQ(equals(30)(both), kBoth);
  EXPECT_EQ(equals(7)(both), kBoth);
  EXPECT_EQ(equals(1)(both), kBoth);
  EXPECT_EQ(equals(15)(both), kFalse);  // between all, equal to none
}
// An arm without a set counts with its interval.
TEST(IntervalProgram, WhereJoinsASetAndAnInterval) {
  MaskBuilder m;
  const auto ids = int_table({1, 20, 1, 20, 1, 20, 1, 20});
  const Term arms = where(m.q() < 4, m.look_up("ids", ids, {m.k()}), m.k() + 8);
  OneBox is_10(m.expression(arms == 10), m.values, Refine::kNo);
  EXPECT_EQ(is_10({0, 7, 0, 7}), kBoth);
  EXPECT_EQ(is_10({0, 3, 0, 7}), kFalse);
}

TEST(IntervalProgram, SetsTellShuffledIdsApart) {
  MaskBuilder m;
  const auto ids = int_table({3, 3, 9, 9, 5, 5, 3, 9});
  const auto id = [&](Term i) { return m.look_up("ids", ids, {i}); };
  OneBox equal(m.expression(id(m.q()) == id(m.k())), m.values, Refine::kNo);
  OneBox differ(m.expression(id(m.q()) != id(m.k())), m.values, Refine::kNo);
  EXPECT_EQ(equal({0, 3, 4, 5}), kFalse);  // {3, 9} and {5}: the intervals overlap
  EXPECT_EQ(differ({0, 3, 4, 5}), kTrue);
  EXPECT_EQ(equal({0, 3, 6, 6}), kBoth);
  EXPECT_EQ(equal({0, 1, 6, 6}), kTrue);
}

// Bounds of strict comparisons, at their last integer on either side.
TEST(IntervalProgram, StrictAndWeakComparisonsAtTheirEnds) {
  MaskBuilder m;
  const Box box{0, 4, 4, 8};
  const auto on_box = [&](Term mask) {
    return OneBox(m.expression(mask), m.values, Refine::kNo)(box);
  };
  EXPECT_EQ(on_box(m.q() <= m.k()), kTrue);
  EXPECT_EQ(on_box(m.q() < m.k()), kBoth);
  EXPECT_EQ(on_box(m.q() < m.k() + 1), kTrue);
  EXPECT_EQ(on_box(m.k() < m.q()), kFalse);
  EXPECT_EQ(on_box(m.k() <= m.q()), kBoth);
  EXPECT_EQ(on_box(m.k() + 1 <= m.q()), kFalse);
  EXPECT_EQ(on_box(m.q() == m.k()), kBoth);
  EXPECT_EQ(on_box(m.q() == m.k() + 1), kFalse);
  EXPECT_EQ(on_box(m.q() != m.k() + 1), kTrue);
}

// A refined bound: x < 5 leaves x = 4, x <= 5 leaves x = 5 as well; the negation of a disjunct does
// alike.
TEST(IntervalProgram, StrictFactsRefineByExactlyOne) {
  MaskBuilder m;
  const auto ids = int_table({9, 1, 4, 5, 9, 1, 4, 5});
  const Term x = m.look_up("ids", ids, {m.q()});
  const Box box{0, 7, 0, 0};
  const auto on_box = [&](Term mask) {
    return OneBox(m.expression(mask), m.values, Refine::kYes)(box);
  };
  EXPECT_EQ(on_box(x < 5 && x + m.k() >= 5), kFalse);
  EXPECT_EQ(on_box(x <= 5 && x + m.k() >= 5), kBoth);
  EXPECT_EQ(on_box(x > 4 && x + m.k() <= 4), kFalse);
  EXPECT_EQ(on_box(x >= 4 && x + m.k() <= 4), kBoth);
  EXPECT_EQ(on_box(x < 5 && x + m.k() >= 4), kBoth);
  EXPECT_EQ(on_box(x > 4 && x + m.k() <= 5), kBoth);
  EXPECT_EQ(on_box(x >= 5 || x + m.k() < 4), kBoth);
  EXPECT_EQ(on_box(x <= 4 || x + m.k() > 5), kBoth);
  EXPECT_EQ(on_box(x >= 5 || x + m.k() < 5), kTrue);  // where x >= 5 is false, x is 4 at most
  EXPECT_EQ(on_box(x > 5 || x + m.k() < 5), kBoth);
  EXPECT_EQ(on_box(x <= 4 || x + m.k() > 4), kTrue);
  EXPECT_EQ(on_box(x < 4 || x + m.k() > 4), kBoth);
  EXPECT_EQ(on_box(x != 5 || x + m.k() == 5), kTrue);
  EXPECT_EQ(on_box(x == 5 && x + m.k() != 5), kFalse);
}

// Refinement may disprove a conjunction, never prove it: the fact itself is open.
TEST(IntervalProgram, ARefinedConjunctProvesNothing) {
  MaskBuilder m;
  const auto ids = int_table({9, 1, 4, 5, 9, 1, 4, 5});
  const Term x = m.look_up("ids", ids, {m.q()});
  OneBox conjunction(m.expression(x >= 5 && x + m.k() >= 5), m.values, Refine::kYes);
  OneBox disjunction(m.expression(x >= 5 || x + m.k() >= 5), m.values, Refine::kYes);
  EXPECT_EQ(conjunction({0, 7, 0, 0}), kBoth);
  EXPECT_EQ(disjunction({0, 7, 0, 0}), kBoth);
}

TEST(IntervalProgram, StepsAreOrderedByWhatTheyDependOn) {
  MaskBuilder m;
  const Term mask = m.q() % 7 + m.k() % 5 + m.integer(2) * m.scalar("w", 3) < m.h() + m.q();
  const IntervalProgram program(m.expression(mask), m.values, Refine::kYes);
  std::vector<int> depends(program.steps().size(), 0);
  depends[IntervalProgram::kQuery] = 1;
  depends[IntervalProgram::kKey] = 2;
  depends[IntervalProgram::kHead] = 4;
  for (size_t i = 4; i < depends.size(); ++i) {
    const IntervalStep& step = program.steps()[i];
    for (int j = 0; j < step.count; ++j) {
      ASSERT_LT(step.operand[j], static_cast<int32_t>(i));
      depends[i] |= depends[static_cast<size_t>(step.operand[j])];
    }
    const int expected = i < program.q_begin()       ? 0
                         : i < program.k_begin()     ? 1
                         : i < program.mixed_begin() ? 2
                                                     : 3;
    EXPECT_EQ(std::min(depends[i], 3), expected) << i;
  }
}

// Graphs whose trees are exponentially large compile in linear time.
TEST(IntervalProgram, SharedPartsAreCompiledOnce) {
  MaskBuilder m;
  Term a = m.q() >= m.k(), b = a;
  Term x = m.q();
  for (int64_t i = 0; i < 300; ++i) {
    a = a && (a && m.q() + i * 3 >= m.k() % (i + 2));
    b = (b && m.q() * i < m.k()) || (!b && m.k() / (i + 1) == m.q());
    x = (x + x) % (m.k() + i + 1);
  }
  for (const Term root : {a, b, x == 3 && x < m.k()}) {
    const Expression mask = m.expression(root);
    const IntervalProgram program(mask, m.values, Refine::kYes);
    EXPECT_LT(program.steps().size(), mask.graph->nodes().size() + 400);
  }
}

}  // namespace
}  // namespace tilewise::expr
