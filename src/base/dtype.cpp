// SPDX-License-Identifier: Apache-2.0
#include "base/dtype.h"

#include <algorithm>
#include <bit>

namespace tilewise {
namespace {

// Every narrowing goes through this one function, in integers, so that it rounds once whatever the
// floating-point environment is. float -> double is exact, so floats take the same way.
template <int kMantissaBits, int kExponentBits>
uint16_t round_to_16_bits(double value) noexcept {
  constexpr int kBias = (1 << (kExponentBits - 1)) - 1;
  constexpr uint64_t kInfinity = ((uint64_t{1} << kExponentBits) - 1) << kMantissaBits;
  constexpr uint64_t kDoubleInfinity = uint64_t{0x7ff} << 52;
  constexpr uint64_t kDoubleFraction = (uint64_t{1} << 52) - 1;

  const uint64_t bits = std::bit_cast<uint64_t>(value);
  const uint64_t sign = (bits >> 63) << 15;
  const uint64_t magnitude = bits & ~(uint64_t{1} << 63);
  if (magnitude > kDoubleInfinity) {  // the quiet bit keeps a NaN a NaN when its payload is cut
    const uint64_t payload = (magnitude & kDoubleFraction) >> (52 - kMantissaBits);
    return static_cast<uint16_t>(sign | kInfinity | (uint64_t{1} << (kMantissaBits - 1)) | payload);
  }
  const int exponent = static_cast<int>(magnitude >> 52) - 1023;
  if (exponent > kBias) return static_cast<uint16_t>(sign | kInfinity);

  const uint64_t significand = (uint64_t{1} << 52) | (magnitude & kDoubleFraction);
  const int subnormal_shift = std::max(0, 1 - kBias - exponent);
  const int shift = 52 - kMantissaBits + subnormal_shift;
  if (shift > 53) return static_cast<uint16_t>(sign);  // less than half of the smallest subnormal
  const uint64_t rest = significand & ((uint64_t{1} << shift) - 1);
  const uint64_t half = uint64_t{1} << (shift - 1);
  uint64_t kept = significand >> shift;
  kept += rest > half || (rest == half && (kept & 1) != 0);
  // kept has its leading one at the place of the exponent's last bit, so adding counts it in, and a
  // carry out of the mantissa moves to the next exponent, up to infinity.
  const uint64_t exponent_below = subnormal_shift > 0 ? 0 : exponent + kBias - 1;
  return static_cast<uint16_t>(sign | ((exponent_below << kMantissaBits) + kept));
}

uint16_t double_to_bfloat16(double value) noexcept { return round_to_16_bits<7, 8>(value); }
uint16_t double_to_float16(double value) noexcept { return round_to_16_bits<10, 5>(value); }

}  // namespace

float bfloat16_to_float(uint16_t bits) noexcept {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

uint16_t float_to_bfloat16(float value) noexcept { return double_to_bfloat16(value); }

float float16_to_float(uint16_t bits) noexcept {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1f;
  const uint32_t fraction = bits & 0x3ff;
  if (exponent == 0) {  // zero and subnormals: fraction * 2^-24 is exact in float
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  const uint32_t widened = exponent == 0x1f ? 0xff : exponent + (127 - 15);
  return std::bit_cast<float>(sign | (widened << 23) | (fraction << 13));
}

uint16_t float_to_float16(float value) noexcept { return double_to_float16(value); }

double load_element(const void* data, DType dtype, int64_t index) noexcept {
  switch (dtype) {
    case DType::kFloat32:
      return static_cast<const float*>(data)[index];
    case DType::kBFloat16:
      return bfloat16_to_float(static_cast<const uint16_t*>(data)[index]);
    case DType::kFloat16:
      return float16_to_float(static_cast<const uint16_t*>(data)[index]);
    case DType::kFloat64:
      return static_cast<const double*>(data)[index];
  }
  return 0;
}

void store_element(void* data, DType dtype, int64_t index, double value) noexcept {
  switch (dtype) {
    case DType::kFloat32:
      static_cast<float*>(data)[index] = static_cast<float>(value);
      return;
    case DType::kBFloat16:
      static_cast<uint16_t*>(data)[index] = double_to_bfloat16(value);
      return;
    case DType::kFloat16:
      static_cast<uint16_t*>(data)[index] = double_to_float16(value);
      return;
    case DType::kFloat64:
      static_cast<double*>(data)[index] = value;
      return;
  }
}

const char* dtype_name(DType dtype) noexcept {
  switch (dtype) {
    case DType::kFloat32:
      return "fp32";
    case DType::kBFloat16:
      return "bf16";
    case DType::kFloat16:
      return "fp16";
    case DType::kFloat64:
      return "fp64";
  }
  return "unknown";
}

bool dtype_from_name(const std::string& name, DType& dtype) noexcept {
  for (DType candidate : {DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kFloat64}) {
    if (name == dtype_name(candidate)) {
      dtype = candidate;
      return true;
    }
  }
  return false;
}

}  // namespace tilewise
