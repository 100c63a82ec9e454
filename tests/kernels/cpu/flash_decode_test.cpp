// SPDX-License-Identifier: Apache-2.0
// The kernel for few queries where it differs from the forward: rows of a group, chunks, their
// merging.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "support/attention_data.h"
#include "tilewise/attention.h"
#include "verify/experiment.h"

namespace tilewise::test {
namespace {

void expect_within_bound(const std::string& line) {
  verify::Experiment experiment(verify::case_from_text(line));
  for (const std::string& isa : available_isas())
    for (int threads : {1, 3})
      EXPECT_EQ(experiment.run(isa, threads, false).failure, "") << isa << ": " << line;
}

TEST(FlashDecode, RowsOfAGroupInEveryNumber) {
  for (const char* heads : {"hq=1 hkv=1", "hq=2 hkv=1", "hq=3 hkv=1", "hq=8 hkv=2", "hq=8 hkv=1"})
    for (const char* queries : {"n=1", "n=2", "n=5", "n=16"})
      for (const char* dims : {"d=64 e=64", "d=37 e=81"})
        expect_within_bound(std::string(heads) + " " + queries + " m=1300 mask=causal " + dims);
}

TEST(FlashDecode, EveryDTypeAndChunkEdge) {
  for (const char* dtype : {"fp32", "bf16", "fp16", "fp64"})
    for (int keys : {1, 7, 63, 64, 65, 1023, 1024, 1025, 2047, 2048, 2049, 3073})
      expect_within_bound("hq=4 hkv=2 n=2 d=32 e=48 mask=causal dtype=" + std::string(dtype) +
                          " m=" + std::to_string(keys));
}

TEST(FlashDecode, ChunksThatNoQuerySees) {
  for (const char* mask : {"window:10,0", "window:1100,0", "window:0,0", "window:1024,5"})
    expect_within_bound("hq=2 hkv=1 n=3 m=4000 d=16 e=16 mask=" + std::string(mask));
  expect_within_bound("n=3 m=4000 d=16 e=16 mask=causal-top-left qoff=20 koff=100");  // none at all
  expect_within_bound("n=3 m=4000 d=16 e=16 mask=causal-top-left qoff=2000 koff=10");
}

TEST(FlashDecode, MaximaThatGrowFallOrAreHuge) {
  for (const char* values : {"growing", "falling", "huge", "large", "constant", "tiny"})
    for (const char* dtype : {"fp32", "bf16"})
      expect_within_bound("hq=4 hkv=2 n=3 m=3000 d=24 e=24 mask=causal values=" +
                          std::string(values) + " dtype=" + dtype);
}

TEST(FlashDecode, BiasOfEveryShape) {
  for (const char* bias : {"k", "nk", "hk", "hnk", "bhnk"})
    expect_within_bound("b=2 hq=4 hkv=2 n=3 m=2100 d=24 e=24 biasinf=0.3 bias=" +
                        std::string(bias));
}

TEST(FlashDecode, NaNInAKeyReachesExactlyTheRowsThatSeeIt) {
  const std::string line = "hq=4 hkv=2 n=4 m=2100 d=24 e=40 mask=causal dtype=";
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  for (const std::string& isa : available_isas())
    for (const char* dtype : {"fp32", "bf16"})
      for (const int64_t dim : {7, 39}) {
        AttentionData plain(line + dtype), damaged(line + dtype);
        plain.run_forward(isa, 2);
        damaged.v.set(0, 1, 2098, dim, kNaN);  // heads 2 and 3; queries 2 and 3 see it
        damaged.k.set(0, 0, 2099, 3, kNaN);    // heads 0 and 1; query 3 alone
        damaged.run_forward(isa, 2);
        for (int64_t h = 0; h < 4; ++h)
          for (int64_t i = 0; i < 4; ++i) {
            const bool sees = h < 2 ? i == 3 : i >= 2;
            if (!sees) {
              EXPECT_EQ(damaged.o.row_bits(0, h, i), plain.o.row_bits(0, h, i)) << isa << h << i;
              EXPECT_EQ(damaged.lse.row_bits(0, h, i), plain.lse.row_bits(0, h, i))
                  << isa << h << i;
            } else {
              EXPECT_TRUE(std::isnan(damaged.o.get(0, h, i, dim))) << isa << h << i;
            }
          }
      }
}

TEST(FlashDecode, WhatTheWorkspaceHeldDoesNotMatter) {
  const std::string line = "b=2 hq=4 hkv=2 n=2 m=2500 d=24 e=24 mask=causal";
  for (const std::string& isa : available_isas()) {
    AttentionData ones(line), zeros(line);
    ones.run_forward(isa, 2, 0xff);
    zeros.run_forward(isa, 2, 0);
    EXPECT_EQ(ones.o.bits(), zeros.o.bits()) << isa;
    EXPECT_EQ(ones.lse.bits(), zeros.lse.bits()) << isa;
  }
}

}  // namespace
}  // namespace tilewise::test
