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
    } kConfiguration = {
        1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    _tile_loadconfig(&kConfiguration);
  }
  TILEWISE_INLINE void end_tiles() { _tile_release(); }

  // From one to the other arithmetic takes subnormal numbers for 0, as tile instructions do. It has
  // to be in a function that is not inlined: compilers move it otherwise.
  TILEWISE_INLINE uint32_t begin_subnormal_is_zero() {
    const uint32_t before = _mm_getcsr();
    _mm_setcsr(before | _MM_FLUSH_ZERO_ON | _MM_DENORMALS_ZERO_ON);
    return before;
  }
  TILEWISE_INLINE void end_subnormal_is_zero(uint32_t before) { _mm_setcsr(before); }

  // GCC's intrinsics do not say that tiles are loaded from memory.
  TILEWISE_INLINE void finish_stores() { __asm__ volatile("" ::: "memory"); }

  // A product A B in `steps` steps of the contracted index. Step i: A is 16 kRowTiles rows of kStep
  // words at a + i * a_step, B is kStep rows of 16 kColumnTiles words at b + i * b_step. Strides
  // and steps in bytes.
  struct TileProduct {
    const void* a;
    int64_t a_stride;
    int64_t a_step;
    const void* b;
    int64_t b_stride;
    int64_t b_step;
    int64_t steps;
  };
  // c (16 kRowTiles, 16 kColumnTiles) = A B, or += where not kFromZero.
  template <bool kFromZero, int kRowTiles = 2, int kColumnTiles = 2>
  TILEWISE_INLINE void multiply_tiles(const TileProduct& x, Real* c, int64_t c_stride) {
    constexpr bool kTwoRows = kRowTiles == 2, kTwoColumns = kColumnTiles == 2;
    char *const c0 = (char*)c, *const c2 = c0 + 16 * c_stride;
    const char *a = (const char*)x.a, *b = (const char*)x.b;
    finish_stores();
    if (kFromZero) {
      _tile_zero(0);
      if (kTwoColumns) _tile_zero(1);
      if (kTwoRows) _tile_zero(2);
      if (kTwoRows && kTwoColumns) _tile_zero(3);
    } else {
      _tile_loadd(0, c0, c_stride);
      if (kTwoColumns) _tile_loadd(1, c0 + 64, c_stride);
      if (kTwoRows) _tile_loadd(2, c2, c_stride);
      if (kTwoRows && kTwoColumns) _tile_loadd(3, c2 + 64, c_stride);
    }
    for (int64_t i = 0; i < x.steps; ++i, a += x.a_step, b += x.b_step) {
      _tile_loadd(4, a, x.a_stride);
      _tile_loadd(6, b, x.b_stride);
      if (kTwoColumns) _tile_loadd(7, b + 64, x.b_stride);
      if (kTwoRows) _tile_loadd(5, a + 16 * x.a_stride, x.a_stride);
      _tile_dpbf16ps(0, 4, 6);
      if (kTwoColumns) _tile_dpbf16ps(1, 4, 7);
      if (kTwoRows) _tile_dpbf16ps(2, 5, 6);
      if (kTwoRows && kTwoColumns) _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c0, c_stride);
    if (kTwoColumns) _tile_stored(1, c0 + 64, c_stride);
    if (kTwoRows) _tile_stored(2, c2, c_stride);
    if (kTwoRows && kTwoColumns) _tile_stored(3, c2 + 64, c_stride);
  }
  // All 16 rows of A are ones, and all 16 rows of the sums lie at the same place: stride 0.
  TILEWISE_INLINE void add_tiles(Real* sums, const Real* b, int64_t steps) {
    static constexpr uint32_t kOnes[kLanes] = {0x3f803f80, 0x3f803f80, 0x3f803f80, 0x3f803f80,
                                               0x3f803f80, 0x3f803f80, 0x3f803f80, 0x3f803f80,
                                               0x3f803f80, 0x3f803f80, 0x3f803f80, 0x3f803f80,
                                               0x3f803f80, 0x3f803f80, 0x3f803f80, 0x3f803f80};
    constexpr int64_t kRow = 2 * kLanes, kRowBytes = kRow * sizeof(Real);
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
