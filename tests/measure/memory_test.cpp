// SPDX-License-Identifier: Apache-2.0
#include "measure/memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>

namespace tilewise::measure {
namespace {

TEST(Memory, ReadsALineOfStatus) {
  const std::string text = "Name:\tx\nVmPeak:\t  99 kB\nVmHWM:\t   123 kB\nVmRSS:\t 45 kB\n";
  EXPECT_EQ(status_bytes(text, "VmHWM"), 123 * 1024);
  EXPECT_EQ(status_bytes(text, "VmRSS"), 45 * 1024);
  EXPECT_EQ(status_bytes(text, "Vm"), 0);
  EXPECT_EQ(status_bytes("VmRSS: 7 kB", "VmRSS"), 7 * 1024) << "the first line";
  EXPECT_EQ(status_bytes("", "VmHWM"), 0);
}

TEST(Memory, PeakFollowsTouchedMemoryAndResets) {
  if (resident_bytes() == 0) GTEST_SKIP() << "the system does not tell";
  constexpr int64_t kBytes = 64 << 20;
  const int64_t before = resident_bytes();
  // Straight from the system: an allocator, above all a sanitizer's, would keep it.
  void* touched = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(touched, MAP_FAILED);
  std::memset(touched, 1, kBytes);
  EXPECT_GE(resident_bytes(), before + kBytes * 9 / 10);
  munmap(touched, kBytes);
  EXPECT_GE(peak_resident_bytes(), before + kBytes * 9 / 10);
  if (!reset_peak_resident()) GTEST_SKIP() << "the system does not reset";
  EXPECT_LT(peak_resident_bytes(), before + kBytes / 2) << "it is gone";
}

}  // namespace
}  // namespace tilewise::measure
