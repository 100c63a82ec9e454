// SPDX-License-Identifier: Apache-2.0
// The integers of a program: 32 bits in vectors where all of them fit, else 64 bits in plain loops.
// Both wrap.
#pragma once

#include <cstdint>

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
  // x // y, exactly: a quotient of 32-bit numbers that is no integer is further from one than a
  // double rounds.
  TILEWISE_INLINE int32_t quotient(int32_t x, int32_t y) {
    const auto towards_zero = static_cast<int32_t>(static_cast<double>(x) / static_cast<double>(y));
    const int32_t rest = x - towards_zero * y;
    return towards_zero - ((rest != 0) & ((rest ^ y) < 0));
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
  TILEWISE_INLINE int64_t quotient(int64_t x, int64_t y) {
    if (y == -1) return static_cast<int64_t>(0 - static_cast<uint64_t>(x));  // no trap
    const int64_t towards_zero = x / y;
    const int64_t rest = x % y;
    return towards_zero - ((rest != 0) & ((rest ^ y) < 0));
  }
};

}  // namespace
