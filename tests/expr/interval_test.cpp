// SPDX-License-Identifier: Apache-2.0
#include "expr/interval.h"

#include <gtest/gtest.h>

#include <vector>

namespace tilewise::expr {
namespace {

// Intervals of up to four neighbours, around 0 and at the ends of the integers.
std::vector<Interval> small_intervals() {
  std::vector<Interval> all;
  for (const int64_t begin : {kMinInt, int64_t{-4}, int64_t{-3}, int64_t{-2}, int64_t{-1},
                              int64_t{0}, int64_t{1}, int64_t{2}, int64_t{61}, kMaxInt - 3}) {
    for (int64_t length = 0; length < 4; ++length) all.push_back({begin, begin + length});
  }
  return all;
}

template <class Body>
void for_each_value(Interval a, const Body& body) {
  for (int64_t x = a.lo;; ++x) {
    body(x);
    if (x == a.hi) return;
  }
}

// Every value of the operator is inside; where nothing overflows, both ends are values as well.
template <class OfIntervals, class OfValues>
void expect_contains(OfIntervals of_intervals, OfValues of_values, bool is_tight) {
  for (const Interval a : small_intervals()) {
    for (const Interval b : small_intervals()) {
      const Interval result = of_intervals(a, b);
      Interval exact{kMaxInt, kMinInt};
      for_each_value(a, [&](int64_t x) {
        for_each_value(b, [&](int64_t y) {
          const int64_t value = of_values(x, y);
          exact = hull(exact, {value, value});
          ASSERT_TRUE(result.contains(value)) << x << ' ' << y << " gives " << value << " outside "
                                              << result.lo << ' ' << result.hi;
        });
      });
      if (is_tight && result != kAnyInteger) {
        EXPECT_EQ(result, exact) << a.lo << ".." << a.hi << " and " << b.lo << ".." << b.hi;
      }
    }
  }
}

TEST(Interval, Add) {
  expect_contains([](Interval a, Interval b) { return add(a, b); }, wrap_add, true);
}
TEST(Interval, Subtract) {
  expect_contains([](Interval a, Interval b) { return subtract(a, b); }, wrap_sub, true);
}
TEST(Interval, Multiply) {
  expect_contains([](Interval a, Interval b) { return multiply(a, b); }, wrap_mul, true);
}
TEST(Interval, Square) {
  for (const Interval a : small_intervals()) {
    for_each_value(a, [&](int64_t x) { EXPECT_TRUE(square(a).contains(wrap_mul(x, x))); });
  }
  EXPECT_EQ(square({-3, 2}), (Interval{0, 9}));
  EXPECT_EQ(square({2, 5}), (Interval{4, 25}));
}
TEST(Interval, FloorDivide) {
  expect_contains([](Interval a, Interval b) { return floor_divide(a, b); },
                  [](int64_t x, int64_t y) { return floor_div(x, y); }, true);
}
TEST(Interval, FloorModulo) {
  expect_contains([](Interval a, Interval b) { return floor_modulo(a, b); },
                  [](int64_t x, int64_t y) { return floor_mod(x, y); }, false);
  EXPECT_EQ(floor_modulo({5, 6}, {4, 4}), (Interval{1, 2}));  // no wrap: tight
  EXPECT_EQ(floor_modulo({3, 4}, {4, 4}), (Interval{0, 3}));
  EXPECT_EQ(floor_modulo({5, 6}, {-4, -4}), (Interval{-3, -2}));
  EXPECT_EQ(floor_modulo({2, 3}, {7, 9}), (Interval{2, 3}));
}
TEST(Interval, Absolute) {
  expect_contains([](Interval a, Interval) { return absolute(a); },
                  [](int64_t x, int64_t) { return wrap_abs(x); }, true);
}
TEST(Interval, Negate) {
  expect_contains([](Interval a, Interval) { return negate(a); },
                  [](int64_t x, int64_t) { return wrap_neg(x); }, true);
}

TEST(Interval, SetsAreThoseOfTheirValues) {
  for (const int64_t begin : {kMinInt, int64_t{-130}, int64_t{-64}, int64_t{-1}, int64_t{0},
                              int64_t{62}, int64_t{100}, kMaxInt - 70}) {
    uint64_t expected = 0;
    for (int64_t length = 0; length < 70; ++length) {
      expected |= set_of_value(begin + length);
      EXPECT_EQ(set_of_values({begin, begin + length}), expected) << begin << ' ' << length;
    }
  }
  EXPECT_EQ(set_of_values(kAnyInteger), ~uint64_t{0});
  EXPECT_EQ(set_of_value(-1) & set_of_values({0, kMaxInt}), 0u);
}

}  // namespace
}  // namespace tilewise::expr
