// SPDX-License-Identifier: Apache-2.0
#include "verify/tolerance.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace tilewise::verify {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

TEST(Ulp, IsTheSpacingOfTheDtype) {
  EXPECT_EQ(ulp(DType::kFloat32, 1.0), 0x1p-23);
  EXPECT_EQ(ulp(DType::kFloat32, 1.999), 0x1p-23);
  EXPECT_EQ(ulp(DType::kFloat32, -2.0), 0x1p-22);
  EXPECT_EQ(ulp(DType::kBFloat16, 1.0), 0x1p-7);
  EXPECT_EQ(ulp(DType::kFloat16, 1.0), 0x1p-10);
  EXPECT_EQ(ulp(DType::kFloat64, 1.0), 0x1p-52);
}

TEST(Ulp, OfNothingIsTheSmallestNumber) {
  EXPECT_EQ(ulp(DType::kFloat32, 0), std::numeric_limits<float>::denorm_min());
  EXPECT_EQ(ulp(DType::kFloat64, 0), std::numeric_limits<double>::denorm_min());
  EXPECT_EQ(ulp(DType::kFloat16, 0), 0x1p-24);
}

TEST(Deviation, MaxRmsAndPlace) {
  const Deviation d = deviation({1, 2.5, 3, -4}, {1, 2, 3, -3}, DType::kFloat32, 1);
  EXPECT_EQ(d.max, 1);
  EXPECT_EQ(d.worst, 3);
  EXPECT_DOUBLE_EQ(d.rms, std::sqrt(1.25 / 4));
  EXPECT_EQ(d.misplaced, -1);
  EXPECT_EQ(d.largest_reference, 3);
}

TEST(Deviation, NaNAndInfinityAreExact) {
  EXPECT_EQ(deviation({1, kNaN, -kInfinity}, {1, kNaN, -kInfinity}, DType::kFloat32, 1).misplaced,
            -1);
  EXPECT_EQ(deviation({1, kNaN}, {1, 2}, DType::kFloat32, 1).misplaced, 1);
  EXPECT_EQ(deviation({1, 2}, {kNaN, 2}, DType::kFloat32, 1).misplaced, 0);
  EXPECT_EQ(deviation({kInfinity}, {-kInfinity}, DType::kFloat32, 1).misplaced, 0);
  EXPECT_EQ(deviation({kInfinity}, {1e30}, DType::kFloat32, 1).misplaced, 0);
  EXPECT_EQ(deviation({-kInfinity}, {0}, DType::kFloat32, 1).misplaced, 0);
}

TEST(Deviation, BeyondTheRangeOfTheDtypeEitherSaturationPasses) {
  EXPECT_EQ(deviation({kInfinity}, {1e6}, DType::kFloat16, 1).misplaced, -1);
  EXPECT_EQ(deviation({65504}, {1e6}, DType::kFloat16, 1).max, 0);
  EXPECT_EQ(deviation({-kInfinity}, {1e6}, DType::kFloat16, 1).max, 2 * 65504);
}

TEST(Deviation, EffectiveRowsAreThoseThatMakeUpTheError) {
  const std::vector<double> zero(8, 0);
  EXPECT_EQ(deviation({1, 1, 1, 1, 1, 1, 1, 1}, zero, DType::kFloat32, 2).effective_rows, 4);
  EXPECT_EQ(deviation({1, 2, 2, 1, -2, 1, 1, -2}, zero, DType::kFloat32, 2).effective_rows, 4);
  EXPECT_EQ(deviation({0, 0, 3, 1, 0, 0, 0, 0}, zero, DType::kFloat32, 2).effective_rows, 1);
  EXPECT_EQ(deviation(zero, zero, DType::kFloat32, 2).effective_rows, 1);
}

