// SPDX-License-Identifier: Apache-2.0
#include "expr/tile_rules.h"

#include <gtest/gtest.h>

#include "expr/mask_builder.h"
#include "expr/specialise.h"

namespace tilewise::expr {
namespace {

// The rule of one box of a mask.
class Rules {
 public:
  Rules(MaskBuilder& m, Term mask, const TileGrid& grid)
      : grid_(grid),
        mask_(specialise(m.expression(mask), m.values, 0, 0, grid.box())),
        program_(mask_, m.values, IntervalProgram::Refine::kYes),
        registers_(program_.start()),
        rules(mask_, program_, grid_) {}
  int32_t of(const Box& box, int64_t tiles = 1) {
    for (int l = 0; l < kLanes; ++l) {
      registers_[IntervalProgram::kQuery].lo[l] = box.q0;
      registers_[IntervalProgram::kQuery].hi[l] = box.q1;
      registers_[IntervalProgram::kKey].lo[l] = box.k0;
      registers_[IntervalProgram::kKey].hi[l] = box.k1;
    }
    program_.evaluate(registers_, program_.q_begin());
    return rules.rule_of(registers_, 2, tiles);
  }

 private:
  TileGrid grid_;
  Expression mask_;
  IntervalProgram program_;
  std::vector<IntervalRegister> registers_;

 public:
  TileRules rules;
};

const TileGrid kGrid{4096, 4096, 0, 0, 128, 128};

TEST(TileRules, TilesShareTheRuleOfWhatIsLeft) {
  MaskBuilder m;
  Rules r(m, m.q() >= m.k() && (m.k() < 4 || m.q() - m.k() <= 1000), kGrid);
  const int32_t diagonal = r.of({128, 255, 128, 255});
  EXPECT_EQ(r.of({256, 383, 256, 383}), diagonal);
  const int32_t edge = r.of({2048, 2175, 1024, 1151});
  EXPECT_NE(edge, diagonal);
  const int32_t sink = r.of({4000, 4095, 0, 127});
  const std::vector<TileRule> rules = r.rules.take_rules();
  ASSERT_EQ(rules.size(), 3u);
  const auto at = [&](int32_t i) { return rules[static_cast<size_t>(i)]; };
  EXPECT_EQ(at(diagonal).band.hi, 0);
  EXPECT_EQ(at(edge).band.lo, -1000);
  EXPECT_EQ(at(edge).band.hi, Band::kUnbounded);
  EXPECT_EQ(at(sink).key_end, 4);
  EXPECT_EQ(at(sink).band.lo, -Band::kUnbounded);
  EXPECT_TRUE(r.rules.take_programs().empty());
}

TEST(TileRules, EqualProgramsAreOne) {
  MaskBuilder m;
  const Term odd = (m.q() + m.k()) % 2 == 0;
  Rules r(m, odd && (m.q() < 1000 || m.k() < 1000), kGrid);
  // On both boxes the parity alone is left, for different reasons.
  EXPECT_EQ(r.of({0, 127, 2000, 2100}), r.of({2000, 2100, 0, 127}));
  EXPECT_EQ(r.rules.take_programs().size(), 1u);
}

TEST(TileRules, TheWholeMaskAndItsTiles) {
  MaskBuilder m;
  Rules r(m, m.q() >= m.k() && (m.q() + m.k()) % 2 == 0, kGrid);
  const int32_t whole = r.rules.whole(10);
  EXPECT_EQ(r.of({2000, 2100, 0, 127}, 3) == whole, false);
  EXPECT_EQ(r.of({0, 127, 0, 127}), whole);  // both comparisons are open
  const std::vector<OpenPart> open = r.rules.open_parts();
  ASSERT_EQ(open.size(), 2u);
  EXPECT_EQ(open[0].tiles, 14);
  EXPECT_EQ(open[1].tiles, 11);
}

// 100 ways to be open: 64 are told apart, the rest keep the whole mask.
TEST(TileRules, CasesAreLimited) {
  MaskBuilder m;
  Term mask = m.q() * m.k() == 17;
  for (int64_t i = 0; i < 30; ++i) mask = mask || m.q() * m.q() == m.k() + (1000 + i * 50);
  Rules r(m, mask, {200, 10, 0, 0, 1, 10});
  for (int64_t i = 0; i < 100; ++i) {
    for (int64_t width = 0; width < 10; ++width) EXPECT_LE(r.of({i, i + width, 0, 9}), 64);
  }
  EXPECT_LE(r.rules.take_rules().size(), 65u);
  EXPECT_LE(r.rules.take_programs().size(), 65u);
}

}  // namespace
}  // namespace tilewise::expr
