// SPDX-License-Identifier: Apache-2.0
// Intervals of reals. Each function returns an interval that contains the operator's value for all
// operands in the intervals given, in double as well as in single precision with functions good to
// kError: so what a comparison of intervals decides holds for the oracle and for every kernel.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "expr/interval.h"

namespace tilewise::expr {

// lo <= hi: no value is NaN. Otherwise both are NaN, and nothing is known, not even that.
struct RealInterval {
  double lo = std::numeric_limits<double>::quiet_NaN();
  double hi = std::numeric_limits<double>::quiet_NaN();
  [[nodiscard]] bool is_known() const { return lo <= hi; }
};
inline constexpr RealInterval kAnyReal{};

// Relative error of one operation in single precision, with room: 8 units of the last place.
inline constexpr double kError = 0x1p-20;

// Contains what single precision makes of the values: rounded, flushed to zero, overflowed.
inline RealInterval widen(double lo, double hi) {
  if (!(lo <= hi)) return kAnyReal;  // a NaN: an operation without a value
  constexpr double kLargest = std::numeric_limits<float>::max();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  lo = std::min(lo, kLargest);  // what is larger may be infinite already
  hi = std::max(hi, -kLargest);
  lo -= std::fabs(lo) * kError + std::numeric_limits<float>::min();
  hi += std::fabs(hi) * kError + std::numeric_limits<float>::min();
  return {lo < -kLargest ? -kInfinity : lo, hi > kLargest ? kInfinity : hi};
}

// Of corner values of an operation that is monotone in each operand.
template <class Operation>
RealInterval corners(RealInterval a, RealInterval b, Operation operation) {
  const double values[4] = {operation(a.lo, b.lo), operation(a.lo, b.hi), operation(a.hi, b.lo),
                            operation(a.hi, b.hi)};
  for (const double value : values) {
    if (std::isnan(value)) return kAnyReal;  // also where an operand is unknown
  }
  return widen(std::min({values[0], values[1], values[2], values[3]}),
               std::max({values[0], values[1], values[2], values[3]}));
}
inline RealInterval add(RealInterval a, RealInterval b) {
  return corners(a, b, [](double x, double y) { return x + y; });
}
inline RealInterval subtract(RealInterval a, RealInterval b) {
  return corners(a, b, [](double x, double y) { return x - y; });
}
inline bool is_finite(RealInterval a) { return std::isfinite(a.lo) && std::isfinite(a.hi); }
// With an infinite operand 0 * infinity, which is NaN, may hide between the corners.
inline RealInterval multiply(RealInterval a, RealInterval b) {
  if (!is_finite(a) || !is_finite(b)) return kAnyReal;
  return corners(a, b, [](double x, double y) { return x * y; });
}
inline RealInterval divide(RealInterval a, RealInterval b) {
  if (!is_finite(a) || !is_finite(b) || (b.lo <= 0 && b.hi >= 0)) return kAnyReal;
  return corners(a, b, [](double x, double y) { return x / y; });
}
inline RealInterval min(RealInterval a, RealInterval b) {
  if (!a.is_known() || !b.is_known()) return kAnyReal;
  return {std::min(a.lo, b.lo), std::min(a.hi, b.hi)};
}
inline RealInterval max(RealInterval a, RealInterval b) {
  if (!a.is_known() || !b.is_known()) return kAnyReal;
  return {std::max(a.lo, b.lo), std::max(a.hi, b.hi)};
}
inline RealInterval hull(RealInterval a, RealInterval b) {
  if (!a.is_known() || !b.is_known()) return kAnyReal;
  return {std::min(a.lo, b.lo), std::max(a.hi, b.hi)};
}
inline RealInterval negate(RealInterval a) { return a.is_known() ? RealInterval{-a.hi, -a.lo} : a; }
inline RealInterval absolute(RealInterval a) {
  if (!a.is_known()) return a;
  return {std::max(0.0, std::max(a.lo, -a.hi)), std::max(-a.lo, a.hi)};
}
inline RealInterval exponential(RealInterval a) {
  if (!a.is_known()) return a;
  const RealInterval r = widen(std::exp(a.lo), std::exp(a.hi));
  return {std::max(0.0, r.lo), r.hi};
}
inline RealInterval logarithm(RealInterval a) {
  if (!(a.lo >= 0)) return kAnyReal;
  // Single precision may flush a small operand to zero.
  const double least = a.lo < std::numeric_limits<float>::min() ? 0.0 : a.lo;
  return widen(std::log(least), std::log(a.hi));
}
inline RealInterval hyperbolic_tangent(RealInterval a) {
  return a.is_known() ? widen(std::tanh(a.lo), std::tanh(a.hi)) : a;
}
inline RealInterval square_root(RealInterval a) {
  if (!(a.lo >= 0)) return kAnyReal;
  return widen(std::sqrt(a.lo), std::sqrt(a.hi));
}
inline RealInterval to_real(double lo, double hi) {
  constexpr double kExact = 0x1p24;  // up to here single precision holds every integer
  if (lo >= -kExact && hi <= kExact) return {lo, hi};
  return widen(lo, hi);
}
inline RealInterval real_constant(double value) {
  const bool is_single = std::fabs(value) <= std::numeric_limits<float>::max() &&
                         static_cast<double>(static_cast<float>(value)) == value;
  return is_single ? RealInterval{value, value} : widen(value, value);
}

}  // namespace tilewise::expr
