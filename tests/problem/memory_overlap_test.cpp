// SPDX-License-Identifier: Apache-2.0
#include "problem/memory_overlap.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <limits>
#include <set>
#include <vector>

#include "base/random.h"

namespace tilewise {
namespace {

alignas(64) std::byte memory[1 << 16];

Tensor random_tensor(Random& random) {
  Tensor tensor;
  tensor.dtype = static_cast<DType>(random.between(0, 3));
  tensor.data = memory + (1 << 15) + dtype_bytes(tensor.dtype) * random.between(-40, 40);
  for (int axis = 0; axis < 4; ++axis) {
    tensor.shape[axis] = random.between(1, 4);
    tensor.strides[axis] = random.between(-24, 24);
  }
  return tensor;
}

// Offsets in bytes of every element, one by one.
std::vector<int64_t> element_bytes(const Tensor& t) {
  std::vector<int64_t> offsets;
  const int64_t size = dtype_bytes(t.dtype);
  const int64_t start = static_cast<std::byte*>(t.data) - memory;
  for (int64_t b = 0; b < t.shape[0]; ++b) {
    for (int64_t h = 0; h < t.shape[1]; ++h) {
      for (int64_t n = 0; n < t.shape[2]; ++n) {
        for (int64_t i = 0; i < t.shape[3]; ++i) {
          offsets.push_back(start + size * (b * t.strides[0] + h * t.strides[1] + n * t.strides[2] +
                                            i * t.strides[3]));
        }
      }
    }
  }
  return offsets;
}

std::set<int64_t> touched(const Tensor& tensor) {
  std::set<int64_t> bytes;
  for (const int64_t offset : element_bytes(tensor)) {
    for (int64_t i = 0; i < dtype_bytes(tensor.dtype); ++i) bytes.insert(offset + i);
  }
  return bytes;
}

TEST(MemoryOverlap, ByteRangeIsTight) {
  Random random(1);
  for (int repeat = 0; repeat < 2000; ++repeat) {
    const Tensor tensor = random_tensor(random);
    const std::set<int64_t> bytes = touched(tensor);
    ByteRange range;
    ASSERT_TRUE(byte_range(tensor, range));
    const auto origin = static_cast<int64_t>(reinterpret_cast<uintptr_t>(memory));
    EXPECT_EQ(range.begin - origin, *bytes.begin());
    EXPECT_EQ(range.end - origin, *bytes.rbegin() + 1);
  }
}

TEST(MemoryOverlap, SelfAliasingIsExact) {
  Random random(2);
  int aliased = 0;
  for (int repeat = 0; repeat < 5000; ++repeat) {
    const Tensor tensor = random_tensor(random);
    const std::vector<int64_t> offsets = element_bytes(tensor);
    const bool expected = std::set<int64_t>(offsets.begin(), offsets.end()).size() < offsets.size();
    ASSERT_EQ(aliases_itself(tensor), expected);
    aliased += expected;
  }
  EXPECT_GT(aliased, 500);
  EXPECT_LT(aliased, 4500);
}

TEST(MemoryOverlap, SharingIsExact) {
  Random random(3);
  int interleaved = 0;
  for (int repeat = 0; repeat < 5000; ++repeat) {
    const Tensor a = random_tensor(random);
    const Tensor b = random_tensor(random);
    const std::set<int64_t> bytes = touched(a);
    bool expected = false;
    for (const int64_t byte : touched(b)) expected = expected || bytes.count(byte) != 0;
    ASSERT_EQ(share_memory(a, b), expected);
    ByteRange range_a;
    ByteRange range_b;
    ASSERT_TRUE(byte_range(a, range_a) && byte_range(b, range_b));
    interleaved += !expected && range_a.begin < range_b.end && range_b.begin < range_a.end;
  }
  EXPECT_GT(interleaved, 100);
}

// [batch, length, (query heads + 2 kv heads) * dim] in one buffer, at the size of a real model.
TEST(MemoryOverlap, PackedQkvIsDisjoint) {
  const int64_t row = (32 + 2 * 8) * 128;
  auto* base = reinterpret_cast<std::byte*>(uintptr_t{1} << 32);
  const auto part = [&](int64_t head, int64_t heads) {
    return Tensor{
        base + head * 128 * 2, DType::kBFloat16, {4, heads, 8192, 128}, {8192 * row, 128, row, 1}};
  };
  const Tensor q = part(0, 32);
  const Tensor k = part(32, 8);
  const Tensor v = part(40, 8);
  EXPECT_FALSE(share_memory(q, k));
  EXPECT_FALSE(share_memory(k, v));
  EXPECT_FALSE(share_memory(v, q));
  EXPECT_FALSE(aliases_itself(q));
  EXPECT_TRUE(share_memory(part(0, 33), k));
}

TEST(MemoryOverlap, OffsetsOutsideTheAddressSpaceAreFound) {
  ByteRange range;
  const int64_t huge = std::numeric_limits<int64_t>::max();
  for (const int64_t stride : {huge, -huge, huge / 8, int64_t{1} << 61, -(int64_t{1} << 40)}) {
    const Tensor tensor = {memory, DType::kFloat32, {1, 1, 3, 1000}, {1, 1, stride, 1}};
    EXPECT_EQ(
        byte_range(tensor, range),
        stride == -(int64_t{1} << 40) && reinterpret_cast<uintptr_t>(memory) >= uintptr_t{1} << 43)
        << stride;
  }
}

TEST(MemoryOverlap, HostileStridesEndInBoundedTime) {
  // Coprime strides with long axes: a knapsack. Any answer but a hang is right; sharing is safe.
  const Tensor a = {memory,
                    DType::kFloat32,
                    {1000003, 999983, 1000033, 1000037},
                    {1000000007, 998244353, 1000000009, 999999937}};
  (void)aliases_itself(a);
  (void)share_memory(a, a);
  EXPECT_TRUE(share_memory(a, a));
}

}  // namespace
}  // namespace tilewise
