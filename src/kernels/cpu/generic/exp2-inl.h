// SPDX-License-Identifier: Apache-2.0
// 2^x in registers, next to the products: no multiply, compare or table besides the polynomial's
// FMAs.
//
// 2^x = 2^n * 2^f with n = round(x), f = x - n in [-1/2, 1/2]. Adding a constant of 1.5 * 2^23
// rounds x to an integer whose bits are then shifted into the exponent field.
#pragma once

#include "kernels/cpu/generic/macros.h"

namespace {

// How the shift works, for float (double likewise): t = kMagic + kBias + n has kBias + n in its low
// bits. kBias = 256 - 17, so n <= 16 exactly if they are at most 255, that is if no bit of
// kOverflowBits is set in t; NaN and infinity set one too. Shifted by 23, 239 + n flips the sign
// bit and adds n - 17 to the exponent: the polynomial carries the factor -2^17 that undoes both.
template <class Real>
struct Exp2;

template <>
struct Exp2<float> {
  static constexpr float kMagic = 12582912.f;  // 1.5 * 2^23
  static constexpr float kBias = 239.f;
  static constexpr float kFactor = -131072.f;  // -2^17
  static constexpr int32_t kOverflowBits = ~0x4B4000FF;
  static constexpr float kSmallest = 0x1p-126f;  // normal number
  static constexpr float kZero = -127.f;         // 2^-127 comes out as exactly 0
  // Up to here kMagic + kBias - m is exact for integral m.
  static constexpr float kLargestReference = 2097152.f;  // 2^21
  static constexpr float kLargest = 3.4028235e38f;
  // Minimax on [-1/2, 1/2] with 2^0 = 1: 2.03 ulp, and 2^-13.3 for a P that is rounded to bf16
  // (2^-9).
  static constexpr float kFine[] = {
      1.f, 6.931469776e-1f, 2.402224208e-1f, 5.550733760e-2f, 9.671512997e-3f, 1.326472206e-3f};
  static constexpr float kCoarse[] = {1.f, 6.932829273e-1f, 2.422109596e-1f, 5.500893000e-2f};
};

template <>
struct Exp2<double> {
  static constexpr double kMagic = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kBias = 2031.0;               // 2048 - 17
  static constexpr double kFactor = -131072.0;
  static constexpr int64_t kOverflowBits = ~(0x4338000000000000 | 0x7FF);
  static constexpr double kSmallest = 0x1p-1022;
  static constexpr double kZero = -1023.0;
  static constexpr double kLargestReference = 2097152.0;
  static constexpr double kLargest = 1.7976931348623157e308;
  // Taylor: ln(2)^i / i!; the remainder of degree 13 is 4e-18.
  static constexpr double kFine[] = {1.0,
                                     0.69314718055994531,
                                     0.24022650695910072,
                                     5.5504108664821580e-2,
                                     9.6181291076284772e-3,
                                     1.3333558146428443e-3,
                                     1.5403530393381609e-4,
                                     1.5252733804059840e-5,
                                     1.3215486790144309e-6,
                                     1.0178086009239699e-7,
                                     7.0549116208011233e-9,
                                     4.4455382718708114e-10,
                                     2.5678435993488202e-11,
                                     1.3691488853904128e-12};
  static constexpr double kCoarse[] = {1.0};
};

// y = factor * 2^f, in step: every FMA waits for the one before it, so independent ones come
// between.
template <class X, int N>
TILEWISE_INLINE void exp2_fractions(const typename X::Vec (&f)[N], typename X::Real factor,
                                    typename X::Vec (&y)[N]) {
  using E = Exp2<typename X::Real>;
  constexpr bool coarse = X::kWord == 2;
  constexpr int degree =
      (coarse ? sizeof(E::kCoarse) : sizeof(E::kFine)) / sizeof(typename X::Real) - 1;
  const auto coefficient = [&](int i) {
    return X::broadcast(factor * (coarse ? E::kCoarse[coarse ? i : 0] : E::kFine[i]));
  };
  TILEWISE_UNROLL for (int n = 0; n < N; ++n) y[n] = coefficient(degree);
  TILEWISE_UNROLL for (int i = degree - 1; i >= 0; --i) TILEWISE_UNROLL for (int n = 0; n < N; ++n)
      y[n] = X::fma(y[n], f[n], coefficient(i));
}

// factor * 2^f.
template <class X>
TILEWISE_INLINE typename X::Vec exp2_fraction(typename X::Vec f, typename X::Real factor) {
  const typename X::Vec only[1] = {f};
  typename X::Vec y[1];
  exp2_fractions<X, 1>(only, factor, y);
  return y[0];
}

}  // namespace
