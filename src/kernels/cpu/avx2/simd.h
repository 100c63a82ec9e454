// SPDX-License-Identifier: Apache-2.0
// The vocabulary of AVX2 + FMA + F16C: 8 float lanes, 16 registers. Meanings: ../scalar/simd.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/avx2/transpose_bits.h"
#include "kernels/cpu/generic/macros.h"

namespace {

struct Avx2F32 {
  using Real = float;
  using Bits = int32_t;
  using Vec = __m256;
  using Mask = __m256;  // all bits of a lane set or clear
  static constexpr int kLanes = 8;
  static constexpr int kWord = 1;
  static constexpr int kStep = 1;
  static constexpr int kRows = 4;  // 4 x 3 accumulators + 3 of B + 1 broadcast = 16 registers
  static constexpr int kVectors = 3;

  TILEWISE_INLINE Vec load(const Real* p) { return _mm256_loadu_ps(p); }
  TILEWISE_INLINE void store(Real* p, Vec x) { _mm256_storeu_ps(p, x); }
  TILEWISE_INLINE Vec broadcast(Real x) { return _mm256_set1_ps(x); }
  TILEWISE_INLINE Vec load_bf16(const uint16_t* p) {
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16));
  }
  TILEWISE_INLINE Vec load_fp16(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
  }
  TILEWISE_INLINE void store_bf16(uint16_t* p, Vec x) {
    const __m256i u = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    __m256i r = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
    r = _mm256_blendv_epi8(r, quiet, _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
    r = _mm256_srli_epi32(r, 16);
    _mm_storeu_si128((__m128i*)p,
                     _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1)));
  }
  TILEWISE_INLINE void store_fp16(uint16_t* p, Vec x) {
    _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
  }

  TILEWISE_INLINE Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
  TILEWISE_INLINE Vec sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
  TILEWISE_INLINE Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
  TILEWISE_INLINE Vec div(Vec a, Vec b) { return _mm256_div_ps(a, b); }
  TILEWISE_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
  TILEWISE_INLINE Vec fms(Vec a, Vec b, Vec c) { return _mm256_fmsub_ps(a, b, c); }
  TILEWISE_INLINE Vec fnma(Vec a, Vec b, Vec c) { return _mm256_fnmadd_ps(a, b, c); }
  TILEWISE_INLINE Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
  TILEWISE_INLINE Vec min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
  TILEWISE_INLINE Vec ceil(Vec x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
  }
  // Two factors of at most 2^+-127 each, so that the whole range of n works.
  TILEWISE_INLINE Vec times_power_of_two(Vec x, Vec n) {
    n = min(max(n, broadcast(-252.f)), broadcast(252.f));
    const __m256i i = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(i, 1);
    const __m256i bias = _mm256_set1_epi32(127);
    const Vec a = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    const Vec b = _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(i, half), bias), 23));
    return mul(mul(x, a), b);
  }
  TILEWISE_INLINE Vec dot(Vec c, Vec a, Vec b) { return _mm256_fmadd_ps(a, b, c); }

  TILEWISE_INLINE Vec shift_into_exponent(Vec y, Vec t) {
    return _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(y), _mm256_slli_epi32(_mm256_castps_si256(t), 23)));
  }
  TILEWISE_INLINE Vec or_bits(Vec a, Vec b, Vec c) { return _mm256_or_ps(_mm256_or_ps(a, b), c); }
  TILEWISE_INLINE bool any_bits(Vec a, Bits bits) {
    return !_mm256_testz_si256(_mm256_castps_si256(a), _mm256_set1_epi32(bits));
  }

  TILEWISE_INLINE Mask lanes(uint32_t bits) {
    const __m256i lane = _mm256_set_epi32(128, 64, 32, 16, 8, 4, 2, 1);
    const __m256i all = _mm256_set1_epi32(static_cast<int>(bits));
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(all, lane), lane));
  }
  TILEWISE_INLINE Vec select(Mask m, Vec a, Vec b) { return _mm256_blendv_ps(b, a, m); }
  TILEWISE_INLINE Mask less(Vec a, Vec b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
  TILEWISE_INLINE Mask equal(Vec a, Vec b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
  TILEWISE_INLINE Mask unordered(Vec a) { return _mm256_cmp_ps(a, a, _CMP_UNORD_Q); }
  TILEWISE_INLINE Mask both(Mask a, Mask b) { return _mm256_and_ps(a, b); }
  TILEWISE_INLINE Mask either(Mask a, Mask b) { return _mm256_or_ps(a, b); }
  TILEWISE_INLINE Mask opposite(Mask a) {
    return _mm256_xor_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(-1)));
  }
  TILEWISE_INLINE bool any(Mask a) { return _mm256_movemask_ps(a) != 0; }

  typedef int32_t Ints __attribute__((vector_size(32), aligned(4)));
  TILEWISE_INLINE uint32_t int_less(Ints a, Ints b) {
    return bits((Mask)_mm256_cmpgt_epi32((__m256i)b, (__m256i)a));
  }
  TILEWISE_INLINE uint32_t int_equal(Ints a, Ints b) {
    return bits((Mask)_mm256_cmpeq_epi32((__m256i)a, (__m256i)b));
  }
  TILEWISE_INLINE Ints int_select(uint32_t bits, Ints a, Ints b) {
    return (Ints)_mm256_blendv_ps((Vec)b, (Vec)a, lanes(bits));
  }
  TILEWISE_INLINE Ints gather_ints(const int32_t* p, Ints index) {
    return (Ints)_mm256_i32gather_epi32(p, (__m256i)index, 4);
  }
  TILEWISE_INLINE Vec gather_reals(const float* p, Ints index) {
    return _mm256_i32gather_ps(p, (__m256i)index, 4);
  }
  TILEWISE_INLINE Vec to_real(Ints x) { return _mm256_cvtepi32_ps((__m256i)x); }
  TILEWISE_INLINE uint32_t bits(Mask m) { return static_cast<uint32_t>(_mm256_movemask_ps(m)); }
  TILEWISE_INLINE uint32_t int_below(Ints a, Ints b) {
    const Ints lowest = Ints{} + INT32_MIN;
    return int_less(a ^ lowest, b ^ lowest);
  }
  typedef uint64_t Wide __attribute__((vector_size(32), aligned(8)));
  TILEWISE_INLINE Wide multiply_low(Wide a, Wide b) {
    return (Wide)_mm256_mul_epu32((__m256i)a, (__m256i)b);
  }
  TILEWISE_INLINE Wide upper(Wide a) { return a >> 32; }
  TILEWISE_INLINE Wide xor3(Wide a, Wide b, Wide c) { return a ^ b ^ c; }
  TILEWISE_INLINE Ints low_halves(Wide a, Wide b) {
    const __m256 halves = _mm256_shuffle_ps((__m256)a, (__m256)b, 0x88);
    return (Ints)_mm256_permute4x64_epi64((__m256i)halves, 0xd8);
  }
  TILEWISE_INLINE void transpose_bits(uint16_t (&rows)[16]) { transpose_bits_16(rows); }
  TILEWISE_INLINE Vec sqrt(Vec x) { return _mm256_sqrt_ps(x); }
  TILEWISE_INLINE Vec reciprocal(Vec x) { return _mm256_div_ps(broadcast(1), x); }

  TILEWISE_INLINE void store_p(Real* p, int row_stride, Vec first, Vec second) {
    store(p, first);
    store(p + row_stride, second);
  }
  TILEWISE_INLINE Vec scale_words(Vec w, Vec f) { return _mm256_mul_ps(w, f); }
  TILEWISE_INLINE Vec hide_masked(Vec a, Vec p) {
    const __m256i masked = _mm256_cmpeq_epi32(_mm256_castps_si256(p), _mm256_set1_epi32(INT32_MIN));
    return _mm256_andnot_ps(_mm256_castsi256_ps(masked), a);
  }
  TILEWISE_INLINE Vec keep_sign(Vec w, Mask m) {
    const Mask number = _mm256_castsi256_ps(_mm256_set1_epi32(INT32_MAX));
    return _mm256_andnot_ps(_mm256_and_ps(m, number), w);
  }
  TILEWISE_INLINE void prefetch(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T0); }
  TILEWISE_INLINE void prefetch_l2(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T1); }

  TILEWISE_INLINE void transpose(Vec (&r)[8]) {
    Vec t[8];
    const auto d = [](Vec x) { return _mm256_castps_pd(x); };
    const auto s = [](__m256d x) { return _mm256_castpd_ps(x); };
    TILEWISE_UNROLL for (int i = 0; i < 8; i += 2) {
      t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
      t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    TILEWISE_UNROLL for (int i = 0; i < 8; i += 4) {
      r[i] = s(_mm256_unpacklo_pd(d(t[i]), d(t[i + 2])));
      r[i + 1] = s(_mm256_unpackhi_pd(d(t[i]), d(t[i + 2])));
      r[i + 2] = s(_mm256_unpacklo_pd(d(t[i + 1]), d(t[i + 3])));
      r[i + 3] = s(_mm256_unpackhi_pd(d(t[i + 1]), d(t[i + 3])));
    }
    TILEWISE_UNROLL for (int i = 0; i < 4; ++i) {
      t[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
      t[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
    }
    TILEWISE_UNROLL for (int i = 0; i < 8; ++i) r[i] = t[i];
  }
};

}  // namespace
