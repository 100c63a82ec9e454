// SPDX-License-Identifier: Apache-2.0
#include "base/random.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

namespace tilewise {
namespace {

void expect_block(const PhiloxBlock& block, const std::array<uint32_t, 4>& expected) {
  for (int i = 0; i < 4; ++i) EXPECT_EQ(block.word[i], expected[i]) << "word " << i;
}

// The three philox4x32-10 lines of kat_vectors in the authors' Random123 library.
TEST(Philox, KnownAnswers) {
  expect_block(philox4x32(0, 0, 0), {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  constexpr uint64_t kOnes = ~uint64_t{0};
  expect_block(philox4x32(kOnes, kOnes, kOnes), {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  expect_block(philox4x32(0x299f31d0a4093822, 0x85a308d3243f6a88, 0x0370734413198a2e),
               {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST(Random, StreamIsPhiloxCountedUp) {
  Random random(42, 7);
  for (uint64_t counter = 0; counter < 3; ++counter) {
    const PhiloxBlock block = philox4x32(42, counter, 7);
    for (uint32_t word : block.word) EXPECT_EQ(random.bits(), word);
  }
}

TEST(Random, UniformFillsTheUnitIntervalEvenly) {
  Random random(1);
  constexpr int kDraws = 100000, kBins = 20;
  std::array<int, kBins> count{};
  for (int i = 0; i < kDraws; ++i) {
    const double u = random.uniform();
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    ++count[static_cast<size_t>(u * kBins)];
  }
  double chi_squared = 0;
  for (int c : count) chi_squared += std::pow(c - kDraws / kBins, 2) / (kDraws / kBins);
  EXPECT_LT(chi_squared, 43.8);  // 19 degrees of freedom: exceeded once in 1000 seeds
}

TEST(Random, BetweenReachesBothEndsAndNothingElse) {
  Random random(2);
  std::array<int, 5> count{};
  for (int i = 0; i < 5000; ++i) {
    const int64_t value = random.between(-2, 2);
    ASSERT_GE(value, -2);
    ASSERT_LE(value, 2);
    ++count[static_cast<size_t>(value + 2)];
  }
  for (int c : count) EXPECT_NEAR(c, 1000, 150);
  EXPECT_EQ(random.between(9, 9), 9);
}

TEST(Random, BetweenCoversAllOfInt64) {
  Random random(3);
  bool below = false, above = false;
  for (int i = 0; i < 64; ++i) {
    const int64_t value =
        random.between(std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max());
    below |= value < -(int64_t{1} << 61);
    above |= value > int64_t{1} << 61;
  }
  EXPECT_TRUE(below && above);
}

TEST(Random, NormalHasTheMomentsAndTailsOfN01) {
  Random random(4);
  constexpr int kDraws = 200000;
  double sum = 0, squares = 0, fourth = 0;
  int beyond_two = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = random.normal();
    sum += x;
    squares += x * x;
    fourth += x * x * x * x;
    beyond_two += std::abs(x) > 2;
  }
  EXPECT_NEAR(sum / kDraws, 0, 0.01);
  EXPECT_NEAR(squares / kDraws, 1, 0.015);
  EXPECT_NEAR(fourth / kDraws, 3, 0.1);
  EXPECT_NEAR(static_cast<double>(beyond_two) / kDraws, 0.0455, 0.003);
}

}  // namespace
}  // namespace tilewise
