// SPDX-License-Identifier: Apache-2.0
// Checks of the products of tiles, for vocabularies that have them (kTiled).
#pragma once

#include <vector>

#include "kernels/cpu/generic/decode_products-inl.h"
#include "kernels/cpu/vocabulary_checks-inl.h"

namespace {

// NaN and infinity move from the groups to the pairs, and add_not_finite adds them where visible.
template <class X>
const char* check_not_finite() {
  using Real = typename X::Real;
  constexpr int kW = kWidth<X>, G = kGroup<X>;
  const uint16_t kInf = 0x7f80, kNan = 0x7fc0, kOne = 0x3f80, kTwo = 0x4000, kMasked = 0x8000;
  static uint16_t v[2 * G][G], p[2 * G * kW];
  static Real pairs[G * G], groups[G * G], c[G * kW];
  const auto element_of_p = [&](int key, int lane) -> uint16_t& {
    return p[(key / 2 * kW + lane) * 2 + key % 2];
  };
  for (auto& row : v)
    for (uint16_t& x : row) x = kTwo;
  v[5][3] = kInf, v[G + 8][7] = kNan, v[G + 9][7] = kNan;
  for (int key = 0; key < 2 * G; ++key)
    for (int lane = 0; lane < kW; ++lane)
      element_of_p(key, lane) = (key + lane) % 3 ? kOne : kMasked;
  const Matrix m = {reinterpret_cast<char*>(v), G * 2, 2, DType::kBFloat16};
  contracted_groups<X, true>(m, 0, 2 * G, 2 * G, G, G, pairs, groups);
  for (int key = 0; key < 2 * G; ++key)
    for (int d = 0; d < G; ++d) {
      const uint16_t x = v[key][d], finite = x == kTwo ? x : 0, rest = x == kTwo ? 0 : x;
      CHECK(reinterpret_cast<uint16_t*>(groups)[(key / G * G + d) * G + key % G] == finite,
            "finite (%d, %d)", key, d);
      CHECK(reinterpret_cast<uint16_t*>(pairs)[(key / 2 * G + d) * 2 + key % 2] == rest,
            "rest (%d, %d)", key, d);
    }
  VisibleTile<X> visible;
  visible.count = 0;
  visible.add({0, 2 * G, 0, X::kVectors, true});
  for (Real& x : c) x = Real(1);
  visible.for_each_groups(0, kMaxRows, [&](Groups groups) {
    add_not_finite<X>(pairs, G, reinterpret_cast<Real*>(p), groups, c);
  });
  for (int d = 0; d < G; ++d)
    for (int lane = 0; lane < kW; ++lane) {
      const Real x = c[d * kW + lane];
      const bool inf = d == 3 && (5 + lane) % 3,
                 nan = d == 7 && ((G + 8 + lane) % 3 || (G + 9 + lane) % 3);
      CHECK(nan   ? x != x
            : inf ? x == Real(__builtin_inff())
                  : x == 1,
            "sum (%d, %d): %g", d, lane, double(x));
    }
  return "";
}

// Integers, so every order of sums gives the same.
template <class X>
const char* check_tile_products() {
  using Real = typename X::Real;
  constexpr int kW = kWidth<X>, G = kGroup<X>, kSteps = 3, kColumns = 2 * G;
  constexpr int64_t kStride = (kSteps * X::kStep + 5) * sizeof(Real);
  static Real b[kSteps * X::kStep * kW], c[kColumns * kW], groups[kSteps * X::kStep * kColumns];
  static char a[G * kStride];
  Random random(9);
  const auto fill = [&](void* to, int64_t bytes) {
    for (int64_t i = 0; i < bytes / 2; ++i)
      tilewise::store_element(to, DType::kBFloat16, i, double(random.between(-3, 3)));
  };
  const auto element_of_b = [&](int64_t k, int64_t lane) {
    return element_of_words<X>(reinterpret_cast<char*>(b + k / 2 * kW + lane), k % 2);
  };
  X::begin_tiles();
  for (int n = 0; n < 50; ++n) {
    fill(a, sizeof a);
    fill(b, sizeof b);
    fill(groups, sizeof groups);
    const int64_t depth = random.between(1, kSteps) * X::kStep;
    multiply_group<X>({a, kStride}, b, depth, c);
    for (int64_t i = 0; i < G; ++i)
      for (int64_t l = 0; l < kW; ++l) {
        double truth = 0;
        for (int64_t k = 0; k < depth * 2; ++k)
          truth += element_of_words<X>(a + i * kStride, k) * element_of_b(k, l);
        CHECK(double(c[i * kW + l]) == truth, "multiply_group (%ld, %ld)", long(i), long(l));
      }
    VisibleTile<X> visible;
    visible.count = 0;
    // Some units of some groups: products take whole groups, and those between are left out.
    bool is_seen[kSteps] = {};
    for (int unit = 0; unit < kSteps * G; unit += kUnit) {
      const bool is_first = unit == 0;
      if (!is_first && random.between(0, 3) != 0) continue;
      visible.add({unit, unit + kUnit, 0, is_first ? 1 : 2, false});
      is_seen[unit / G] = true;
    }
    for (Real& x : c) x = Real(1);
    static Real sums[kW];
    for (Real& x : sums) x = Real(2);
    visible.for_each_groups(0, kMaxRows, [&](Groups run) {
      multiply_add_tiles<X>(
          {reinterpret_cast<char*>(groups), kSteps * G * X::kStep * int64_t(sizeof(Real))},
          kColumns, b, run, c);
      X::add_tiles(sums, b + run.first * X::kStep * kW, run.count);
    });
    for (int64_t l = 0; l < kW; ++l) {
      double sum = 2;
      for (int64_t k = 0; k < kSteps * G; ++k)
        if (is_seen[k / G]) sum += element_of_b(k, l);
      CHECK(double(sums[l]) == sum, "add_tiles (%ld)", long(l));
      for (int64_t i = 0; i < kColumns; ++i) {
        double truth = 1;
        for (int64_t k = 0; k < kSteps * G; ++k)
          if (is_seen[k / G])
            truth +=
                element_of_words<X>(reinterpret_cast<char*>(
                                        groups + ((i / G * kSteps + k / G) * G + i % G) * X::kStep),
                                    k % G) *
                element_of_b(k, l);
        CHECK(double(c[i * kW + l]) == truth, "multiply_add_tiles (%ld, %ld)", long(i), long(l));
      }
    }
  }
  X::end_tiles();
  return "";
}

// Few rows of decode, by tiles and as V lies in memory: the same bits, at all scales (so that sums
// are subnormal, or 0 of either sign), from whole groups of keys.
template <class X>
const char* check_few_rows() {
  using Real = typename X::Real;
  constexpr int64_t kKeys = kDecodeTile<X>, kDims = 3 * kGroup<X>;
  const tilewise::AttentionShape shape = {1, kFewRows, 1, 1, kKeys, kDims, kDims};
  const int64_t bytes = DecodeScratch<X>(shape, {}, nullptr).bytes;
  std::vector<Real> memory(bytes / sizeof(Real) + 16), by_tiles(kFewRows * kDims);
  const auto address = reinterpret_cast<uintptr_t>(memory.data());
  DecodeScratch<X> scratch(shape, {}, reinterpret_cast<void*>((address + 63) / 64 * 64));
  scratch.q.behind = nullptr;
  std::vector<uint16_t> v(kKeys * kDims);
  Random random(3);
  X::begin_tiles();
  for (int n = 0; n < 40; ++n) {
    const auto number = [&](int largest) {  // of either sign, exponents from -126 to largest
      return static_cast<uint16_t>(random.between(0, 1) << 15 |
                                   random.between(1, 127 + largest) << 7 | random.between(0, 127));
    };
    const int largest = n % 2 ? 0 : -110;
    for (uint16_t& x : v) x = random.between(0, 9) == 0 ? 0 : number(largest);
    auto* p = reinterpret_cast<uint16_t*>(scratch.p);
    for (int64_t i = 0; i < kKeys * kWidth<X>; ++i) p[i] = number(0) & 0x7fff;
    scratch.visible->count = 0;
    scratch.visible->add({0, kUnit, 0, 1, true});
    scratch.visible->add({64, 64 + 10 * kUnit, 0, 1, false});
    const int lanes = static_cast<int>(random.between(1, kFewRows));
    const auto fill = [&](Real x) {
      for (int64_t i = 0; i < kFewRows * kDims; ++i) scratch.q.o[i] = x;
    };
    const Real before = n % 3 ? Real(0) : Real(-1e-37);
    fill(before);
    const Matrix m = {reinterpret_cast<char*>(v.data()), kDims * 2, 2, DType::kBFloat16};
    const Rows pairs = contracted_rows<X>(m, 0, kKeys, kKeys, kDims, kDims, scratch.values);
    multiply_add_values_by_tiles(scratch, pairs, lanes, kDims, {0, kMaxRows});
    std::memcpy(by_tiles.data(), scratch.q.o, by_tiles.size() * sizeof(Real));
    fill(before);
    Fetch<X> nothing;
    const Rows rows = word_rows<X>(m, 0, kKeys, kKeys, kDims, scratch.values);
    multiply_add_values_of_few(scratch, rows, lanes, kDims, {0, kMaxRows}, nothing);
    for (int lane = 0; lane < lanes; ++lane)
      for (int64_t d = 0; d < kDims; ++d) {
        const Real x = scratch.q.o[lane * kDims + column_of_few_rows(d, X::kLanes)];
        const Real y = by_tiles[lane * kDims + d];
        CHECK(std::memcmp(&x, &y, sizeof x) == 0, "row %d, dim %d: %g, by tiles %g", lane, int(d),
              double(x), double(y));
      }
  }
  X::end_tiles();
  return "";
}

template <class X>
const char* check_tiles() {
  for (const auto check : {check_not_finite<X>, check_tile_products<X>, check_few_rows<X>})
    if (const char* wrong = check(); *wrong) return wrong;
  return "";
}

}  // namespace
