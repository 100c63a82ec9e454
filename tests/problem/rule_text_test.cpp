// SPDX-License-Identifier: Apache-2.0
// Text of masks and scores: rules with arguments, expressions, and what is neither.
#include <gtest/gtest.h>

#include <functional>

#include "expr/ir.h"
#include "problem/rules.h"
#include "tilewise/error.h"
#include "tilewise/rules.h"

namespace tilewise {
namespace {

TEST(RuleText, TextAndBack) {
  for (const char* text : {"none", "causal", "causal-top-left", "window:0,0", "window:128,7",
                           "longformer:window=512,global=16", "tree", "k <= q and doc[q] == doc[k]",
                           "q - k < window", "swin-shifted:width=56,height=56,window=7,shift=3"}) {
    const Mask mask = mask_from_text(text);
    EXPECT_EQ(mask.text(), text);
    EXPECT_EQ(mask_from_text(mask.text()).text(), text);
  }
  for (const char* text : {"s", "alibi", "softcap:cap=30", "softcap:cap=0.5", "s + bias[h, q, k]"})
    EXPECT_EQ(score_from_text(text).text(), text);
  EXPECT_EQ(mask_from_text("none").expression(), nullptr);
  EXPECT_EQ(score_from_text("s").expression(), nullptr);
}

TEST(RuleText, ArgumentsByPositionByNameAndByDefault) {
  const struct {
    const char* text;
    const char* meaning;
  } kCases[] = {{"@causal", "causal"},
                {"@longformer:window=512,global=16", "longformer:window=512,global=16"},
                {"longformer", "longformer:window=512,global=16"},
                {"longformer:global=3", "longformer:window=512,global=3"},
                {"longformer:9", "longformer:window=9,global=16"},
                {"longformer:9,global=3", "longformer:window=9,global=3"},
                {"longformer:global=3,window=9", "longformer:window=9,global=3"},
                {"window:right=1,left=2", "window:2,1"},
                {"window:007,0", "window:7,0"},
                {"k<q  and(True)", "k < q and True"}};
  for (const auto& c : kCases) EXPECT_EQ(mask_from_text(c.text).text(), c.meaning);
  EXPECT_EQ(score_from_text("softcap").text(), "softcap:cap=50");
  EXPECT_EQ(score_from_text("softcap:1e1").text(), "softcap:cap=10");
}

std::string mask_error(const char* text) {
  try {
    (void)mask_from_text(text);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "no error";
}

TEST(RuleText, WrongArguments) {
  const struct {
    const char* text;
    const char* why;  // after the usage
  } kCases[] = {{"longformer:window=1,window=2", "window is given twice"},
                {"longformer:1,window=2", "window is given twice"},
                {"longformer:global=1,2", "'2' is one too many"},
                {"longformer:1,2,3", "'3' is one too many"},
                {"longformer:w=1", "it has no parameter 'w'"},
                {"longformer:window=", "window must be a number"},
                {"longformer:", "window must be a number"},
                {"longformer:window=1.5", "window must be a number"},
                {"longformer:window= 5", "window must be a number"},
                {"longformer:window=9223372036854775808", "window must be a number"}};
  for (const auto& c : kCases) {
    EXPECT_EQ(mask_error(c.text), std::string("mask_from_text: text is \"") + c.text +
                                      "\", expected longformer:window=512,global=16; " + c.why);
  }
  EXPECT_EQ(mask_error("causal:1"),
            "mask_from_text: text is \"causal:1\", expected causal; '1' is one too many");
  EXPECT_EQ(mask_error("window:1"),
            "mask_from_text: text is \"window:1\", expected window:left,right; right must be "
            "given");
  EXPECT_EQ(mask_error("longformer:window=-1"), "longformer: window is -1, expected 0 or more");
}

TEST(RuleText, WhatIsNoRule) {
  for (const char* text : {"Causal", "@k <= q", "band:1,2", "@", "none:1", " causal"}) {
    EXPECT_EQ(mask_error(text),
              std::string("mask_from_text: text is \"") + text +
                  "\", expected a rule such as causal or window:128,0, or an expression such as "
                  "k <= q; docs/rules.md lists the rules");
  }
  EXPECT_EQ(mask_error("alibi"),
            "mask_from_text: text is \"alibi\", expected a rule such as causal or window:128,0, or "
            "an expression such as k <= q; docs/rules.md lists the rules");
  try {
    (void)score_from_text("causal");
    ADD_FAILURE();
  } catch (const InvalidArgument& error) {
    EXPECT_STREQ(error.what(),
                 "score_from_text: text is \"causal\", expected a rule such as softcap:cap=30, or "
                 "an expression such as s + bias[h, q, k]; docs/rules.md lists the rules");
  }
  EXPECT_EQ(mask_error("k <= "),
            "mask: text at line 1, column 6, is the end of the text, expected a value\n"
            "  k <= \n"
            "       ^");
}

TEST(RuleText, EveryTextCanBePrinted) {
  std::string text = "q < k";
  for (int i = 0; i < 12; ++i) text = "(" + text + ") == (" + text + ")";
  // Each == of two conditions writes its second operand twice.
  EXPECT_EQ(mask_error(text.c_str()),
            "expression: text is longer than 65536 bytes or deeper than 200 levels, expected a "
            "shorter one; put what it enumerates into a table");
}

TEST(RuleText, Usage) {
  EXPECT_EQ(usage_of(*find_rule("causal", false)), "causal");
  EXPECT_EQ(usage_of(*find_rule("window", false)), "window:left,right");
  EXPECT_EQ(usage_of(*find_rule("longformer", false)), "longformer:window=512,global=16");
}

}  // namespace
}  // namespace tilewise
