// SPDX-License-Identifier: Apache-2.0
// Intervals of integers. Each function returns an interval that contains the operator's value for
// all operands in the intervals given, for the wrapping arithmetic of arithmetic.h: where a result
// might overflow, that is every integer.
#pragma once

#include <algorithm>
#include <cstdint>

#include "expr/arithmetic.h"

namespace tilewise::expr {

// lo <= hi; both belong to it.
struct Interval {
  int64_t lo = kMinInt, hi = kMaxInt;
  bool operator==(const Interval&) const = default;
  [[nodiscard]] constexpr bool contains(int64_t x) const { return lo <= x && x <= hi; }
  [[nodiscard]] constexpr bool is_one() const { return lo == hi; }
};
inline constexpr Interval kAnyInteger{};

constexpr Interval hull(Interval a, Interval b) {
  return {std::min(a.lo, b.lo), std::max(a.hi, b.hi)};
}
constexpr Interval add(Interval a, Interval b) {
  Interval r;
  const bool below = __builtin_add_overflow(a.lo, b.lo, &r.lo);
  const bool above = __builtin_add_overflow(a.hi, b.hi, &r.hi);
  return below || above ? kAnyInteger : r;
}
constexpr Interval subtract(Interval a, Interval b) {
  Interval r;
  const bool below = __builtin_sub_overflow(a.lo, b.hi, &r.lo);
  const bool above = __builtin_sub_overflow(a.hi, b.lo, &r.hi);
  return below || above ? kAnyInteger : r;
}
constexpr Interval negate(Interval a) { return subtract({0, 0}, a); }
constexpr Interval absolute(Interval a) {
  if (a.lo == kMinInt) return kAnyInteger;
  return {std::max<int64_t>(0, std::max(a.lo, -a.hi)), std::max(-a.lo, a.hi)};
}
constexpr Interval multiply(Interval a, Interval b) {
  int64_t w = 0, x = 0, y = 0, z = 0;
  const bool w_overflows = __builtin_mul_overflow(a.lo, b.lo, &w);
  const bool x_overflows = __builtin_mul_overflow(a.lo, b.hi, &x);
  const bool y_overflows = __builtin_mul_overflow(a.hi, b.lo, &y);
  const bool z_overflows = __builtin_mul_overflow(a.hi, b.hi, &z);
  if (w_overflows || x_overflows || y_overflows || z_overflows) return kAnyInteger;
  return {std::min({w, x, y, z}), std::max({w, x, y, z})};
}
// Of one value with itself: never negative.
constexpr Interval square(Interval a) {
  const Interval r = multiply(a, a);
  if (r == kAnyInteger || a.lo >= 0 || a.hi <= 0) return r;
  return {0, r.hi};
}
// The quotient is monotone in each operand where the divisor keeps its sign, so corners of the
// negative and of the positive divisors suffice; x // 0 is 0.
constexpr Interval floor_divide(Interval a, Interval b) {
  if (a.lo == kMinInt && b.contains(-1)) return kAnyInteger;
  Interval r{kMaxInt, kMinInt};
  const auto corners = [&](int64_t first, int64_t last) {
    if (first > last) return;
    for (const int64_t d : {first, last}) {
      for (const int64_t x : {a.lo, a.hi}) {
        const int64_t quotient = floor_div(x, d);
        r = hull(r, {quotient, quotient});
      }
    }
  };
  corners(b.lo, std::min<int64_t>(b.hi, -1));
  corners(std::max<int64_t>(b.lo, 1), b.hi);
  return b.contains(0) ? hull(r, {0, 0}) : r;
}
constexpr Interval floor_modulo(Interval a, Interval b) {
  if (b.is_one() && b.lo != 0) {
    const int64_t m = b.lo;
    if (m == -1) return {0, 0};
    // Without a wrap in between the rest grows with a, for negative m too.
    if (floor_div(a.lo, m) == floor_div(a.hi, m)) return {floor_mod(a.lo, m), floor_mod(a.hi, m)};
    return m > 0 ? Interval{0, m - 1} : Interval{m + 1, 0};
  }
  Interval r{0, 0};  // the rest has the sign of the divisor, or is 0
  if (b.hi > 0) r.hi = b.hi - 1;
  if (b.lo < 0) r.lo = b.lo + 1;
  if (b.lo > 0 && a.lo >= 0) {
    r.hi = std::min(r.hi, a.hi);
    if (a.hi < b.lo) r.lo = a.lo;
  }
  return r;
}

// A set of integers, by 64 classes: the negative ones (so often one value, "nothing"), and the
// others by their rest mod 63. Two values whose sets are disjoint differ.
inline constexpr int64_t kClasses = 63;
constexpr uint64_t set_of_value(int64_t value) {
  return uint64_t{1} << (value < 0 ? kClasses : value % kClasses);
}
constexpr uint64_t set_of_values(Interval a) {
  const uint64_t negative = a.lo < 0 ? uint64_t{1} << kClasses : 0;
  if (a.hi < 0) return negative;
  const int64_t lo = std::max<int64_t>(a.lo, 0);
  constexpr uint64_t kAll = (uint64_t{1} << kClasses) - 1;
  if (a.hi - lo >= kClasses - 1) return negative | kAll;
  // A run of classes, which may go round.
  const uint64_t run = (uint64_t{2} << (a.hi - lo)) - 1;
  const int64_t first = lo % kClasses;
  return negative | ((run << first | run >> (kClasses - first)) & kAll);
}

}  // namespace tilewise::expr
