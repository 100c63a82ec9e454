// SPDX-License-Identifier: Apache-2.0
// int64 arithmetic that reports overflow instead of wrapping: every offset goes through it once.
#pragma once

#include <cstdint>

namespace tilewise {

[[nodiscard]] inline bool checked_add(int64_t a, int64_t b, int64_t& result) noexcept {
  return !__builtin_add_overflow(a, b, &result);
}
[[nodiscard]] inline bool checked_multiply(int64_t a, int64_t b, int64_t& result) noexcept {
  return !__builtin_mul_overflow(a, b, &result);
}

}  // namespace tilewise
