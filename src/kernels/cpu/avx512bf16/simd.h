// SPDX-License-Identifier: Apache-2.0
// AVX-512 with AVX512_BF16: a word is a pair of bf16 that vdpbf16ps multiplies and adds pairwise,
// at twice the rate of fp32. P is rounded to bf16 (as the paper rounds it to fp16); sums are fp32.
#pragma once

#include "kernels/cpu/avx512/simd.h"

namespace {

struct Avx512Bf16 : Avx512F32 {
  using Single = Avx512F32;  // the vocabulary for operands that are not pairs of bf16
  static constexpr int kWord = 2;

  TILEWISE_INLINE void store_bf16(uint16_t* p, Vec x) {
    _mm256_storeu_si256((__m256i*)p, (__m256i)_mm512_cvtneps_pbh(x));
  }
  TILEWISE_INLINE Vec dot(Vec c, Vec a, Vec b) {
    return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
  }
  // sum plus both halves of each word.
  TILEWISE_INLINE Vec add_pairs(Vec sum, Vec words) {
    return dot(sum, words, _mm512_castsi512_ps(_mm512_set1_epi32(0x3f803f80)));
  }
  // The halves of words as numbers.
  TILEWISE_INLINE Vec first_halves(Vec words) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(words), 16));
  }
  TILEWISE_INLINE Vec second_halves(Vec words) {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(words),
                                                _mm512_set1_epi32(static_cast<int>(0xffff0000))));
  }
  // Lane i of first and of second become the two halves of word i.
  TILEWISE_INLINE Vec interleave(__m512i second_first) {
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, second_first));
  }
  // to[2 i] = a[i], to[2 i + 1] = b[i] for 32 elements.
  TILEWISE_INLINE void interleave_rows(const uint16_t* a, const uint16_t* b, uint16_t* to) {
    const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40,
                                         8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
    const __m512i x = _mm512_loadu_si512(a), y = _mm512_loadu_si512(b);
    _mm512_storeu_si512(to, _mm512_permutex2var_epi16(x, low, y));
    _mm512_storeu_si512(to + 32, _mm512_permutex2var_epi16(x, high, y));
  }
  TILEWISE_INLINE Vec pair_in_order(Vec first, Vec second) {
    return (Vec)_mm512_cvtne2ps_pbh(second, first);
  }
  TILEWISE_INLINE void store_p(Real* p, int, Vec first, Vec second) {
    store(p, interleave((__m512i)_mm512_cvtne2ps_pbh(second, first)));
  }
  // A word whose two halves are -0.0.
  TILEWISE_INLINE Vec masked_words() { return _mm512_castsi512_ps(_mm512_set1_epi16(INT16_MIN)); }
  // The halves of the words that are NaN or infinity; 0 in place of the others.
  TILEWISE_INLINE Vec not_finite_halves(Vec words) {
    const __m512i x = _mm512_castps_si512(words), exponent = _mm512_set1_epi16(0x7f80);
    return _mm512_castsi512_ps(_mm512_maskz_mov_epi16(
        _mm512_cmpeq_epi16_mask(_mm512_and_si512(x, exponent), exponent), x));
  }
  // x where no bit of y is set.
  TILEWISE_INLINE Vec without_bits(Vec x, Vec y) { return _mm512_andnot_ps(y, x); }
  TILEWISE_INLINE Vec scale_words(Vec w, Vec f) {
    const __m512i low = _mm512_castps_si512(_mm512_mul_ps(f, first_halves(w)));
    const Vec high = second_halves(_mm512_mul_ps(f, second_halves(w)));
    return _mm512_castsi512_ps(
        _mm512_or_si512(_mm512_srli_epi32(low, 16), _mm512_castps_si512(high)));
  }
  // The sign alone of the first halves where `first`, of the second ones where `second`.
  TILEWISE_INLINE Vec keep_signs(Vec w, Mask first, Mask second) {
    __m512i words = _mm512_castps_si512(w);
    words =
        _mm512_mask_and_epi32(words, first, words, _mm512_set1_epi32(static_cast<int>(0xffff8000)));
    words = _mm512_mask_and_epi32(words, second, words,
                                  _mm512_set1_epi32(static_cast<int>(0x8000ffff)));
    return _mm512_castsi512_ps(words);
  }
  TILEWISE_INLINE Vec hide_masked(Vec a, Vec p) {
    const __m512i words = _mm512_castps_si512(p);
    const __mmask32 masked = _mm512_cmpeq_epi16_mask(words, _mm512_set1_epi16(INT16_MIN));
    return _mm512_castsi512_ps(
        _mm512_mask_mov_epi16(_mm512_castps_si512(a), masked, _mm512_setzero_si512()));
  }
};

}  // namespace
