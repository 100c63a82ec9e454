// SPDX-License-Identifier: Apache-2.0
#include "base/checked.h"

#include <gtest/gtest.h>

#include <limits>

namespace tilewise {
namespace {

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
constexpr int64_t kMin = std::numeric_limits<int64_t>::min();

TEST(Checked, GivesTheResultWhereItFits) {
  int64_t result = 0;
  EXPECT_TRUE(checked_add(kMax - 1, 1, result));
  EXPECT_EQ(result, kMax);
  EXPECT_TRUE(checked_multiply(int64_t{1} << 31, -(int64_t{1} << 32), result));
  EXPECT_EQ(result, kMin);
}

TEST(Checked, ReportsOverflowOnBothSides) {
  int64_t result = 0;
  EXPECT_FALSE(checked_add(kMax, 1, result));
  EXPECT_FALSE(checked_add(kMin, -1, result));
  EXPECT_FALSE(checked_multiply(int64_t{1} << 32, int64_t{1} << 31, result));
  EXPECT_FALSE(checked_multiply(kMin, -1, result));
}

}  // namespace
}  // namespace tilewise
