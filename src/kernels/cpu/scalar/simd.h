// SPDX-License-Identifier: Apache-2.0
// The vocabulary of any CPU, and the definition of what each word means. Vectors are GCC/Clang
// vector extensions, so the compiler uses what the baseline has (SSE2, NEON). Real is float or
// double.
//
// A *word* is what dot() consumes: one Real here, a pair of bf16 in avx512bf16. kRows x kVectors
// accumulators form a register block; kRows divides 8. Lanes never exchange data, except in
// transpose().
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "base/dtype.h"
#include "kernels/cpu/generic/macros.h"

namespace {

using namespace tilewise;

template <class RealType, class BitsType>
struct Scalar {
  using Real = RealType;
  using Bits = BitsType;  // signed integer of the size of Real
  static constexpr int kLanes = 8;
  static constexpr int kWord = 1;  // elements per word
  static constexpr int kStep = 1;  // words of the contracted index that are multiplied at a time;
                                   // 16 where products are of tiles (amx)
  static constexpr int kRows = 4;
  static constexpr int kVectors = 1;
  typedef Real Vec __attribute__((vector_size(kLanes * sizeof(Real)), aligned(sizeof(Real))));
  typedef Bits Mask __attribute__((vector_size(kLanes * sizeof(Bits)), aligned(sizeof(Bits))));

  // Memory: no alignment beyond the element's is assumed.
  TILEWISE_INLINE Vec load(const Real* p) {
    Vec x;
    std::memcpy(&x, p, sizeof(x));
    return x;
  }
  TILEWISE_INLINE void store(Real* p, Vec x) { std::memcpy(p, &x, sizeof(x)); }
  // x - 0, not 0 + x: -0.0 must stay -0.0, it marks masked pairs (hide_masked).
  TILEWISE_INLINE Vec broadcast(Real x) { return x - Vec{}; }

  TILEWISE_INLINE Vec load_bf16(const uint16_t* p) {
    Vec x;
    for (int i = 0; i < kLanes; ++i) x[i] = bfloat16_to_float(p[i]);
    return x;
  }
  TILEWISE_INLINE Vec load_fp16(const uint16_t* p) {
    Vec x;
    for (int i = 0; i < kLanes; ++i) x[i] = float16_to_float(p[i]);
    return x;
  }
  TILEWISE_INLINE void store_bf16(uint16_t* p, Vec x) {
    for (int i = 0; i < kLanes; ++i) p[i] = float_to_bfloat16(static_cast<float>(x[i]));
  }
  TILEWISE_INLINE void store_fp16(uint16_t* p, Vec x) {
    for (int i = 0; i < kLanes; ++i) p[i] = float_to_float16(static_cast<float>(x[i]));
  }

  TILEWISE_INLINE Vec add(Vec a, Vec b) { return a + b; }
  TILEWISE_INLINE Vec sub(Vec a, Vec b) { return a - b; }
  TILEWISE_INLINE Vec mul(Vec a, Vec b) { return a * b; }
  TILEWISE_INLINE Vec div(Vec a, Vec b) { return a / b; }
  TILEWISE_INLINE Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }  // may round twice
  TILEWISE_INLINE Vec fms(Vec a, Vec b, Vec c) { return a * b - c; }
  TILEWISE_INLINE Vec fnma(Vec a, Vec b, Vec c) { return c - a * b; }
  // The second operand where either is NaN (as x86 does): max(bound, x) keeps a NaN of x.
  TILEWISE_INLINE Vec max(Vec a, Vec b) { return a > b ? a : b; }
  TILEWISE_INLINE Vec min(Vec a, Vec b) { return a < b ? a : b; }
  TILEWISE_INLINE Vec ceil(Vec x) {
    Vec r;
    for (int i = 0; i < kLanes; ++i) {
      if constexpr (sizeof(Real) == 4)
        r[i] = __builtin_ceilf(x[i]);
      else
        r[i] = __builtin_ceil(x[i]);
    }
    return r;
  }
  // x * 2^n for integral n of any size; x * 0 or infinity where that is out of range. Where n is
  // NaN the result is any number.
  TILEWISE_INLINE Vec times_power_of_two(Vec x, Vec n) {
    Vec r;
    for (int i = 0; i < kLanes; ++i) {
      // NaN fails both comparisons and counts as very small: the callers replace those lanes.
      const Real floor = n[i] >= Real(-4000) ? n[i] : Real(-4000);
      const Real bounded = floor <= Real(4000) ? floor : Real(4000);
      if constexpr (sizeof(Real) == 4)
        r[i] = __builtin_ldexpf(x[i], static_cast<int>(bounded));
      else
        r[i] = __builtin_ldexp(x[i], static_cast<int>(bounded));
    }
    return r;
  }
  // c + sum over the elements of the words a and b.
  TILEWISE_INLINE Vec dot(Vec c, Vec a, Vec b) { return a * b + c; }

