// SPDX-License-Identifier: Apache-2.0
#include "verify/case_data.h"

#include <gtest/gtest.h>

#include "tilewise/error.h"

namespace tilewise::verify {
namespace {

Step step_with(const CaseData& data) {
  Step step;
  data.add_to(step);
  return step;
}

TEST(CaseData, GivesEveryNameOnceWithItsKind) {
  const Mask mask = mask_from_text("doc[q % 97] == doc[k % 97] and q - k < window");
  const Score score =
      score_from_text("s * cap - slope[h % 4] * float(k) + bias[h % 4, doc[k % 97] % 31]");
  const CaseData data(mask, score, 3);
  const Step step = step_with(data);
  ASSERT_EQ(step.tables.size(), 1u);
  EXPECT_EQ(step.tables[0].name, "doc");
  EXPECT_EQ(step.tables[0].shape, std::vector<int64_t>{97});
  ASSERT_EQ(step.scalars.size(), 2u);
  EXPECT_FALSE(step.scalars[0].is_real);
  EXPECT_TRUE(step.scalars[1].is_real);
  ASSERT_EQ(data.real_tables().size(), 2u);
  EXPECT_EQ(data.real_tables()[0].name, "slope");
  EXPECT_EQ(data.real_tables()[1].shape, (std::vector<int64_t>{4, 31}));
}

TEST(CaseData, DependsOnSeedAndNameOnly) {
  const Mask one = mask_from_text("doc[q % 97] > 3"),
             two = mask_from_text("step[q % 7] > 1 or doc[k % 97] > 3");
  const CaseData a(one, {}, 3), b(two, {}, 3), c(one, {}, 4);
  const auto values = [](const CaseData& data, size_t index) {
    const IntegerTable table = step_with(data).tables[index];
    const auto* first = static_cast<const int32_t*>(table.data);
    return std::vector<int32_t>(first, first + table.shape[0]);
  };
  EXPECT_EQ(values(a, 0), values(b, 1));
  EXPECT_NE(values(a, 0), values(c, 0));
}

TEST(CaseData, RefusesTablesItDoesNotKnow) {
  EXPECT_THROW(CaseData(mask_from_text("mine[q] > 0"), {}, 1), InvalidArgument);
  EXPECT_THROW(CaseData(mask_from_text("doc[q % 9, k % 9] > 0"), {}, 1), InvalidArgument);
}

}  // namespace
}  // namespace tilewise::verify
