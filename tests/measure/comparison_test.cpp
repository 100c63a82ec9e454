// SPDX-License-Identifier: Apache-2.0
#include "measure/comparison.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace tilewise::measure {
namespace {

TEST(Comparison, IsTheMedianOfTheRatios) {
  const Comparison equal = compare({1, 2, 3}, {1, 2, 3});
  EXPECT_EQ(equal.ratio, 1);
  EXPECT_EQ(equal.noise, 0);
  EXPECT_FALSE(equal.is_faster(0));
  const Comparison half = compare({1, 2, 40}, {0.5, 1, 200});
  EXPECT_EQ(half.ratio, 0.5) << "one disturbed round moves nothing";
  EXPECT_EQ(compare({}, {}).ratio, 1);
  EXPECT_TRUE(compare({1}, {0.9}).is_faster(0.05));
  EXPECT_FALSE(compare({1}, {0.9}).is_faster(0.2));
}

// Slow and fast phases of a machine hit both; own noise of each is 10 percent.
std::vector<std::vector<double>> noisy(double ratio, int rounds, uint64_t seed) {
  Random random(seed);
  std::vector<std::vector<double>> seconds(2);
  for (int i = 0; i < rounds; ++i) {
    const double phase = 1 + static_cast<double>(random.between(0, 1));
    seconds[0].push_back(phase * (1 + 0.1 * random.normal()));
    seconds[1].push_back(phase * ratio * (1 + 0.1 * random.normal()));
  }
  return seconds;
}

TEST(Comparison, NoiseIsNotTakenForGain) {
  int wrong = 0, found = 0;
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    const auto equal = noisy(1, 25, seed), faster = noisy(0.8, 25, seed);
    wrong += compare(equal[0], equal[1]).is_faster(0);
    found += compare(faster[0], faster[1]).is_faster(0);
  }
  EXPECT_LT(wrong, 15);
  EXPECT_GT(found, 900);
}

}  // namespace
}  // namespace tilewise::measure
