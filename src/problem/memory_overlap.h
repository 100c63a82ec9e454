// SPDX-License-Identifier: Apache-2.0
// Do two strided tensors share a byte? Exact, so that the gradients of a packed QKV buffer may be
// interleaved in one allocation while a real collision is refused.
#pragma once

#include <cstdint>

#include "tilewise/tensor.h"

namespace tilewise {

// Addresses [begin, end) that a tensor may touch.
struct ByteRange {
  int64_t begin = 0;
  int64_t end = 0;
};

[[nodiscard]] inline bool is_empty(const Tensor& tensor) noexcept {
  return tensor.shape[0] == 0 || tensor.shape[1] == 0 || tensor.shape[2] == 0 ||
         tensor.shape[3] == 0;
}

// The range of a tensor that is not empty; false if an offset leaves 62 bits of address space.
// The functions below are for tensors that passed this test.
[[nodiscard]] bool byte_range(const Tensor& tensor, ByteRange& range) noexcept;

// Two indices, one element. Strides too irregular to decide in bounded time count as aliasing.
[[nodiscard]] bool aliases_itself(const Tensor& tensor) noexcept;

// A byte that belongs to both. Undecided in bounded time counts as sharing.
[[nodiscard]] bool share_memory(const Tensor& a, const Tensor& b) noexcept;

}  // namespace tilewise
