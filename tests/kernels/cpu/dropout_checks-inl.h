// SPDX-License-Identifier: Apache-2.0
// The words that dropout needs, and the bits of tiles against the definition, pair by pair.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/check-inl.h"
#include "kernels/cpu/generic/dropout-inl.h"
#include "kernels/reference/dropout.h"

namespace {

template <class X>
const char* check_dropout_words() {
  constexpr int L = X::kLanes, W = L / 2;
  using Wide = typename X::Wide;
  Random random(5);
  const auto bits64 = [&] { return uint64_t{random.bits()} << 32 | random.bits(); };
  for (int n = 0; n < 100; ++n) {
    uint64_t a[W], b[W], c[W], r[W];
    for (int i = 0; i < W; ++i) a[i] = bits64(), b[i] = bits64(), c[i] = bits64();
    const Wide x = load_wide<X>(a), y = load_wide<X>(b), z = load_wide<X>(c);
    Wide got = X::multiply_low(x, y);
    std::memcpy(r, &got, sizeof r);
    for (int i = 0; i < W; ++i)
      CHECK(r[i] == (a[i] & 0xffffffff) * (b[i] & 0xffffffff), "multiply_low lane %d", i);
    got = X::upper(x);
    std::memcpy(r, &got, sizeof r);
    for (int i = 0; i < W; ++i)
      CHECK(static_cast<uint32_t>(r[i]) == a[i] >> 32, "upper lane %d", i);
    got = X::xor3(x, y, z);
    std::memcpy(r, &got, sizeof r);
    for (int i = 0; i < W; ++i) CHECK(r[i] == (a[i] ^ b[i] ^ c[i]), "xor3 lane %d", i);
    const typename X::Ints halves = X::low_halves(x, y), others = X::low_halves(z, x);
    uint32_t half[L], other[L];
    std::memcpy(half, &halves, sizeof half);
    std::memcpy(other, &others, sizeof other);
    const uint32_t below = X::int_below(halves, others);
    CHECK(below >> L == 0, "int_below: bits beyond the lanes");
    for (int i = 0; i < L; ++i) {
      CHECK(half[i] == static_cast<uint32_t>(i < W ? a[i] : b[i - W]), "low_halves lane %d", i);
      CHECK((below >> i & 1) == uint32_t{half[i] < other[i]}, "int_below lane %d", i);
    }
    uint16_t rows[16], columns[16];
    for (int i = 0; i < 16; ++i) rows[i] = columns[i] = static_cast<uint16_t>(random.bits());
    X::transpose_bits(columns);
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < 16; ++j)
        CHECK((rows[i] >> j & 1) == (columns[j] >> i & 1), "transpose_bits %d, %d", i, j);
  }
  return "";
}

// Elements of random words, some of them -0.0.
template <class X>
const char* check_drop_words() {
  using Real = typename X::Real;
  constexpr int L = X::kLanes, kBytes = sizeof(Real) / X::kWord;
  Random random(6);
  for (int n = 0; n < 100; ++n) {
    unsigned char before[sizeof(Real) * L], after[sizeof(Real) * L];
    for (unsigned char& byte : before) byte = static_cast<unsigned char>(random.bits());
    Real p[L];
    std::memcpy(p, before, sizeof p);
    const uint64_t dropped[2] = {random.bits(), random.bits()};
    drop_words<X>(dropped, 0, 0, p);
    std::memcpy(after, p, sizeof p);
    for (int lane = 0; lane < L; ++lane)
      for (int row = 0; row < X::kWord; ++row)
        for (int byte = 0; byte < kBytes; ++byte) {
          const int at = (lane * X::kWord + row) * kBytes + byte;
          const int sign = byte == kBytes - 1 ? 0x80 : 0;
          const bool is_dropped = dropped[row] >> lane & 1;
          CHECK(after[at] == (is_dropped ? before[at] & sign : before[at]),
                "drop_words: byte %d of row %d, lane %d", byte, row, lane);
        }
  }
  return "";
}

template <class X, bool kRowsAreKeys>
const char* check_dropped_tiles() {
  static DroppedTile tile;
  Random random(7);
  constexpr int kOffsets = 48;  // every place in a cell, at one side and at the other
  for (int n = 0; n < 2 * kOffsets; ++n) {
    std::memset(&tile, 0xff, sizeof tile);
    const tilewise::Dropout dropout = {uint64_t{random.bits()} << 32 | random.bits(),
                                       static_cast<uint32_t>(random.between(1, 65535)), 1};
    const int64_t far = n % 3 == 0 ? (int64_t{1} << 32) - 40 : n % 3 == 1 ? int64_t{1} << 60 : 0;
    const int64_t batch = random.between(0, 5) + far, head = random.between(0, 40) + far;
    const int64_t query = far + n, key = far + (n < kOffsets ? 0 : random.between(0, 90));
    const TilePlace place = {batch, {head, nullptr}, {query, nullptr}, {key, nullptr}};
    const int begin = 8 * static_cast<int>(random.between(0, 20)),
              end = begin + 8 * static_cast<int>(random.between(1, 32 - begin / 8));
    const int middle = (begin + end) / 16 * 8, j0 = static_cast<int>(random.between(0, 1));
    const int first = j0 < X::kVectors ? j0 : 0;
    const Segment both[] = {{begin, middle, 0, X::kVectors, true},
                            {middle, end, first, X::kVectors, false}};
    const bool is_one = middle == begin;
    const uint64_t* rows = find_dropped<X, kRowsAreKeys>(dropout, place, is_one ? both + 1 : both,
                                                         is_one ? 1 : 2, tile);
    for (int r = begin; r < end; ++r)
      for (int l = (r < middle ? 0 : first) * X::kLanes; l < kWidth<X>; ++l) {
        const int64_t q = query + (kRowsAreKeys ? l : r), k = key + (kRowsAreKeys ? r : l);
        const bool truth =
            tilewise::reference::dropout_bits(dropout.seed, batch, head, q, k) < dropout.threshold;
        CHECK((rows[r] >> l & 1) == uint64_t{truth}, "row %d, lane %d of a tile at %lld, %lld", r,
              l, static_cast<long long>(query), static_cast<long long>(key));
      }
  }
  return "";
}

template <class X>
const char* check_dropout() {
  for (const char* (*check)() : {check_dropout_words<X>, check_drop_words<X>,
                                 check_dropped_tiles<X, true>, check_dropped_tiles<X, false>}) {
    const char* wrong = check();
    if (*wrong != 0) return wrong;
  }
  return "";
}

}  // namespace
