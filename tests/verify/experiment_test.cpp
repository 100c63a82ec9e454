// SPDX-License-Identifier: Apache-2.0
// The judge itself: it must pass what is right on every instruction set, and say what is wrong.
#include "verify/experiment.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tilewise/attention.h"

namespace tilewise::verify {
namespace {

TEST(Experiment, EveryInstructionSetPassesOneOfEachKind) {
  for (const char* line : {
           "b=2 hq=6 hkv=3 n=37 m=101 d=40 e=72 mask=causal dlse=1 seed=1",
           "hq=2 hkv=2 n=64 m=64 d=32 e=32 dtype=bf16 packed=1 guard=left seed=2",
           "n=50 m=33 d=17 e=5 dtype=fp16 mask=window:7,3 bias=hnk biasinf=0.3 v=bhsd~s*b seed=3",
           "b=0 n=5 m=5 d=8 e=8",
           "n=9 m=0 d=8 e=8 bias=k",
           "hq=2 n=20 m=70 d=16 e=16 dtype=fp64 mask=window:5,0 nan=unseen g=bshd+1 seed=4",
           // dS is 0; in fp16 what is left of dP - delta is 0 too, in float32 it is not.
           "b=3 hq=3 d=86 e=86 dtype=fp16 bias=bk biastype=fp16 wideoutput=1 values=tiny "
           "q=bdsh v=bshd o=bshd g=bshd seed=1583469651",
       }) {
    Experiment experiment(case_from_text(line));
    for (const std::string& isa : available_isas()) {
      const Verdict verdict = experiment.run(isa, 2);
      EXPECT_EQ(verdict.failure, "") << isa << " " << line;
      EXPECT_GE(verdict.comparisons.size(), 5u);
    }
  }
}

TEST(Experiment, ForwardOnlyJudgesTwoResults) {
  Experiment experiment(case_from_text("n=5 m=9 d=8 e=8"));
  EXPECT_EQ(experiment.run("scalar", 1, false).comparisons.size(), 2u);
}

TEST(Experiment, AnErrorOfTheLibraryIsAFailure) {
  Experiment experiment(case_from_text("n=5 m=9 d=8 e=8"));
  EXPECT_NE(experiment.run("pentium", 1).failure, "");
}

TEST(Comparison, SaysWhereAndByHowMuch) {
  Comparison c;
  c.name = "grad_key";
  c.error.max = 0.5, c.error.rms = 0.1, c.allowed = {0.25, 1};
  c.actual = 1.5, c.expected = 1, c.ulps = 4, c.index[2] = 7;
  EXPECT_FALSE(c.passed());
  EXPECT_NE(c.text().find("grad_key[0,0,7,0] is 1.5, expected 1 (4 ulp)"), std::string::npos);
  c.allowed.max = 1;
  EXPECT_TRUE(c.passed());
  c.allowed.rms = 0.05;
  EXPECT_FALSE(c.passed());
  c.allowed.rms = 1, c.error.misplaced = 3;
  EXPECT_FALSE(c.passed());
}

}  // namespace
}  // namespace tilewise::verify
