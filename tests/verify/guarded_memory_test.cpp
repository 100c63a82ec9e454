// SPDX-License-Identifier: Apache-2.0
#include "verify/guarded_memory.h"

#include <gtest/gtest.h>

#include <utility>

namespace tilewise::verify {
namespace {

TEST(GuardedMemory, IsPoisonedAndWritable) {
  const GuardedMemory memory(5000, Flush::kRight, 0xab);
  EXPECT_EQ(memory.bytes(), 5000u);
  for (size_t n = 0; n < memory.bytes(); ++n) ASSERT_EQ(memory.data()[n], 0xab);
  memory.data()[0] = memory.data()[4999] = 1;
}

TEST(GuardedMemory, OneByteTooFarIsAFault) {
  const GuardedMemory left(100, Flush::kLeft), right(100, Flush::kRight);
  volatile uint8_t* before = left.data();
  volatile uint8_t* after = right.data();
  EXPECT_DEATH((void)before[-1], "");
  EXPECT_DEATH((void)after[100], "");
}

TEST(GuardedMemory, ReadOnlyMemoryIsAFaultToWrite) {
  GuardedMemory memory(100, Flush::kLeft);
  memory.make_read_only();
  volatile uint8_t* bytes = memory.data();
  EXPECT_EQ(bytes[7], 0xff);
  EXPECT_DEATH(bytes[7] = 0, "");
}

TEST(GuardedMemory, EmptyBlocksHaveAnAddress) {
  GuardedMemory memory(0, Flush::kRight);
  EXPECT_NE(memory.data(), nullptr);
  const GuardedMemory moved = std::move(memory);
  EXPECT_NE(moved.data(), nullptr);
}

}  // namespace
}  // namespace tilewise::verify
