// SPDX-License-Identifier: Apache-2.0
#include "io/array.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <limits>

#include "support/sanitizers.h"
#include "tilewise/error.h"

namespace tilewise::io {
namespace {

TEST(Array, KnowsTheTypesOfTheFormat) {
  EXPECT_EQ(element_bytes("F64"), 8);
  EXPECT_EQ(element_bytes("F32"), 4);
  EXPECT_EQ(element_bytes("BF16"), 2);
  EXPECT_EQ(element_bytes("F16"), 2);
  EXPECT_EQ(element_bytes("BOOL"), 1);
  EXPECT_EQ(element_bytes("F8_E4M3"), 1);
  EXPECT_EQ(element_bytes("F4"), 0);
  EXPECT_EQ(element_bytes("f32"), 0);
  EXPECT_EQ(element_bytes(""), 0);
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kFloat64}) {
    EXPECT_EQ(float_dtype(type_name(dtype)), dtype);
    EXPECT_EQ(element_bytes(type_name(dtype)), dtype_bytes(dtype));
  }
  EXPECT_FALSE(float_dtype("I32"));
  EXPECT_FALSE(float_dtype("F8_E5M2"));
}

TEST(Array, CountsElementsAndBytes) {
  const Array array("F64", {2, 3, 5});
  EXPECT_EQ(array.elements(), 30);
  EXPECT_EQ(array.bytes(), 240);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(array.data()) % 64, 0u);
  EXPECT_EQ(Array("I8", {}).elements(), 1);
  EXPECT_EQ(Array("F32", {4, 0, 9}).bytes(), 0);
  EXPECT_EQ(shape_text({1, 4, 1024, 64}), "[1, 4, 1024, 64]");
  EXPECT_EQ(shape_text({}), "[]");
}

TEST(Array, RefusesWhatItCannotHold) {
  const int64_t most = std::numeric_limits<int64_t>::max();
  EXPECT_THROW(Array("F4", {2}), InvalidArgument);
  EXPECT_THROW(Array("F32", {-1}), InvalidArgument);
  EXPECT_THROW(Array("F32", {most, 2}), InvalidArgument);
  EXPECT_THROW(Array("F32", {most / 4 + 1}), InvalidArgument);
  EXPECT_THROW(Array("I8", {most}), InvalidArgument);
}

TEST(Array, MemoryThatIsNotThereIsADeviceError) {
  if (test::kSanitizer)
    GTEST_SKIP() << "the sanitizer's allocator ends the process instead of returning null";
  EXPECT_THROW(Array("F32", {int64_t{1} << 58}), DeviceError);
}

TEST(Array, ViewsAsAttentionTensor) {
  const Tensor four = Array(DType::kFloat16, {2, 3, 5, 7}).tensor();
  EXPECT_EQ(four.dtype, DType::kFloat16);
  EXPECT_EQ(four.shape[3], 7);
  EXPECT_EQ(four.strides[0], 105);
  EXPECT_EQ(four.strides[3], 1);
  const Tensor three = Array(DType::kFloat32, {2, 3, 5}).tensor();
  EXPECT_EQ(three.shape[2], 5);
  EXPECT_EQ(three.shape[3], 1);
  EXPECT_THROW((void)Array("I32", {1, 1, 1, 1}).tensor(), InvalidArgument);
  EXPECT_THROW((void)Array("F32", {1, 1}).tensor(), InvalidArgument);
}

// 1 + 2^-8 is halfway between two bfloat16 and exact in float16; 65520 rounds to infinity in
// float16.
TEST(Array, ConvertsWithOneRounding) {
  Array source(DType::kFloat32, {4});
  const float values[4] = {1.0f, 1.00390625f, -2.5f, 65520.0f};
  std::memcpy(source.data(), values, sizeof values);

  const Array narrow = convert(source, DType::kBFloat16);
  const uint16_t expected_bf16[4] = {0x3f80, 0x3f80, 0xc020, 0x4780};
  EXPECT_EQ(narrow.type(), "BF16");
  EXPECT_EQ(std::memcmp(narrow.data(), expected_bf16, sizeof expected_bf16), 0);

  const Array half = convert(source, DType::kFloat16);
  const uint16_t expected_f16[4] = {0x3c00, 0x3c04, 0xc100, 0x7c00};
  EXPECT_EQ(std::memcmp(half.data(), expected_f16, sizeof expected_f16), 0);

  const Array wide = convert(source, DType::kFloat64);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(static_cast<const double*>(wide.data())[i], values[i]);
  EXPECT_THROW((void)convert(Array("I32", {4}), DType::kFloat32), InvalidArgument);
}

}  // namespace
}  // namespace tilewise::io
