// SPDX-License-Identifier: Apache-2.0
#include "support/attention_data.h"

#include <gtest/gtest.h>

namespace tilewise::test {
namespace {

TEST(Buffer, LayoutsHoldTheSameNumbers) {
  Buffer a(DType::kFloat32, verify::layout_from_text("bhsd"), 2, 3, 4, 5);
  Buffer b(DType::kFloat32, verify::layout_from_text("dshb~s+2"), 2, 3, 4, 5);
  a.fill_normal(1);
  b.copy_from(a);
  EXPECT_EQ(a.bits(), b.bits());
  EXPECT_EQ(a.bits().size(), 2u * 3 * 4 * 5 * 4);
  b.set(1, 2, 3, 4, 9);
  EXPECT_EQ(b.get(1, 2, 3, 4), 9);
  EXPECT_NE(a.bits(), b.bits());
  EXPECT_NE(a.row_bits(1, 2, 3), b.row_bits(1, 2, 3));
  EXPECT_EQ(a.row_bits(1, 2, 2), b.row_bits(1, 2, 2));
}

TEST(AttentionData, DifferencesNameTheOutput) {
  AttentionData a("n=3 m=4 d=2 e=2 bias=nk"), b("n=3 m=4 d=2 e=2 bias=nk");
  EXPECT_EQ(differences(a, b), "");
  b.dk.set(0, 0, 1, 1, 5);
  b.dbias.set(0, 0, 2, 3, 5);
  EXPECT_EQ(differences(a, b), "grad_key grad_bias");
}

TEST(AttentionData, DataDependOnTheSeed) {
  EXPECT_EQ(AttentionData("n=3 m=4 seed=1").k.bits(), AttentionData("n=3 m=4 seed=1").k.bits());
  EXPECT_NE(AttentionData("n=3 m=4 seed=1").k.bits(), AttentionData("n=3 m=4 seed=9").k.bits());
}

}  // namespace
}  // namespace tilewise::test
