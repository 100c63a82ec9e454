// SPDX-License-Identifier: Apache-2.0
// Made-up fractions of a peak: nothing here is measured.
#include "measure/regression.h"

#include <gtest/gtest.h>

namespace tilewise::measure {
namespace {

constexpr Speed kRecorded = {.median = 0.80, .low = 0.79, .high = 0.82};  // varied by 0.03

Verdict compare(std::vector<double> runs) { return compare_speeds(kRecorded, speed_of(runs)); }

TEST(Regression, SpeedIsMedianLowestAndHighest) {
  const Speed speed = speed_of({0.7, 0.9, 0.6});
  EXPECT_EQ(speed.median, 0.7);
  EXPECT_EQ(speed.low, 0.6);
  EXPECT_EQ(speed.high, 0.9);
}

TEST(Regression, ADropWithinTheRecordedSpreadIsTheSame) {
  EXPECT_EQ(compare({0.80, 0.80, 0.80}), Verdict::kSame);
  EXPECT_EQ(compare({0.78, 0.775, 0.77}), Verdict::kSame);
  EXPECT_EQ(compare({0.82, 0.825, 0.83}), Verdict::kSame);
}

TEST(Regression, ADropBeyondItIsSlower) {
  EXPECT_EQ(compare({0.77, 0.765, 0.76}), Verdict::kSlower);
  EXPECT_EQ(compare({0.84, 0.835, 0.85}), Verdict::kFaster);
  EXPECT_EQ(compare({0.40}), Verdict::kSlower);
}

// The middle run decides, and one outlier widens what is taken for noise.
TEST(Regression, OneBadRunIsNotSlower) {
  EXPECT_EQ(compare({0.80, 0.79, 0.60}), Verdict::kUnclear);
  EXPECT_EQ(compare({0.74, 0.80, 0.80}), Verdict::kSame);
}

TEST(Regression, NoiseHidesNothingSilently) {
  EXPECT_EQ(compare({0.75, 0.73, 0.65}), Verdict::kUnclear) << "0.07 below, 0.1 apart";
  EXPECT_EQ(compare({0.70, 0.69, 0.60}), Verdict::kSlower) << "0.11 below, 0.1 apart";
  const Speed noisy = {.median = 0.80, .low = 0.70, .high = 0.90};
  EXPECT_EQ(compare_speeds(noisy, speed_of({0.75, 0.75, 0.75})), Verdict::kUnclear);
  EXPECT_EQ(compare_speeds(noisy, speed_of({0.55, 0.55, 0.55})), Verdict::kSlower);
}

TEST(Regression, RunsThatAgreeByLuckDoNotMakeNoiseVanish) {
  const Speed exact = {.median = 0.50, .low = 0.50, .high = 0.50};
  EXPECT_DOUBLE_EQ(noise_of(exact, exact), 0.01);
  EXPECT_EQ(compare_speeds(exact, speed_of({0.491})), Verdict::kSame);
  EXPECT_EQ(compare_speeds(exact, speed_of({0.489})), Verdict::kSlower);
}

TEST(Regression, VerdictsHaveNames) {
  EXPECT_STREQ(verdict_name(Verdict::kSame), "same");
  EXPECT_STREQ(verdict_name(Verdict::kFaster), "faster");
  EXPECT_STREQ(verdict_name(Verdict::kSlower), "slower");
  EXPECT_STREQ(verdict_name(Verdict::kUnclear), "unclear");
}

}  // namespace
}  // namespace tilewise::measure