TEST(Bound, IsTheOneOfTheHeader) {
  Deviation naive;
  naive.max = 3, naive.rms = 1, naive.largest_reference = 1.5, naive.effective_rows = 1'000'000;
  const Bound forward = bound(Result::kOutput, DType::kFloat32, naive, 100);
  const double lse_rounding = 0x1p-17 * 1.5 / 1000;  // 100 is below 2^7: spacing 2^(6 - 23)
  EXPECT_NEAR(forward.max, 6 * 1.002 + 2 * 0x1p-23 + lse_rounding, 1e-12);
  EXPECT_NEAR(forward.rms, 1.1 * 1.002 + 0x1p-23 / 1000 + 0x1p-25 + lse_rounding, 1e-12);
  const Bound backward = bound(Result::kGradient, DType::kFloat32, naive, 100);
  EXPECT_NEAR(backward.max, forward.max + 499 * lse_rounding, 1e-12);  // half a spacing
  EXPECT_NEAR(backward.rms, 1.25 * 1.002 + 0x1p-23 / 1000 + 0x1p-25 + lse_rounding, 1e-12);
  naive.effective_rows = 4;
  EXPECT_NEAR(bound(Result::kOutput, DType::kBFloat16, naive, 0).rms,
              1.1 * 2 + 0x1p-7 / 2 + 0x1p-25, 1e-12);
  EXPECT_NEAR(bound(Result::kOutput, DType::kBFloat16, naive, 0).max, 12 + 0x1p-6, 1e-12);
}

TEST(Bound, OfLogsumexpIsAbsoluteBelowOneAndHasNoRms) {
  Deviation naive;
  naive.max = 1, naive.largest_reference = 0.01;
  const Bound allowed = bound(Result::kLogsumexp, DType::kFloat32, naive, 0.01);
  EXPECT_EQ(allowed.max, 6 + 2 * 0x1p-23);
  EXPECT_TRUE(std::isinf(allowed.rms));
}

TEST(Bound, NumbersBelowTheSmallestNormalMayCountAsZero) {
  EXPECT_EQ(bound(Result::kOutput, DType::kBFloat16, {}, 0).max, 0x1p-125);
  EXPECT_EQ(bound(Result::kOutput, DType::kFloat32, {}, 0).max, 0x1p-125);
  EXPECT_EQ(bound(Result::kOutput, DType::kFloat16, {}, 0).max, 0x1p-23);
}

TEST(WorseOf, TakesTheLargerErrorAndFewerRows) {
  Deviation a, b;
  a.max = 1, a.rms = 2, a.worst = 5, a.effective_rows = 10;
  b.max = 2, b.rms = 1, b.worst = 6, b.effective_rows = 20;
  const Deviation worse = worse_of(a, b);
  EXPECT_EQ(worse.max, 2);
  EXPECT_EQ(worse.rms, 2);
  EXPECT_EQ(worse.worst, 6);
  EXPECT_EQ(worse.effective_rows, 10);
}

TEST(Tolerance, DropoutScalesWhatUnderflows) {
  const Deviation tiny;
  EXPECT_EQ(bound(Result::kOutput, DType::kBFloat16, tiny, 1, 1024).max,
            1024 * bound(Result::kOutput, DType::kBFloat16, tiny).max);
}

// Two sums of three terms each.
TEST(Tolerance, ErrorsOfTermsCountForTheirSum) {
  const std::vector<double> exact = {1, 2, 3, 4, 5, 6}, terms = {1 + 3e-3, 2 - 4e-3, 3, 4, 5, 6};
  Deviation sum;  // by chance without error
  EXPECT_NEAR(with_terms(sum, terms, exact, 2).max, 5e-3, 1e-12);
  EXPECT_NEAR(with_terms(sum, terms, exact, 2).rms, 5e-3 / std::sqrt(2), 1e-12);
  sum.max = sum.rms = 1;
  EXPECT_EQ(with_terms(sum, terms, exact, 2).max, 1);
  EXPECT_EQ(with_terms(sum, terms, exact, 2).rms, 1);
}

}  // namespace
}  // namespace tilewise::verify
