// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/generic/macros.h"

namespace {

// Bit j of rows[i] becomes bit i of rows[j].
TILEWISE_INLINE void transpose_bits_16(uint16_t (&rows)[16]) {
  const __m256i x = _mm256_loadu_si256((const __m256i*)rows), low = _mm256_set1_epi16(0xff);
  const __m256i bytes = _mm256_permute4x64_epi64(  // low bytes of all rows, then the high ones
      _mm256_packus_epi16(_mm256_and_si256(x, low), _mm256_srli_epi16(x, 8)), 0xd8);
  __m256i shifted = bytes;
  for (int j = 7; j >= 0; --j) {
    const auto bits = static_cast<uint32_t>(_mm256_movemask_epi8(shifted));
    rows[j] = static_cast<uint16_t>(bits);
    rows[j + 8] = static_cast<uint16_t>(bits >> 16);
    shifted = _mm256_add_epi8(shifted, shifted);
  }
}

}  // namespace
