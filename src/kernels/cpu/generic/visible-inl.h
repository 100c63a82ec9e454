// SPDX-License-Identifier: Apache-2.0
// What is visible inside one tile, in units of the register blocks: the rest is neither computed
// nor read. A tile has rows (keys in the forward, queries in the backward) and lanes (the other).
#pragma once

#include <cstdint>

#include "base/tile.h"
#include "kernels/cpu/generic/eval_tile-inl.h"
#include "kernels/cpu/generic/products-inl.h"

namespace {

// Rows that a product takes at once, counted from key 0 likewise: a multiple of kUnit.
template <class X>
inline constexpr int kGroup = kTiled<X> ? X::kStep* X::kWord : kUnit;

// Rows [begin, end) of the tile, lane vectors [j0, j1): visible where the bits say so, everywhere
// if not masked. begin and end are multiples of kUnit.
struct Segment {
  int begin;
  int end;
  int j0;
  int j1;
  bool masked;
};

// Groups [first, first + count) of kGroup rows.
struct Groups {
  int first;
  int count;
};

template <class X>
struct VisibleTile {
  Segment segments[kMaxRows / kUnit];
  int count;
  uint16_t bits[kMaxRows][X::kVectors];  // written for masked segments only

  // Groups of rows in which something is visible. A band has no gaps.
  // Groups with a visible row in [begin, end), which are multiples of kGroup.
  Groups groups(int begin = 0, int end = kMaxRows) const {
    constexpr int kRows = kGroup<X>;
    const int first = segments[0].begin / kRows,
              last = (segments[count - 1].end + kRows - 1) / kRows;
    const int from = first < begin / kRows ? begin / kRows : first;
    const int to = last < end / kRows ? last : end / kRows;
    return {from, to < from ? 0 : to - from};
  }
  int units() const {
    int sum = 0;
    for (int i = 0; i < count; ++i) sum += (segments[i].end - segments[i].begin) / kUnit;
    return sum;
  }
  bool partial() const {
    for (int i = 0; i < count; ++i)
      if (segments[i].masked) return true;
    return false;
  }
  void add(const Segment& s) {
    if (count > 0) {
      Segment& last = segments[count - 1];
      if (last.end == s.begin && last.j0 == s.j0 && last.j1 == s.j1 && last.masked == s.masked) {
        last.end = s.end;
        return;
      }
    }
    segments[count++] = s;
  }
};

// Row r and lane l see each other iff lo <= sign * (r - l) + shift <= hi, where sign = 1 if rows
// are keys and -1 if rows are queries. Rows at or beyond `rows` see nothing.
template <class X>
void find_visible(VisibleTile<X>& tile, const tilewise::Band& band, int sign, int64_t shift,
                  int rows, int vectors) {
  constexpr int L = X::kLanes;
  // In terms of lanes: row r sees the lanes [r + first, r + last]. Bounds are within +-2^62 and
  // shifts within lengths, so nothing overflows.
  const auto near = [](int64_t x) {
    constexpr int64_t kFar = 1 << 20;  // beyond any tile
    return static_cast<int>(x < -kFar ? -kFar : x > kFar ? kFar : x);
  };
  const int first = near(sign > 0 ? shift - band.hi : band.lo - shift);
  const int last = near(sign > 0 ? shift - band.lo : band.hi - shift);
  tile.count = 0;
  if (first > last) return;
  // Per lane vector: rows [begin, end) see some of it, rows [full_begin, full_end) all of it.
  int begin[X::kVectors], end[X::kVectors], full_begin[X::kVectors], full_end[X::kVectors];
  for (int j = 0; j < X::kVectors; ++j) {
    begin[j] = j * L - last;
    end[j] = j * L + L - first;
    full_begin[j] = j * L + L - 1 - last;
    full_end[j] = j * L - first + 1;
  }
  bool full = rows % kUnit == 0;
  for (int j = 0; j < vectors; ++j) full &= full_begin[j] <= 0 && rows <= full_end[j];
  if (full && vectors > 0) {
    tile.add({0, rows, 0, vectors, false});
    return;
  }
  for (int r = 0; r < rows; r += kUnit) {
    const int stop = r + kUnit < rows ? r + kUnit : rows;
    int j0 = 0, j1 = vectors;
    while (j0 < j1 && (stop <= begin[j0] || r >= end[j0])) ++j0;
    while (j0 < j1 && (stop <= begin[j1 - 1] || r >= end[j1 - 1])) --j1;
    if (j0 == j1) continue;
    bool masked = stop < r + kUnit;
    for (int j = j0; j < j1; ++j) masked |= r < full_begin[j] || stop > full_end[j];
    if (masked)
      for (int i = 0; i < kUnit; ++i)
        for (int j = j0; j < j1; ++j) {
          const auto within = [](int lane) { return lane < 0 ? 0 : lane > L ? L : lane; };
          const int from = within(r + i + first - j * L), to = within(r + i + last + 1 - j * L);
          tile.bits[r + i][j] =
              r + i < rows ? static_cast<uint16_t>((1u << to) - (1u << from)) : uint16_t{0};
        }
    tile.add({r, r + kUnit, j0, j1, masked});
  }
}

}  // namespace
