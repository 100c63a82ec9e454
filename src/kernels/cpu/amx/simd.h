// SPDX-License-Identifier: Apache-2.0
// AMX-BF16: tdpbf16ps adds the product of two tiles to a third, 16 times the rate of vdpbf16ps.
// Tiles are loaded from memory and stored to it; all else is done by AVX-512 between them.
#pragma once

#include "kernels/cpu/avx512bf16/simd.h"

namespace {

struct AmxBf16 : Avx512Bf16 {
  static constexpr int kVectors = 2;
  static constexpr int kStep = 16;

  // Eight tiles of 16 rows of 64 bytes: 0 to 3 accumulate, 4 and 5 are A, 6 and 7 are B.
  TILEWISE_INLINE void begin_tiles() {
    static constexpr struct {
      uint8_t palette, start_row, reserved[14];
      uint16_t row_bytes[16];
      uint8_t rows[16];
    } kConfiguration = {1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    _tile_loadconfig(&kConfiguration);
  }
  TILEWISE_INLINE void end_tiles() { _tile_release(); }

  // GCC's intrinsics do not say that tiles are loaded from memory.
  TILEWISE_INLINE void finish_stores() { __asm__ volatile("" ::: "memory"); }

  template <bool kFromZero>
  TILEWISE_INLINE void multiply_tiles(Real* c, const char* a, int64_t a_stride, int64_t a_step,
                                      const Real* b, int64_t steps) {
    constexpr int64_t kRow = 2 * kLanes;  // of b and c
    constexpr int64_t kRowBytes = kRow * sizeof(Real);
    Real* const below = c + 16 * kRow;
    finish_stores();
    if (kFromZero) {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    } else {
      _tile_loadd(0, c, kRowBytes);
      _tile_loadd(1, c + kLanes, kRowBytes);
      _tile_loadd(2, below, kRowBytes);
      _tile_loadd(3, below + kLanes, kRowBytes);
    }
    for (int64_t i = 0; i < steps; ++i) {
      _tile_loadd(4, a, a_stride);
      _tile_loadd(6, b, kRowBytes);
      _tile_loadd(7, b + kLanes, kRowBytes);
      _tile_loadd(5, a + 16 * a_stride, a_stride);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
      a += a_step;
      b += kStep * kRow;
    }
    _tile_stored(0, c, kRowBytes);
    _tile_stored(1, c + kLanes, kRowBytes);
    _tile_stored(2, below, kRowBytes);
    _tile_stored(3, below + kLanes, kRowBytes);
  }
  // All 16 rows of A are ones, and all 16 rows of the sums lie at the same place: stride 0.
  TILEWISE_INLINE void add_tiles(Real* sums, const Real* b, int64_t steps) {
    static constexpr uint32_t kOnes[kLanes] = {
        0x3f803f80, 0x3f803f80, 0x3f803f80, 0x3f803f80, 0x3f803f80, 0x3f803f80,
        0x3f803f80, 0x3f803f80, 0x3f803f80, 0x3f803f80, 0x3f803f80, 0x3f803f80,
        0x3f803f80, 0x3f803f80, 0x3f803f80, 0x3f803f80};
    constexpr int64_t kRow = 2 * kLanes;
    constexpr int64_t kRowBytes = kRow * sizeof(Real);
    finish_stores();
    _tile_loadd(4, kOnes, 0);
    _tile_loadd(0, sums, 0);
    _tile_loadd(1, sums + kLanes, 0);
    for (int64_t i = 0; i < steps; ++i, b += kStep * kRow) {
      _tile_loadd(6, b, kRowBytes);
      _tile_loadd(7, b + kLanes, kRowBytes);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
    }
    _tile_stored(0, sums, 0);
    _tile_stored(1, sums + kLanes, 0);
  }
};

}  // namespace
