// SPDX-License-Identifier: Apache-2.0
#include "schedule/machine.h"

#include <gtest/gtest.h>

namespace tilewise {
namespace {

TEST(Machine, CanBeMadeByHand) {
  Machine machine;
  machine.caches.l2 = 1 << 20;
  EXPECT_EQ(machine.fast_words(4), 1 << 18);
  EXPECT_EQ(machine.fast_words(2), 1 << 19);
}

TEST(Machine, UnknownCachesStillGiveAChoice) {
  EXPECT_EQ(Machine{}.fast_words(4), 65536);
  EXPECT_EQ(Machine{}.l1_bytes(), 32768);
  EXPECT_EQ(Machine{}.l2_bytes(), 262144);
}

TEST(Machine, ThisMachineIsWhatTheProcessMayUse) {
  const Machine machine = this_machine();
  EXPECT_GE(machine.threads, 1);
  EXPECT_EQ(machine.name, cpu_name());
  EXPECT_EQ(machine.features.avx512, cpu_features().avx512);
  EXPECT_EQ(machine.caches.l2, cache_sizes().l2);
  EXPECT_EQ(machine.peak_fp32_gflops, 0) << "facts only: nothing is measured";
}

}  // namespace
}  // namespace tilewise
