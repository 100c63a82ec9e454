// SPDX-License-Identifier: Apache-2.0
// Two ways to say the same thing.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "support/attention_data.h"
#include "tilewise/attention.h"

namespace tilewise::test {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

void expect_near(const Buffer& a, const Buffer& b, double tolerance, const std::string& what) {
  const auto x = a.values(), y = b.values();
  ASSERT_EQ(x.size(), y.size()) << what;
  for (size_t n = 0; n < x.size(); ++n) ASSERT_NEAR(x[n], y[n], tolerance) << what << " " << n;
}

// Values and gradients here are of order 1: a few thousand ulp of float32 would be a wrong formula.
constexpr double kTolerance = 2e-5;

TEST(Equivalences, AConstantAddedToARowOfScoresChangesNothingButLse) {
  for (const std::string& isa : available_isas()) {
    const std::string line = "hq=2 hkv=2 n=40 m=70 d=32 e=32 mask=causal bias=nk";
    AttentionData plain(line), shifted(line);
    for (int64_t i = 0; i < 40; ++i)
      for (int64_t j = 0; j < 70; ++j)
        shifted.bias.set(0, 0, i, j, plain.bias.get(0, 0, i, j) + 0.5 * double(i) - 7);
    plain.run(isa);
    shifted.run(isa);
    expect_near(shifted.o, plain.o, kTolerance, isa + " output");
    expect_near(shifted.dq, plain.dq, kTolerance, isa + " grad_query");
    expect_near(shifted.dk, plain.dk, kTolerance, isa + " grad_key");
    expect_near(shifted.dv, plain.dv, kTolerance, isa + " grad_value");
    for (int64_t i = 0; i < 40; ++i) {
      EXPECT_NEAR(shifted.lse.get(0, 1, i, 0), plain.lse.get(0, 1, i, 0) + 0.5 * double(i) - 7,
                  kTolerance);
    }
  }
}

TEST(Equivalences, CausalIsABiasOfMinusInfinity) {
  for (const std::string& isa : available_isas()) {
    const std::string shape = "hq=2 hkv=1 n=70 m=90 d=32 e=48";
    AttentionData masked(shape + " mask=causal"), biased(shape + " bias=nk");
    for (int64_t i = 0; i < 70; ++i)
      for (int64_t j = 0; j < 90; ++j)
        biased.bias.set(0, 0, i, j, j - i - 20 <= 0 ? 0 : -kInfinity);
    masked.run(isa);
    biased.run(isa);
    expect_near(biased.o, masked.o, kTolerance, isa + " output");
    expect_near(biased.lse, masked.lse, kTolerance, isa + " logsumexp");
    expect_near(biased.dq, masked.dq, kTolerance, isa + " grad_query");
    expect_near(biased.dk, masked.dk, kTolerance, isa + " grad_key");
    expect_near(biased.dv, masked.dv, kTolerance, isa + " grad_value");
  }
}

TEST(Equivalences, MasksThatMeanTheSameHaveTheSameBits) {
  for (const std::string& isa : available_isas()) {
    const std::string shape = "n=90 m=90 d=32 e=32 mask=";
    AttentionData bottom(shape + "causal"), top(shape + "causal-top-left"),
        wide(shape + "window:90,0");
    AttentionData none(shape + "none"), all(shape + "window:90,90");
    for (AttentionData* x : {&bottom, &top, &wide, &none, &all}) x->run(isa);
    EXPECT_EQ(differences(bottom, top), "") << isa;
    EXPECT_EQ(differences(bottom, wide), "") << isa;
    EXPECT_EQ(differences(none, all), "") << isa;
  }
}

TEST(Equivalences, GlobalOffsetsMoveTheTopLeftMask) {
  for (const std::string& isa : available_isas()) {
    const std::string shape = "n=50 m=80 d=32 e=32";
    AttentionData offset(shape + " mask=causal-top-left qoff=37 koff=7"),
        aligned(shape + " mask=causal");
    offset.run(isa);  // 7 + k <= 37 + q is k - q <= 30 = kv_length - query_length
    aligned.run(isa);
    EXPECT_EQ(differences(offset, aligned), "") << isa;
  }
}

TEST(Equivalences, GroupedHeadsAreRepeatedKeysAndValues) {
  for (const std::string& isa : available_isas()) {
    for (const std::string dtype : {" dtype=fp32", " dtype=bf16"}) {
      const std::string tail = " n=65 m=70 d=40 e=24 mask=causal" + dtype;
      AttentionData grouped("b=2 hq=6 hkv=2" + tail), repeated("b=2 hq=6 hkv=6" + tail);
      for (int64_t b = 0; b < 2; ++b)
        for (int64_t h = 0; h < 6; ++h)
          for (int64_t j = 0; j < 70; ++j) {
            for (int64_t c = 0; c < 40; ++c)
              repeated.k.set(b, h, j, c, grouped.k.get(b, h / 3, j, c));
            for (int64_t c = 0; c < 24; ++c)
              repeated.v.set(b, h, j, c, grouped.v.get(b, h / 3, j, c));
          }
      grouped.run(isa);
      repeated.run(isa);
      EXPECT_EQ(grouped.o.bits(), repeated.o.bits()) << isa << dtype;
      EXPECT_EQ(grouped.lse.bits(), repeated.lse.bits()) << isa << dtype;
      EXPECT_EQ(grouped.dq.bits(), repeated.dq.bits()) << isa << dtype;
      const double tolerance = dtype == " dtype=fp32" ? kTolerance : 0.05;
      for (int64_t j = 0; j < 70; ++j)
        for (int64_t c = 0; c < 24; ++c) {
          double sum = 0;
          for (int64_t h = 0; h < 3; ++h) sum += repeated.dv.get(1, 3 + h, j, c);
          EXPECT_NEAR(grouped.dv.get(1, 1, j, c), sum, tolerance) << isa << dtype;
        }
    }
  }
}

TEST(Equivalences, RotatingKeysAndValuesTogetherChangesNothing) {
  for (const std::string& isa : available_isas()) {
    const std::string line = "n=40 m=130 d=32 e=32";
    AttentionData plain(line), rotated(line);
    for (int64_t j = 0; j < 130; ++j)
      for (int64_t c = 0; c < 32; ++c) {
        rotated.k.set(0, 0, (j + 71) % 130, c, plain.k.get(0, 0, j, c));
        rotated.v.set(0, 0, (j + 71) % 130, c, plain.v.get(0, 0, j, c));
      }
    plain.run(isa);
    rotated.run(isa);
    expect_near(rotated.o, plain.o, kTolerance, isa);
    expect_near(rotated.dq, plain.dq, kTolerance, isa);
    for (int64_t j = 0; j < 130; ++j)
      EXPECT_NEAR(rotated.dk.get(0, 0, (j + 71) % 130, 5), plain.dk.get(0, 0, j, 5), kTolerance);
  }
}

TEST(Equivalences, EveryInstructionSetAgreesWithScalar) {
  for (const std::string line : {"hq=2 n=67 m=131 d=64 e=48 mask=causal bias=hk dlse=1",
                                 "n=33 m=70 d=17 e=5 mask=window:9,2"}) {
    AttentionData scalar(line);
    scalar.run("scalar");
    for (const std::string& isa : available_isas()) {
      AttentionData x(line);
      x.run(isa);
      expect_near(x.o, scalar.o, kTolerance, isa);
      expect_near(x.lse, scalar.lse, kTolerance, isa);
      expect_near(x.dq, scalar.dq, kTolerance, isa);
      expect_near(x.dk, scalar.dk, kTolerance, isa);
      expect_near(x.dv, scalar.dv, kTolerance, isa);
      expect_near(x.dbias, scalar.dbias, kTolerance, isa);
    }
  }
}

}  // namespace
}  // namespace tilewise::test
