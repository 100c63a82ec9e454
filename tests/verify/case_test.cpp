// SPDX-License-Identifier: Apache-2.0
#include "verify/case.h"

#include <gtest/gtest.h>

#include <string>

#include "tilewise/error.h"

namespace tilewise::verify {
namespace {

TEST(Case, ReadsEveryWord) {
  const Case c = case_from_text(
      "b=2 hq=6 hkv=3 n=37 m=101 d=40 e=72 dtype=bf16 mask=window:7,0 scale=0.25 qoff=3 koff=4 "
      "bias=hk biastype=bf16 biasinf=0.5 sink=mixed dlse=1 wideoutput=1 q=bshd k=bhsd~s v=bhsd*h "
      "o=bshd+2 "
      "g=bhds "
      "values=huge nan=key guard=left seed=18446744073709551615");
  EXPECT_EQ(c.batch, 2);
  EXPECT_EQ(c.query_heads, 6);
  EXPECT_EQ(c.kv_heads, 3);
  EXPECT_EQ(c.query_length, 37);
  EXPECT_EQ(c.kv_length, 101);
  EXPECT_EQ(c.head_dim, 40);
  EXPECT_EQ(c.value_dim, 72);
  EXPECT_EQ(c.dtype, DType::kBFloat16);
  EXPECT_EQ(c.mask, "window:7,0");
  EXPECT_EQ(c.scale, 0.25);
  EXPECT_EQ(c.query_offset, 3);
  EXPECT_EQ(c.key_offset, 4);
  EXPECT_EQ(c.bias, "hk");
  EXPECT_EQ(c.bias_dtype, DType::kBFloat16);
  EXPECT_EQ(c.bias_minus_infinity, 0.5);
  EXPECT_EQ(c.sink, Sinks::kMixed);
  EXPECT_TRUE(c.has_grad_logsumexp);
  EXPECT_TRUE(c.has_wide_output);
  EXPECT_FALSE(c.is_packed);
  EXPECT_EQ(c.key.reversed, "s");
  EXPECT_EQ(c.value.broadcast, "h");
  EXPECT_EQ(c.output.gap, 2);
  EXPECT_EQ(c.gradient.order, "bhds");
  EXPECT_EQ(c.values, Values::kHuge);
  EXPECT_EQ(c.not_a_number, NotANumber::kKey);
  EXPECT_EQ(c.flush, Flush::kLeft);
  EXPECT_EQ(c.seed, 18446744073709551615u);
}

TEST(Case, DefaultsAreNotWritten) {
  EXPECT_EQ(case_text(Case()), "");
  EXPECT_EQ(case_text(case_from_text("  n=3   m=1 ")), "n=3");
}

TEST(Case, DropoutHasASeedFromThatOfTheCase) {
  const Case c = case_from_text("dropout=0.25 boff=3 hoff=4 seed=7");
  EXPECT_EQ(c.dropout, 0.25);
  EXPECT_EQ(c.batch_offset, 3);
  EXPECT_EQ(c.head_offset, 4);
  EXPECT_TRUE(dropout_seed(c).has_value());
  EXPECT_NE(dropout_seed(c), dropout_seed(case_from_text("dropout=0.25 seed=8")));
  EXPECT_FALSE(dropout_seed(case_from_text("seed=7")).has_value());
}

TEST(Case, NonsenseIsRefusedWithTheWord) {
  for (const std::string text :
       {"n", "n=", "n=-1", "n=3x", "d=0", "x=1", "dtype=int8", "mask=diagonal", "bias=kb",
        "values=odd", "q=bhs", "dlse=2", "sink=1", "scale=big", "=", "n=99999999999999999999",
        "n=3 m=4 packed=1"}) {
    try {
      (void)case_from_text(text);
      ADD_FAILURE() << text << " was accepted";
    } catch (const InvalidArgument& error) {
      const std::string got = error.what();
      EXPECT_TRUE(got.starts_with("verify: ") || got.starts_with("mask_from_text: ")) << got;
    }
  }
}

}  // namespace
}  // namespace tilewise::verify
