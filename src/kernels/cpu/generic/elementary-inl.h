// SPDX-License-Identifier: Apache-2.0
// exp, log and tanh of the language's reals. Float: polynomials, within 4 ulp (tanh: 2) over the
// whole range, also where P is rounded to bf16 (the exponential of the softmax is exp2-inl.h).
// Double: the runtime's.
#pragma once

#include <cstdint>

#include "kernels/cpu/generic/macros.h"
#include "kernels/cpu/generic/tanh_table-inl.h"

namespace {

template <class X, class Function>
TILEWISE_INLINE typename X::Vec each_lane(typename X::Vec x, const Function& function) {
  typename X::Real lane[X::kLanes];
  X::store(lane, x);
  for (int i = 0; i < X::kLanes; ++i) lane[i] = function(lane[i]);
  return X::load(lane);
}

template <class X>
TILEWISE_INLINE typename X::Vec negative(typename X::Vec x) {
  return X::sub(X::broadcast(typename X::Real(-0.0)), x);
}

// Horner's rule, highest coefficient first.
template <class X, int N>
TILEWISE_INLINE typename X::Vec polynomial(typename X::Vec x, const float (&coefficient)[N]) {
  typename X::Vec y = X::broadcast(coefficient[0]);
  TILEWISE_UNROLL for (int i = 1; i < N; ++i) y = X::fma(y, x, X::broadcast(coefficient[i]));
  return y;
}

// e^x = 2^n e^r, r = x - n log 2 in two steps (Cody and Waite); e^r as in Cephes.
template <class X>
TILEWISE_INLINE typename X::Vec exp_real(typename X::Vec x) {
  using Vec = typename X::Vec;
  if constexpr (sizeof(typename X::Real) == 8) {
    return each_lane<X>(x, [](double y) { return __builtin_exp(y); });
  } else {
    constexpr float kTerms[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                                4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
    x = X::min(X::broadcast(89.f), X::max(X::broadcast(-104.f), x));  // NaN stays
    const Vec magic = X::broadcast(12582912.f);                       // 1.5 * 2^23
    const Vec n = X::sub(X::fma(x, X::broadcast(1.44269504f), magic), magic);
    Vec r = X::fma(n, X::broadcast(-0.693359375f), x);
    r = X::fma(n, X::broadcast(2.12194440e-4f), r);
    const Vec y = X::fma(polynomial<X>(r, kTerms), X::mul(r, r), X::add(r, X::broadcast(1)));
    return X::times_power_of_two(y, n);
  }
}

// log x = e log 2 + log m, m in [sqrt(1/2), sqrt(2)); log m as in Cephes.
template <class X>
TILEWISE_INLINE typename X::Vec log_real(typename X::Vec x) {
  using Vec = typename X::Vec;
  if constexpr (sizeof(typename X::Real) == 8) {
    return each_lane<X>(x, [](double y) { return __builtin_log(y); });
  } else {
    using Ints = typename X::Ints;
    constexpr float kTerms[] = {7.0376836292e-2f,  -1.1514610310e-1f, 1.1676998740e-1f,
                                -1.2420140846e-1f, 1.4249322787e-1f,  -1.6668057665e-1f,
                                2.0000714765e-1f,  -2.4999993993e-1f, 3.3333331174e-1f};
    const Vec zero = Vec{}, inf = X::broadcast(__builtin_inff());
    const auto is_subnormal = X::less(x, X::broadcast(0x1p-126f));
    const Vec normal = X::select(is_subnormal, X::mul(x, X::broadcast(0x1p23f)), x);
    // Subtracting the bits of sqrt(1/2) makes the exponent field that of m in its range. The mask
    // only keeps the difference for x < 0 from overflowing.
    const Ints offset = ((Ints)normal & INT32_MAX) - 0x3f3504f3;
    const Ints exponent = offset >> 23;
    const Vec m = (Vec)((offset & 0x7fffff) + 0x3f3504f3);
    Vec e = X::to_real(exponent);
    e = X::select(is_subnormal, X::sub(e, X::broadcast(23)), e);
    const Vec f = X::sub(m, X::broadcast(1)), square = X::mul(f, f);
    Vec y = X::mul(X::mul(polynomial<X>(f, kTerms), square), f);
    y = X::fma(e, X::broadcast(-2.12194440e-4f), y);
    y = X::fma(square, X::broadcast(-0.5f), y);
    y = X::fma(e, X::broadcast(0.693359375f), X::add(f, y));
    y = X::select(X::equal(x, inf), inf, y);
    y = X::select(X::equal(x, zero), X::broadcast(-__builtin_inff()), y);
    y = X::select(X::less(x, zero), X::broadcast(__builtin_nanf("")), y);
    return X::select(X::unordered(x), x, y);
  }
}

// Whether a vector of numbers from a table of 32 takes one instruction.
template <class X>
inline constexpr bool kPermutesTables = requires(const typename X::Real* table,
                                                 typename X::Ints index) {
  X::look_up_32(table, index);
};

// Within 1 ulp, and three quarters of one beyond 2.
template <class X>
TILEWISE_INLINE typename X::Vec tanh_by_table(typename X::Vec x) {
  using Vec = typename X::Vec;
  using Ints = typename X::Ints;
  using T = TanhTable;
  const Ints sign = (Ints)x & INT32_MIN;
  const Vec size = X::min(X::broadcast(T::kMost), (Vec)((Ints)x ^ sign));  // NaN stays
  const Ints at = (Ints)X::fma(size, X::broadcast(T::kScale), X::broadcast(0.5f)) >> 20;
  const Vec d = X::sub(size, X::look_up_32(T::kCentre, at));
  Vec y = X::look_up_32(T::kTerm5, at);
  y = X::fma(y, d, X::look_up_32(T::kTerm4, at));
  y = X::fma(y, d, X::look_up_32(T::kTerm3, at));
  y = X::fma(y, d, X::look_up_32(T::kTerm2, at));
  y = X::fma(y, d, X::look_up_32(T::kTerm1, at));
  y = X::fma(y, d, X::look_up_32(T::kTerm0, at));
  return (Vec)((Ints)y | sign);
}

// tanh x = 1 - 2 e / (1 + e), e = exp(-2 |x|), and a polynomial where that cancels (Cephes). Within
// 2 ulp, and within half an ulp beyond 2: its derivative 1 - tanh^2 magnifies the error there. A
// quotient of polynomials in x (5 ulp, and 1 too early) was not faster.
template <class X>
TILEWISE_INLINE typename X::Vec tanh_real(typename X::Vec x) {
  using Vec = typename X::Vec;
  if constexpr (sizeof(typename X::Real) == 8) {
    return each_lane<X>(x, [](double y) { return __builtin_tanh(y); });
  } else if constexpr (kPermutesTables<X>) {
    return tanh_by_table<X>(x);
  } else {
    constexpr float kExp2[] = {1.326472206e-3f, 9.671512997e-3f, 5.550733760e-2f,
                               2.402224208e-1f, 6.931469776e-1f, 1};
    constexpr float kSmall[] = {-5.70498872745e-3f, 2.06390887954e-2f, -5.37397155531e-2f,
                                1.33314422036e-1f, -3.33332819422e-1f};
    const Vec zero = Vec{}, one = X::broadcast(1), size = X::max(negative<X>(x), x);
    // e = 2^z; tanh 10 is 1. NaN stays.
    const Vec z = X::mul(X::min(X::broadcast(10), size), X::broadcast(-2.88539008f));
    const Vec magic = X::broadcast(12582912.f);  // 1.5 * 2^23
    const Vec n = X::sub(X::add(z, magic), magic);
    const Vec e = X::times_power_of_two(polynomial<X>(X::sub(z, n), kExp2), n);
    const Vec large = X::fma(X::mul(e, X::broadcast(-2)), X::reciprocal(X::add(e, one)), one);
    const Vec square = X::mul(x, x);
    const Vec small = X::fma(X::mul(polynomial<X>(square, kSmall), square), x, x);
    return X::select(X::less(size, X::broadcast(0.625f)), small,
                     X::select(X::less(x, zero), negative<X>(large), large));
  }
}

}  // namespace
