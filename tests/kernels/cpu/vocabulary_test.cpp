// SPDX-License-Identifier: Apache-2.0
// Every vocabulary that this CPU runs, and every verb of kernels/cpu/generic, against plain loops.
#include <gtest/gtest.h>

#include <vector>

#include "base/cpu_features.h"
#include "kernels/cpu/vocabulary_checks.h"

namespace tilewise {
namespace {

std::vector<const VocabularyChecks*> supported() {
  std::vector<const VocabularyChecks*> list = {&kScalarF32Checks, &kScalarF64Checks};
#if defined(TILEWISE_X86)
  const CpuFeatures& cpu = cpu_features();
  if (cpu.avx2_fma_f16c) list.push_back(&kAvx2F32Checks);
  if (cpu.avx512) list.push_back(&kAvx512F32Checks);
  if (cpu.avx512 && cpu.avx512_bf16) list.push_back(&kAvx512Bf16Checks);
  if (cpu.amx_bf16) list.push_back(&kAmxBf16Checks);
#endif
  return list;
}

class Vocabulary : public testing::TestWithParam<const VocabularyChecks*> {};

TEST_P(Vocabulary, Operations) { EXPECT_STREQ(GetParam()->operations(), ""); }
TEST_P(Vocabulary, Transpose) { EXPECT_STREQ(GetParam()->transpose(), ""); }
TEST_P(Vocabulary, Conversions) { EXPECT_STREQ(GetParam()->conversions(), ""); }
TEST_P(Vocabulary, Exp2) { EXPECT_STREQ(GetParam()->exp2(), ""); }
TEST_P(Vocabulary, Products) { EXPECT_STREQ(GetParam()->products(), ""); }
TEST_P(Vocabulary, Visible) { EXPECT_STREQ(GetParam()->visible(), ""); }
TEST_P(Vocabulary, Packing) { EXPECT_STREQ(GetParam()->packing(), ""); }
TEST_P(Vocabulary, ColdPathGivesTheSameBits) { EXPECT_STREQ(GetParam()->cold_path(), ""); }

INSTANTIATE_TEST_SUITE_P(All, Vocabulary, testing::ValuesIn(supported()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace tilewise