  // Bits of y plus the low bits of t moved into the sign and exponent field.
  TILEWISE_INLINE Vec shift_into_exponent(Vec y, Vec t) {
    typedef std::make_unsigned_t<Bits> U
        __attribute__((vector_size(kLanes * sizeof(Bits)), aligned(sizeof(Bits))));
    return (Vec)((U)y + ((U)t << (sizeof(Real) == 4 ? 23 : 52)));
  }
  TILEWISE_INLINE Vec or_bits(Vec a, Vec b, Vec c) { return (Vec)((Mask)a | (Mask)b | (Mask)c); }
  TILEWISE_INLINE bool any_bits(Vec a, Bits bits) { return any(((Mask)a & bits) != 0); }

  TILEWISE_INLINE Mask lanes(uint32_t bits) {  // lane i: bit i
    Mask m;
    for (int i = 0; i < kLanes; ++i) m[i] = -static_cast<Bits>(bits >> i & 1);
    return m;
  }
  TILEWISE_INLINE Vec select(Mask m, Vec a, Vec b) { return m ? a : b; }
  TILEWISE_INLINE Mask less(Vec a, Vec b) { return a < b; }
  TILEWISE_INLINE Mask equal(Vec a, Vec b) { return a == b; }
  TILEWISE_INLINE Mask unordered(Vec a) { return a != a; }
  TILEWISE_INLINE Mask both(Mask a, Mask b) { return a & b; }
  TILEWISE_INLINE Mask either(Mask a, Mask b) { return a | b; }
  TILEWISE_INLINE Mask opposite(Mask a) { return ~a; }
  TILEWISE_INLINE bool any(Mask a) {
    Bits all = 0;
    for (int i = 0; i < kLanes; ++i) all |= a[i];
    return all != 0;
  }

  // Integers of 32 bits, one per lane; they add, subtract and multiply by the operators of vector
  // extensions. Comparisons give one bit per lane, lane 0 lowest.
  typedef int32_t Ints __attribute__((vector_size(kLanes * 4), aligned(4)));
  TILEWISE_INLINE uint32_t int_less(Ints a, Ints b) { return bits_of_lanes(a < b); }
  TILEWISE_INLINE uint32_t int_equal(Ints a, Ints b) { return bits_of_lanes(a == b); }
  TILEWISE_INLINE Ints int_select(uint32_t bits, Ints a, Ints b) {
    Ints r;
    for (int i = 0; i < kLanes; ++i) r[i] = bits >> i & 1 ? a[i] : b[i];
    return r;
  }
  TILEWISE_INLINE Ints gather_ints(const int32_t* p, Ints index) {
    Ints r;
    for (int i = 0; i < kLanes; ++i) r[i] = p[index[i]];
    return r;
  }
  TILEWISE_INLINE Vec gather_reals(const float* p, Ints index) {
    Vec r;
    for (int i = 0; i < kLanes; ++i) r[i] = p[index[i]];
    return r;
  }
  TILEWISE_INLINE Vec to_real(Ints x) { return __builtin_convertvector(x, Vec); }
  TILEWISE_INLINE uint32_t bits(Mask m) { return bits_of_lanes(m); }
  template <class Lanes>
  TILEWISE_INLINE uint32_t bits_of_lanes(Lanes m) {
    uint32_t bits = 0;
    for (int i = 0; i < kLanes; ++i) bits |= (m[i] != 0 ? 1u : 0u) << i;
    return bits;
  }
  // As numbers without sign.
  TILEWISE_INLINE uint32_t int_below(Ints a, Ints b) {
    typedef uint32_t Unsigned __attribute__((vector_size(kLanes * 4), aligned(4)));
    return bits_of_lanes((Unsigned)a < (Unsigned)b);
  }

