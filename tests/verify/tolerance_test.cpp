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
  const Deviation d = deviation({1, 2.5, 3, -4}, {1, 2, 3, -3}, DType::kFloat32);
  EXPECT_EQ(d.max, 1);
  EXPECT_EQ(d.worst, 3);
  EXPECT_DOUBLE_EQ(d.rms, std::sqrt(1.25 / 4));
  EXPECT_EQ(d.misplaced, -1);
  EXPECT_EQ(d.largest_reference, 3);
}

TEST(Deviation, NaNAndInfinityAreExact) {
  EXPECT_EQ(deviation({1, kNaN, -kInfinity}, {1, kNaN, -kInfinity}, DType::kFloat32).misplaced, -1);
  EXPECT_EQ(deviation({1, kNaN}, {1, 2}, DType::kFloat32).misplaced, 1);
  EXPECT_EQ(deviation({1, 2}, {kNaN, 2}, DType::kFloat32).misplaced, 0);
  EXPECT_EQ(deviation({kInfinity}, {-kInfinity}, DType::kFloat32).misplaced, 0);
  EXPECT_EQ(deviation({kInfinity}, {1e30}, DType::kFloat32).misplaced, 0);
  EXPECT_EQ(deviation({-kInfinity}, {0}, DType::kFloat32).misplaced, 0);
}

TEST(Deviation, BeyondTheRangeOfTheDtypeEitherSaturationPasses) {
  EXPECT_EQ(deviation({kInfinity}, {1e6}, DType::kFloat16).misplaced, -1);
  EXPECT_EQ(deviation({65504}, {1e6}, DType::kFloat16).max, 0);
  EXPECT_EQ(deviation({-kInfinity}, {1e6}, DType::kFloat16).max, 2 * 65504);
}

TEST(Bound, IsTheOneOfTheHeader) {
  Deviation naive;
  naive.max = 3, naive.rms = 1, naive.largest_reference = 1.5;
  const Bound forward = bound(Pass::kForward, DType::kFloat32, naive, 1'000'000);
  EXPECT_EQ(forward.max, 6 + 2 * 0x1p-23);
  EXPECT_NEAR(forward.rms, 1.1 * 1.002, 1e-9);
  EXPECT_NEAR(bound(Pass::kBackward, DType::kFloat32, naive, 1'000'000).rms, 1.25 * 1.002, 1e-9);
  EXPECT_NEAR(bound(Pass::kForward, DType::kFloat32, naive, 4).rms, 1.1 * 2 + 0x1p-24, 1e-9);
}

}  // namespace
}  // namespace tilewise::verify
