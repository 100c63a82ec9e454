// SPDX-License-Identifier: Apache-2.0
// Every vocabulary that this CPU runs, and every verb of kernels/cpu/generic, against plain loops.
#include <gtest/gtest.h>

#include <string>

#include "kernels/cpu/supported_vocabularies.h"

namespace tilewise {
namespace {

class Vocabulary : public testing::TestWithParam<const VocabularyChecks*> {};

TEST_P(Vocabulary, Operations) { EXPECT_STREQ(GetParam()->operations(), ""); }
TEST_P(Vocabulary, Transpose) { EXPECT_STREQ(GetParam()->transpose(), ""); }
TEST_P(Vocabulary, Conversions) { EXPECT_STREQ(GetParam()->conversions(), ""); }
TEST_P(Vocabulary, Exp2) { EXPECT_STREQ(GetParam()->exp2(), ""); }
TEST_P(Vocabulary, Products) { EXPECT_STREQ(GetParam()->products(), ""); }
TEST_P(Vocabulary, Visible) { EXPECT_STREQ(GetParam()->visible(), ""); }
TEST_P(Vocabulary, Packing) { EXPECT_STREQ(GetParam()->packing(), ""); }
TEST_P(Vocabulary, ColdPathGivesTheSameBits) { EXPECT_STREQ(GetParam()->cold_path(), ""); }
TEST_P(Vocabulary, Dropout) { EXPECT_STREQ(GetParam()->dropout(), ""); }
TEST_P(Vocabulary, Elementary) { EXPECT_STREQ(GetParam()->elementary(), ""); }

INSTANTIATE_TEST_SUITE_P(All, Vocabulary, testing::ValuesIn(supported_vocabularies()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace tilewise
