// SPDX-License-Identifier: Apache-2.0
// All 65536 patterns of both 16-bit formats, against values computed with ldexp from the definition
// of the format, and every rounding boundary between neighbours.
#include "base/dtype.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

namespace tilewise {
namespace {

struct Format {
  DType dtype;
  int mantissa_bits;
  int exponent_bits;
  [[nodiscard]] uint16_t infinity() const {
    return static_cast<uint16_t>(((1 << exponent_bits) - 1) << mantissa_bits);
  }
  // The value by definition of IEEE 754; bits is finite and positive. infinity() itself gives the
  // power of two that would follow the largest number: the value that decides overflow.
  [[nodiscard]] double value(uint16_t bits) const {
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const int exponent = bits >> mantissa_bits;
    const int fraction = bits & ((1 << mantissa_bits) - 1);
    return exponent == 0
               ? std::ldexp(fraction, 1 - bias - mantissa_bits)
               : std::ldexp(fraction + (1 << mantissa_bits), exponent - bias - mantissa_bits);
  }
};

constexpr Format kFormats[] = {{DType::kBFloat16, 7, 8}, {DType::kFloat16, 10, 5}};

uint16_t from_double(const Format& format, double value) {
  uint16_t bits = 0;
  store_element(&bits, format.dtype, 0, value);
  return bits;
}

uint16_t from_float(const Format& format, float value) {
  return format.dtype == DType::kBFloat16 ? float_to_bfloat16(value) : float_to_float16(value);
}

float to_float(const Format& format, uint16_t bits) {
  return format.dtype == DType::kBFloat16 ? bfloat16_to_float(bits) : float16_to_float(bits);
}

TEST(DType, EveryPatternWidensToItsValue) {
  for (const Format& format : kFormats) {
    for (int pattern = 0; pattern < 65536; ++pattern) {
      const uint16_t bits = static_cast<uint16_t>(pattern);
      const uint16_t magnitude = bits & 0x7fff;
      const bool is_negative = bits != magnitude;
      const float widened = to_float(format, bits);
      const double loaded = load_element(&bits, format.dtype, 0);
      if (magnitude > format.infinity()) {
        ASSERT_TRUE(std::isnan(widened) && std::isnan(loaded)) << std::hex << pattern;
      } else {
        const double expected = magnitude == format.infinity()
                                    ? std::numeric_limits<double>::infinity()
                                    : format.value(magnitude);
        ASSERT_EQ(widened, is_negative ? -expected : expected) << std::hex << pattern;
        ASSERT_EQ(loaded, is_negative ? -expected : expected) << std::hex << pattern;
      }
      ASSERT_EQ(std::signbit(widened), is_negative) << std::hex << pattern;
    }
  }
}

TEST(DType, EveryPatternSurvivesTheRoundTrip) {
  for (const Format& format : kFormats) {
    for (int pattern = 0; pattern < 65536; ++pattern) {
      const uint16_t bits = static_cast<uint16_t>(pattern);
      const uint16_t back = from_float(format, to_float(format, bits));
      const uint16_t back_from_double = from_double(format, load_element(&bits, format.dtype, 0));
      if ((bits & 0x7fff) > format.infinity()) {
        ASSERT_TRUE(std::isnan(to_float(format, back))) << std::hex << pattern;
        ASSERT_TRUE(std::isnan(to_float(format, back_from_double))) << std::hex << pattern;
      } else {
        ASSERT_EQ(back, bits);
        ASSERT_EQ(back_from_double, bits);
      }
    }
  }
}

// Between neighbours a < b: up to the midpoint is a, from the midpoint on is b, and the midpoint
// itself goes to the even one. The midpoints are exact in float, so floats meet them too.
TEST(DType, EveryBoundaryRoundsToNearestEven) {
  for (const Format& format : kFormats) {
    for (uint16_t a = 0; a < format.infinity(); ++a) {
      const uint16_t b = static_cast<uint16_t>(a + 1);
      const uint16_t even = a % 2 == 0 ? a : b;
      const double middle = (format.value(a) + format.value(b)) / 2;
      const float middle_float = static_cast<float>(middle);
      ASSERT_EQ(static_cast<double>(middle_float), middle);
      for (const uint16_t sign : {0x0000, 0x8000}) {
        const double s = sign == 0 ? 1 : -1;
        const float s_float = static_cast<float>(s);
        ASSERT_EQ(from_double(format, s * middle), sign | even) << std::hex << a;
        ASSERT_EQ(from_double(format, s * std::nextafter(middle, 0.0)), sign | a) << std::hex << a;
        ASSERT_EQ(from_double(format, s * std::nextafter(middle, double{INFINITY})), sign | b)
            << std::hex << a;
        ASSERT_EQ(from_float(format, s_float * middle_float), sign | even) << std::hex << a;
        ASSERT_EQ(from_float(format, s_float * std::nextafterf(middle_float, 0.0F)), sign | a)
            << std::hex << a;
        ASSERT_EQ(from_float(format, s_float * std::nextafterf(middle_float, INFINITY)), sign | b)
            << std::hex << a;
      }
    }
  }
}

TEST(DType, DoubleIsRoundedOnceNotThroughFloat) {
  // 1 + half an ulp of fp16 + 2^-40: float would lose the last term and then round to even, down.
  EXPECT_EQ(from_double(kFormats[1], 1 + 0x1p-11 + 0x1p-40), 0x3c01);
  EXPECT_EQ(from_double(kFormats[0], 1 + 0x1p-8 + 0x1p-40), 0x3f81);
}

TEST(DType, ExtremesBecomeInfinityAndZeroWithTheirSign) {
  for (const Format& format : kFormats) {
    for (double huge : {1e300, std::numeric_limits<double>::infinity()}) {
      EXPECT_EQ(from_double(format, huge), format.infinity());
      EXPECT_EQ(from_double(format, -huge), 0x8000 | format.infinity());
    }
    for (double tiny : {5e-324, 1e-300, 1e-60}) {
      EXPECT_EQ(from_double(format, tiny), 0);
      EXPECT_EQ(from_double(format, -tiny), 0x8000);
    }
    EXPECT_EQ(from_double(format, -0.0), 0x8000);
  }
}

TEST(DType, NanWithAPayloadThatDoesNotFitStaysNan) {
  const double nan = std::bit_cast<double>(uint64_t{0xfff0000000000001});
  const float nan_float = std::bit_cast<float>(uint32_t{0x7f800001});
  for (const Format& format : kFormats) {
    EXPECT_GT(from_double(format, nan) & 0x7fff, format.infinity());
    EXPECT_GT(from_double(format, nan), 0x8000);
    EXPECT_GT(from_float(format, nan_float) & 0x7fff, format.infinity());
  }
}

TEST(DType, WideTypesAreStoredAndLoadedByIndex) {
  float floats[2] = {};
  double doubles[2] = {};
  store_element(floats, DType::kFloat32, 1, 1 + 0x1p-24 + 0x1p-50);
  store_element(doubles, DType::kFloat64, 1, 0.1);
  EXPECT_EQ(floats[0], 0);
  EXPECT_EQ(floats[1], 1 + 0x1p-23F);
  EXPECT_EQ(load_element(floats, DType::kFloat32, 1), 1 + 0x1p-23);
  EXPECT_EQ(load_element(doubles, DType::kFloat64, 1), 0.1);
}

TEST(DType, NamesGoBothWays) {
  for (const auto& [dtype, name] : {std::pair{DType::kFloat32, "fp32"},
                                    {DType::kBFloat16, "bf16"},
                                    {DType::kFloat16, "fp16"},
                                    {DType::kFloat64, "fp64"}}) {
    DType found{};
    EXPECT_STREQ(dtype_name(dtype), name);
    EXPECT_TRUE(dtype_from_name(name, found));
    EXPECT_EQ(found, dtype);
  }
  DType untouched = DType::kFloat16;
  EXPECT_FALSE(dtype_from_name("float", untouched));
  EXPECT_EQ(untouched, DType::kFloat16);
}

}  // namespace
}  // namespace tilewise
