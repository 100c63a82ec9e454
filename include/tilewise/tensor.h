// SPDX-License-Identifier: Apache-2.0
// A non-owning view of an attention tensor. Plain data: kernels and the C ABI use the same layout.
#pragma once

#include <cstdint>

namespace tilewise {

enum class DType : int32_t { kFloat32 = 0, kBFloat16 = 1, kFloat16 = 2, kFloat64 = 3 };

// Axes: [batch, heads, length, dim]. Strides count elements, may be negative or zero on inputs
// (zero broadcasts), and need no order: BHSD, BSHD and packed QKV differ in strides only.
// A tensor with one number per row (logsumexp) has dim 1.
struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kFloat32;
  int64_t shape[4] = {0, 0, 0, 0};
  int64_t strides[4] = {0, 0, 0, 0};

  // Row-major without gaps in the order [batch, heads, length, dim].
  static Tensor bhsd(void* data, DType dtype, int64_t batch, int64_t heads, int64_t length,
                     int64_t dim) noexcept {
    return {data, dtype, {batch, heads, length, dim}, {heads * length * dim, length * dim, dim, 1}};
  }
  // Row-major in the order [batch, length, heads, dim]: what a linear projection produces.
  static Tensor bshd(void* data, DType dtype, int64_t batch, int64_t length, int64_t heads,
                     int64_t dim) noexcept {
    return {data, dtype, {batch, heads, length, dim}, {length * heads * dim, dim, heads * dim, 1}};
  }
};

constexpr int64_t dtype_bytes(DType dtype) noexcept {
  return dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 4 : 2;
}

}  // namespace tilewise
