// SPDX-License-Identifier: Apache-2.0
// The vocabulary of AVX-512 (F, BW, DQ, VL): 16 float lanes. What each word must mean is written
// once, in ../scalar/simd.h; only what is particular to AVX-512 is said here.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/avx2/transpose_bits.h"
#include "kernels/cpu/generic/macros.h"

namespace {

struct Avx512F32 {
  using Real = float;
  using Bits = int32_t;
  using Vec = __m512;
  using Mask = __mmask16;
  static constexpr int kLanes = 16;
  static constexpr int kWord = 1;
  static constexpr int kStep = 1;
  static constexpr int kRows = 8;  // 8 x 3 accumulators + 3 vectors of B leave 5 registers: 99 % of
  static constexpr int kVectors = 3;  // the FMA peak in L1, measured; 12x2 and 6x4 are within 1 %

  TILEWISE_INLINE Vec load(const Real* p) { return _mm512_loadu_ps(p); }
  TILEWISE_INLINE void store(Real* p, Vec x) { _mm512_storeu_ps(p, x); }
  TILEWISE_INLINE Vec broadcast(Real x) { return _mm512_set1_ps(x); }
  TILEWISE_INLINE Vec load_bf16(const uint16_t* p) {
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16));
  }
  TILEWISE_INLINE Vec load_fp16(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
  }
  // Without AVX512_BF16: round to nearest even on the integer side, NaN made quiet.
  TILEWISE_INLINE void store_bf16(uint16_t* p, Vec x) {
    const __m512i u = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i r = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    r = _mm512_mask_or_epi32(r, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), u,
                             _mm512_set1_epi32(0x400000));
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16)));
  }
  TILEWISE_INLINE void store_fp16(uint16_t* p, Vec x) {
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
  }

  TILEWISE_INLINE Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
  TILEWISE_INLINE Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
  TILEWISE_INLINE Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
  TILEWISE_INLINE Vec div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
  TILEWISE_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
  TILEWISE_INLINE Vec fms(Vec a, Vec b, Vec c) { return _mm512_fmsub_ps(a, b, c); }
  TILEWISE_INLINE Vec fnma(Vec a, Vec b, Vec c) { return _mm512_fnmadd_ps(a, b, c); }
  TILEWISE_INLINE Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
  TILEWISE_INLINE Vec min(Vec a, Vec b) { return _mm512_min_ps(a, b); }
  TILEWISE_INLINE Vec ceil(Vec x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
  }
  TILEWISE_INLINE Vec times_power_of_two(Vec x, Vec n) { return _mm512_scalef_ps(x, n); }
  TILEWISE_INLINE Vec dot(Vec c, Vec a, Vec b) { return _mm512_fmadd_ps(a, b, c); }

  TILEWISE_INLINE Vec shift_into_exponent(Vec y, Vec t) {
    return _mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_castps_si512(y), _mm512_slli_epi32(_mm512_castps_si512(t), 23)));
  }
  TILEWISE_INLINE Vec or_bits(Vec a, Vec b, Vec c) {
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(
        _mm512_castps_si512(a), _mm512_castps_si512(b), _mm512_castps_si512(c), 0xfe));
  }
  TILEWISE_INLINE bool any_bits(Vec a, Bits bits) {
    return _mm512_test_epi32_mask(_mm512_castps_si512(a), _mm512_set1_epi32(bits)) != 0;
  }

  TILEWISE_INLINE Mask lanes(uint32_t bits) { return static_cast<Mask>(bits); }
  TILEWISE_INLINE Vec select(Mask m, Vec a, Vec b) { return _mm512_mask_blend_ps(m, b, a); }
  TILEWISE_INLINE Mask less(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
  TILEWISE_INLINE Mask equal(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
  TILEWISE_INLINE Mask unordered(Vec a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
  TILEWISE_INLINE Mask both(Mask a, Mask b) { return a & b; }
  TILEWISE_INLINE Mask either(Mask a, Mask b) { return a | b; }
  TILEWISE_INLINE Mask opposite(Mask a) { return static_cast<Mask>(~a); }
  TILEWISE_INLINE bool any(Mask a) { return a != 0; }

  typedef int32_t Ints __attribute__((vector_size(64), aligned(4)));
  TILEWISE_INLINE uint32_t int_less(Ints a, Ints b) {
    return _mm512_cmplt_epi32_mask((__m512i)a, (__m512i)b);
  }
  TILEWISE_INLINE uint32_t int_equal(Ints a, Ints b) {
    return _mm512_cmpeq_epi32_mask((__m512i)a, (__m512i)b);
  }
  TILEWISE_INLINE Ints int_select(uint32_t bits, Ints a, Ints b) {
    return (Ints)_mm512_mask_blend_epi32(lanes(bits), (__m512i)b, (__m512i)a);
  }
  TILEWISE_INLINE Ints gather_ints(const int32_t* p, Ints index) {
    return (Ints)_mm512_i32gather_epi32((__m512i)index, p, 4);
  }
  TILEWISE_INLINE Vec gather_reals(const float* p, Ints index) {
    return _mm512_i32gather_ps((__m512i)index, p, 4);
  }
  TILEWISE_INLINE Vec to_real(Ints x) { return _mm512_cvtepi32_ps((__m512i)x); }
  TILEWISE_INLINE uint32_t bits(Mask m) { return m; }
  TILEWISE_INLINE uint32_t int_below(Ints a, Ints b) {
    return _mm512_cmplt_epu32_mask((__m512i)a, (__m512i)b);
  }
  typedef uint64_t Wide __attribute__((vector_size(64), aligned(8)));
  TILEWISE_INLINE Wide multiply_low(Wide a, Wide b) {
    return (Wide)_mm512_mul_epu32((__m512i)a, (__m512i)b);
  }
  // Not a shift, which would wait for the port of the products.
  TILEWISE_INLINE Wide upper(Wide a) {
    return (Wide)_mm512_shuffle_epi32((__m512i)a, static_cast<_MM_PERM_ENUM>(0xf5));
  }
  TILEWISE_INLINE Wide xor3(Wide a, Wide b, Wide c) {
    return (Wide)_mm512_ternarylogic_epi64((__m512i)a, (__m512i)b, (__m512i)c, 0x96);
  }
  TILEWISE_INLINE Ints low_halves(Wide a, Wide b) {
    const __m512i even =
        _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    return (Ints)_mm512_permutex2var_epi32((__m512i)a, even, (__m512i)b);
  }
  TILEWISE_INLINE void transpose_bits(uint16_t (&rows)[16]) { transpose_bits_16(rows); }
  TILEWISE_INLINE Vec sqrt(Vec x) { return _mm512_sqrt_ps(x); }
  // Division takes 16 cycles, this 5 operations.
  TILEWISE_INLINE Vec reciprocal(Vec x) {
    const Vec y = _mm512_rcp14_ps(x);
    return _mm512_fmadd_ps(y, _mm512_fnmadd_ps(x, y, broadcast(1)), y);
  }
  // table[i], i the low five bits of each number.
  TILEWISE_INLINE Vec look_up_32(const Real* table, Ints index) {
    return _mm512_permutex2var_ps(load(table), (__m512i)index, load(table + 16));
  }

  TILEWISE_INLINE void store_p(Real* p, int row_stride, Vec first, Vec second) {
    store(p, first);
    store(p + row_stride, second);
  }
  TILEWISE_INLINE Vec scale_words(Vec w, Vec f) { return _mm512_mul_ps(w, f); }
  TILEWISE_INLINE Vec hide_masked(Vec a, Vec p) {
    const __mmask16 masked =
        _mm512_cmpeq_epi32_mask(_mm512_castps_si512(p), _mm512_set1_epi32(INT32_MIN));
    return _mm512_mask_mov_ps(a, masked, _mm512_setzero_ps());
  }
  TILEWISE_INLINE Vec keep_sign(Vec w, Mask m) {
    const __m512i words = _mm512_castps_si512(w);
    return _mm512_castsi512_ps(
        _mm512_mask_and_epi32(words, m, words, _mm512_set1_epi32(INT32_MIN)));
  }
  TILEWISE_INLINE void prefetch(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T0); }
  TILEWISE_INLINE void prefetch_l2(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T1); }

  // rows[i][j] becomes rows[j][i].
  TILEWISE_INLINE void transpose(Vec (&r)[16]) {
    Vec t[16];
    const auto d = [](Vec x) { return _mm512_castps_pd(x); };
    const auto s = [](__m512d x) { return _mm512_castpd_ps(x); };
    TILEWISE_UNROLL for (int i = 0; i < 16; i += 2) {
      t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
      t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    TILEWISE_UNROLL for (int i = 0; i < 16; i += 4) {
      r[i] = s(_mm512_unpacklo_pd(d(t[i]), d(t[i + 2])));
      r[i + 1] = s(_mm512_unpackhi_pd(d(t[i]), d(t[i + 2])));
      r[i + 2] = s(_mm512_unpacklo_pd(d(t[i + 1]), d(t[i + 3])));
      r[i + 3] = s(_mm512_unpackhi_pd(d(t[i + 1]), d(t[i + 3])));
    }
    TILEWISE_UNROLL for (int i = 0; i < 4; ++i) {
      t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
      t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
      t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
      t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
    }
    TILEWISE_UNROLL for (int i = 0; i < 4; ++i) {
      r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
      r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
      r[i + 4] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0x88);
      r[i + 12] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0xdd);
    }
  }
};

}  // namespace
