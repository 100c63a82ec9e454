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

TEST(CaseData, GivesTheTablesOfRules) {
  const CaseData masks(mask_from_text("shared-prefix"), score_from_text("bucket-bias:reach=15"), 3);
  std::vector<std::string> names;
  for (const IntegerTable& table : step_with(masks).tables) names.push_back(table.name);
  EXPECT_EQ(names, (std::vector<std::string>{"start", "prefix_first", "prefix_last", "bucket"}));
  const CaseData kerple({}, score_from_text("kerple-log"), 3);
  ASSERT_EQ(kerple.real_tables().size(), 2u);
  EXPECT_FALSE(kerple.real_tables()[0].is_at_least_zero);
  EXPECT_EQ(kerple.real_tables()[1].name, "rate");
  EXPECT_TRUE(kerple.real_tables()[1].is_at_least_zero);
  // One name, told apart by its indices.
  const CaseData swin({}, score_from_text("window-bias:width=12"), 3);
  EXPECT_EQ(swin.real_tables()[0].shape, (std::vector<int64_t>{4, 13, 13}));
}

TEST(CaseData, IntegersOfRulesStayInTheirRange) {
  const Mask mask = mask_from_text("joint-text-image");
  for (uint64_t seed = 0; seed < 20; ++seed) {  // sorted ones among them
    const CaseData data(mask, {}, seed);
    for (const IntegerTable& table : step_with(data).tables) {
      const auto* values = static_cast<const int32_t*>(table.data);
      const bool is_image = table.name == "image";
      for (int64_t i = 0; i < (is_image ? 97 : 2 * 97); ++i) {
        ASSERT_GE(values[i], is_image ? -1 : 0) << table.name;
        ASSERT_LE(values[i], is_image ? 3 : 4) << table.name;
      }
    }
  }
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
