// SPDX-License-Identifier: Apache-2.0
// Lookups of one vector in a table, with 32-bit elements. Lanes that read one element, or elements
// that lie side by side, as layouts of blocks and functions of k - q do, need no gather.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "kernels/cpu/generic/macros.h"

namespace {

template <class X>
TILEWISE_INLINE bool all_equal(typename X::Ints a, typename X::Ints b) {
  constexpr uint32_t kAllLanes = (uint32_t{1} << X::kLanes) - 1;
  return (X::int_equal(a, b) & kAllLanes) == kAllLanes;
}

template <class V, int... kLane>
TILEWISE_INLINE V reversed(V x, std::integer_sequence<int, kLane...>) {
  return __builtin_shufflevector(x, x, (static_cast<int>(sizeof...(kLane)) - 1 - kLane)...);
}

// data[at] of every lane; |at| < 2^30. gather: the word for it; splat: one number in all lanes.
template <class X, class T, class Splat, class Gather>
TILEWISE_INLINE auto fetch(const T* data, typename X::Ints at, const Splat& splat,
                           const Gather& gather) {
  using V = decltype(gather(data, at));
  constexpr int L = X::kLanes;
  typename X::Ints lane;
  for (int l = 0; l < L; ++l) lane[l] = l;
  const auto first = typename X::Ints{} + at[0];
  if (all_equal<X>(at, first)) return splat(data[at[0]]);
  V x;
  if (all_equal<X>(at - lane, first)) {
    std::memcpy(&x, data + at[0], sizeof(x));
    return x;
  }
  if (all_equal<X>(at + lane, first)) {
    std::memcpy(&x, data + at[L - 1], sizeof(x));
    return reversed(x, std::make_integer_sequence<int, L>{});
  }
  return gather(data, at);
}

template <class X>
TILEWISE_INLINE typename X::Ints fetch_ints(const int32_t* data, typename X::Ints at) {
  return fetch<X>(
      data, at, [](int32_t x) { return typename X::Ints{} + x; },
      [](const int32_t* p, typename X::Ints i) { return X::gather_ints(p, i); });
}
template <class X>
TILEWISE_INLINE typename X::Vec fetch_reals(const float* data, typename X::Ints at) {
  return fetch<X>(
      data, at, [](float x) { return X::broadcast(x); },
      [](const float* p, typename X::Ints i) { return X::gather_reals(p, i); });
}

}  // namespace
