// SPDX-License-Identifier: Apache-2.0
// The integers of a program: 32 bits in vectors where all of them fit, else 64 bits in plain loops.
// Both wrap.
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/cpu/generic/macros.h"

namespace {

template <class T, int kCount>
struct VectorOf {
  typedef T Type __attribute__((vector_size(kCount * sizeof(T)), aligned(sizeof(T))));
};

template <class X>
struct NarrowInts {
  using Int = int32_t;
  using Ints = typename X::Ints;
  using Unsigned = typename VectorOf<uint32_t, X::kLanes>::Type;
  TILEWISE_INLINE uint32_t less(Ints a, Ints b) { return X::int_less(a, b); }
  TILEWISE_INLINE uint32_t equal(Ints a, Ints b) { return X::int_equal(a, b); }
  TILEWISE_INLINE Ints select(uint32_t bits, Ints a, Ints b) { return X::int_select(bits, a, b); }
  TILEWISE_INLINE typename X::Vec to_real(Ints x) { return X::to_real(x); }
  static constexpr int kHalf = X::kLanes / 2;
  using Half = typename VectorOf<int32_t, kHalf>::Type;
  using Doubles = typename VectorOf<double, kHalf>::Type;
  template <int... kLane>
  TILEWISE_INLINE Doubles doubles(Ints x, int first, std::integer_sequence<int, kLane...>) {
    return __builtin_convertvector(first == 0 ? __builtin_shufflevector(x, x, kLane...)
                                              : __builtin_shufflevector(x, x, (kLane + kHalf)...),
                                   Doubles);
  }
  template <int... kLane>
  TILEWISE_INLINE Ints joined(Half a, Half b, std::integer_sequence<int, kLane...>) {
    return __builtin_shufflevector(a, b, kLane...);
  }
  // f(doubles) of both halves, in registers.
  template <class F>
  TILEWISE_INLINE Ints by_halves(const F& f) {
    constexpr auto kAll = std::make_integer_sequence<int, X::kLanes>{};
    return joined(f(0), f(kHalf), kAll);
  }
  TILEWISE_INLINE Doubles half_of(Ints x, int first) {
    return doubles(x, first, std::make_integer_sequence<int, kHalf>{});
  }
  // x // y of y that is not 0, exactly: a quotient of 32-bit numbers that is no integer is further
  // from one than a double rounds.
  TILEWISE_INLINE Ints quotient(Ints x, Ints y) {
    const Ints towards_zero = by_halves([&](int first) __attribute__((always_inline)) {
      return __builtin_convertvector(half_of(x, first) / half_of(y, first), Half);
    });
    const auto rest = (Ints)((Unsigned)x - (Unsigned)towards_zero * (Unsigned)y);
    return towards_zero + ((rest != 0) & ((rest ^ y) < 0));  // true is -1
  }
  // x // y of a positive y, exactly: (x + 1/2) / y is further from an integer than its error.
  TILEWISE_INLINE Ints quotient_by(Ints x, int64_t y) {
    using Bits = typename VectorOf<int64_t, kHalf>::Type;
    const double inverse = 1 / static_cast<double>(y), shift = 0.5 * inverse - 0.5;
    return by_halves([&](int first) __attribute__((always_inline)) {
      const Doubles q = half_of(x, first) * inverse + shift;
      return __builtin_convertvector((Bits)(q + 6755399441055744.0), Half);  // 1.5 * 2^52
    });
  }
};

template <class X>
struct WideInts {
  using Int = int64_t;
  using Ints = typename VectorOf<int64_t, X::kLanes>::Type;
  using Unsigned = typename VectorOf<uint64_t, X::kLanes>::Type;
  TILEWISE_INLINE uint32_t less(Ints a, Ints b) {
    uint32_t bits = 0;
    for (int i = 0; i < X::kLanes; ++i) bits |= uint32_t{a[i] < b[i]} << i;
    return bits;
  }
  TILEWISE_INLINE uint32_t equal(Ints a, Ints b) {
    uint32_t bits = 0;
    for (int i = 0; i < X::kLanes; ++i) bits |= uint32_t{a[i] == b[i]} << i;
    return bits;
  }
  TILEWISE_INLINE Ints select(uint32_t bits, Ints a, Ints b) {
    Ints r;
    for (int i = 0; i < X::kLanes; ++i) r[i] = bits >> i & 1 ? a[i] : b[i];
    return r;
  }
  TILEWISE_INLINE typename X::Vec to_real(Ints x) {
    typename X::Real lane[X::kLanes];
    for (int i = 0; i < X::kLanes; ++i) lane[i] = static_cast<typename X::Real>(x[i]);
    return X::load(lane);
  }
  TILEWISE_INLINE Ints quotient(Ints x, Ints y) {
    Ints r;
    for (int i = 0; i < X::kLanes; ++i) r[i] = floor_div(x[i], y[i]);
    return r;
  }
  TILEWISE_INLINE Ints quotient_by(Ints x, int64_t y) { return quotient(x, Ints{} + y); }
  TILEWISE_INLINE int64_t floor_div(int64_t x, int64_t y) {
    if (y == -1) return static_cast<int64_t>(0 - static_cast<uint64_t>(x));  // no trap
    const int64_t towards_zero = x / y;
    const int64_t rest = x % y;
    return towards_zero - ((rest != 0) & ((rest ^ y) < 0));
  }
};

}  // namespace
