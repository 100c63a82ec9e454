// SPDX-License-Identifier: Apache-2.0
#include "expr/real_interval.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace tilewise::expr {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

const std::vector<double>& points() {
  static const std::vector<double> all = {-kInfinity, -1e300, -3e38, -50.5,    -1.0,    -0.3,
                                          -1e-40,     0.0,    1e-40, 0.1,      2.0 / 3, 1.0,
                                          88.0,       3e38,   1e300, kInfinity};
  return all;
}

// The interval is unknown or holds the value in double and in single precision.
void expect_contains(const RealInterval& r, double in_double, float in_single) {
  if (!r.is_known()) return;
  EXPECT_LE(r.lo, in_double);
  EXPECT_GE(r.hi, in_double);
  EXPECT_LE(r.lo, static_cast<double>(in_single));
  EXPECT_GE(r.hi, static_cast<double>(in_single));
}

RealInterval of(size_t i, size_t j) {
  return hull(real_constant(points()[i]), real_constant(points()[j]));
}
float single(double x) {
  constexpr double kLargest = std::numeric_limits<float>::max();
  if (std::fabs(x) > kLargest) return x > 0 ? HUGE_VALF : -HUGE_VALF;
  return static_cast<float>(x);
}

template <class OfIntervals, class OfValues>
void check_unary(OfIntervals of_intervals, OfValues of_values) {
  int known = 0;
  for (size_t i = 0; i < points().size(); ++i) {
    for (size_t j = i; j < points().size(); ++j) {
      const RealInterval r = of_intervals(of(i, j));
      known += r.is_known();
      for (size_t x = i; x <= j; ++x)
        expect_contains(r, of_values(points()[x]), of_values(single(points()[x])));
    }
  }
  EXPECT_GT(known, 0);
}
template <class OfIntervals, class OfValues>
void check_binary(OfIntervals of_intervals, OfValues of_values) {
  int known = 0;
  const size_t n = points().size();
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = i; j < n; ++j) {
      for (size_t u = 0; u < n; ++u) {
        for (size_t v = u; v < n; ++v) {
          const RealInterval r = of_intervals(of(i, j), of(u, v));
          known += r.is_known();
          for (size_t x = i; x <= j; ++x) {
            for (size_t y = u; y <= v; ++y)
              expect_contains(r, of_values(points()[x], points()[y]),
                              of_values(single(points()[x]), single(points()[y])));
          }
        }
      }
    }
  }
  EXPECT_GT(known, 0);
}

TEST(RealInterval, Add) {
  check_binary([](auto a, auto b) { return add(a, b); }, [](auto x, auto y) { return x + y; });
}
TEST(RealInterval, Subtract) {
  check_binary([](auto a, auto b) { return subtract(a, b); }, [](auto x, auto y) { return x - y; });
}
TEST(RealInterval, Multiply) {
  check_binary([](auto a, auto b) { return multiply(a, b); }, [](auto x, auto y) { return x * y; });
}
TEST(RealInterval, Divide) {
  check_binary([](auto a, auto b) { return divide(a, b); }, [](auto x, auto y) { return x / y; });
}
TEST(RealInterval, MinAndMax) {
  check_binary([](auto a, auto b) { return min(a, b); },
               [](auto x, auto y) { return std::min(x, y); });
  check_binary([](auto a, auto b) { return max(a, b); },
               [](auto x, auto y) { return std::max(x, y); });
}
TEST(RealInterval, Functions) {
  check_unary([](auto a) { return exponential(a); }, [](auto x) { return std::exp(x); });
  check_unary([](auto a) { return logarithm(a); }, [](auto x) { return std::log(x); });
  check_unary([](auto a) { return hyperbolic_tangent(a); }, [](auto x) { return std::tanh(x); });
  check_unary([](auto a) { return square_root(a); }, [](auto x) { return std::sqrt(x); });
  check_unary([](auto a) { return negate(a); }, [](auto x) { return -x; });
  check_unary([](auto a) { return absolute(a); }, [](auto x) { return std::fabs(x); });
}

TEST(RealInterval, WhatMayBeNaNIsUnknown) {
  const RealInterval any{-kInfinity, kInfinity}, zero{0, 0}, one{1, 1};
  EXPECT_FALSE(add(any, any).is_known());
  EXPECT_FALSE(multiply(any, zero).is_known());
  EXPECT_FALSE(divide(one, {-1, 1}).is_known());
  EXPECT_FALSE(logarithm({-1, 1}).is_known());
  EXPECT_FALSE(square_root({-1, 1}).is_known());
  EXPECT_FALSE(real_constant(std::nan("")).is_known());
  EXPECT_FALSE(min(kAnyReal, one).is_known());
  EXPECT_FALSE(hull(one, kAnyReal).is_known());
}

TEST(RealInterval, IntegersAreExactUpTo24Bits) {
  const RealInterval small = to_real(-5, 1 << 24);
  EXPECT_EQ(small.lo, -5);
  EXPECT_EQ(small.hi, 1 << 24);
  EXPECT_GT(to_real(0, (1 << 24) + 1).hi, (1 << 24) + 1);
}

}  // namespace
}  // namespace tilewise::expr