  // Half as many numbers of 64 bits, for random numbers (dropout-inl.h). The product is that of the
  // low halves.
  typedef uint64_t Wide __attribute__((vector_size(kLanes * 4), aligned(8)));
  TILEWISE_INLINE Wide multiply_low(Wide a, Wide b) { return (a & 0xffffffff) * (b & 0xffffffff); }
  // Its high half in the low one.
  TILEWISE_INLINE Wide upper(Wide a) { return a >> 32; }
  TILEWISE_INLINE Wide xor3(Wide a, Wide b, Wide c) { return a ^ b ^ c; }
  // The low halves of a, then of b.
  TILEWISE_INLINE Ints low_halves(Wide a, Wide b) {
    Ints r;
    for (int i = 0; i < kLanes / 2; ++i) {
      r[i] = static_cast<int32_t>(a[i]);
      r[i + kLanes / 2] = static_cast<int32_t>(b[i]);
    }
    return r;
  }
  // Bit j of rows[i] becomes bit i of rows[j].
  TILEWISE_INLINE void transpose_bits(uint16_t (&rows)[16]) {
    uint16_t columns[16] = {};
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < 16; ++j)
        columns[j] = static_cast<uint16_t>(columns[j] | (rows[i] >> j & 1) << i);
    std::memcpy(rows, columns, sizeof(columns));
  }
  TILEWISE_INLINE Vec sqrt(Vec x) {
    Vec r;
    for (int i = 0; i < kLanes; ++i) {
      if constexpr (sizeof(Real) == 4)
        r[i] = __builtin_sqrtf(x[i]);
      else
        r[i] = __builtin_sqrt(x[i]);
    }
    return r;
  }
  // 1 / x of a normal x to 2 ulp.
  TILEWISE_INLINE Vec reciprocal(Vec x) { return broadcast(1) / x; }

  // Two consecutive rows of P (or dS) as words of the contracted index: two rows of Real here, one
  // row of pairs in avx512bf16.
  TILEWISE_INLINE void store_p(Real* p, int row_stride, Vec first, Vec second) {
    store(p, first);
    store(p + row_stride, second);
  }
  // The elements of the words w times the powers of two f, exactly.
  TILEWISE_INLINE Vec scale_words(Vec w, Vec f) { return w * f; }
  // a, but 0 in the elements where p is -0.0, which marks a masked pair (online_softmax-inl.h).
  TILEWISE_INLINE Vec hide_masked(Vec a, Vec p) {
    const Mask masked = (Mask)p == (static_cast<Bits>(1) << (sizeof(Bits) * 8 - 1));
    return masked ? Vec{} : a;
  }
  // The sign alone where m.
  TILEWISE_INLINE Vec keep_sign(Vec w, Mask m) {
    const Bits sign = static_cast<Bits>(1) << (sizeof(Bits) * 8 - 1);
    return (Vec)((Mask)w & (~m | sign));
  }
  TILEWISE_INLINE void prefetch(const void* p) { __builtin_prefetch(p); }
  TILEWISE_INLINE void prefetch_l2(const void* p) { __builtin_prefetch(p, 0, 2); }

  TILEWISE_INLINE void transpose(Vec (&r)[kLanes]) {
    for (int i = 0; i < kLanes; ++i)
      for (int j = 0; j < i; ++j) {
        const Real x = r[i][j];
        r[i][j] = r[j][i];
        r[j][i] = x;
      }
  }
};

using ScalarF32 = Scalar<float, int32_t>;
using ScalarF64 = Scalar<double, int64_t>;

}  // namespace
