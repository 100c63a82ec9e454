// SPDX-License-Identifier: Apache-2.0
// Scalar conversions between the element types. Round to nearest even; NaN stays NaN.
#pragma once

#include <cstdint>
#include <string>

#include "tilewise/tensor.h"

namespace tilewise {

[[nodiscard]] float bfloat16_to_float(uint16_t bits) noexcept;
[[nodiscard]] uint16_t float_to_bfloat16(float value) noexcept;
[[nodiscard]] float float16_to_float(uint16_t bits) noexcept;
[[nodiscard]] uint16_t float_to_float16(float value) noexcept;

// Element i of an array of the dtype, as double, and back (rounded once; double -> 16 bit does not
// round twice).
[[nodiscard]] double load_element(const void* data, DType dtype, int64_t index) noexcept;
void store_element(void* data, DType dtype, int64_t index, double value) noexcept;

[[nodiscard]] const char* dtype_name(DType dtype) noexcept;  // "fp32", "bf16", "fp16", "fp64"
[[nodiscard]] bool dtype_from_name(const std::string& name, DType& dtype) noexcept;

}  // namespace tilewise
