// SPDX-License-Identifier: Apache-2.0
// Segments and bits of a tile against the definition of a rule.
#pragma once

#include <cstdint>

#include "kernels/cpu/check-inl.h"
#include "kernels/cpu/generic/visible-inl.h"

namespace {

// Random rules: bands, ranges, and ends of tiles.
template <class X>
const char* check_visible() {
  Random random(11);
  for (int n = 0; n < 4000; ++n) {
    TilePosition at{};
    at.query = random.between(0, 300);
    at.key = random.between(0, 300);
    at.rows_are_keys = random.between(0, 1) == 1;
    at.rows = int(random.between(1, kMaxRows));
    at.vectors = int(random.between(1, X::kVectors));
    at.lanes = at.vectors * X::kLanes - int(random.between(0, X::kLanes - 1));
    tilewise::TileRule rule;
    const int64_t kind = random.between(0, 63);
    if (kind & 1) rule.band.lo = random.between(-300, 300);
    if (kind & 2) rule.band.hi = random.between(-300, 300);
    if (kind & 4 && kind & 32) rule.key_begin = random.between(0, 600);
    if (kind & 8 && kind & 32) rule.key_end = random.between(0, 600);
    if (kind & 16 && kind & 32) rule.query_begin = random.between(0, 600);
    if (kind & 4 && kind & 16) rule.query_end = random.between(0, 600);
    VisibleTile<X> tile;
    find_visible<X>(tile, rule, at);
    for (int r = 0; r < kMaxRows; ++r)
      for (int l = 0; l < at.vectors * X::kLanes; ++l) {
        const int64_t query = at.query + (at.rows_are_keys ? l : r),
                      key = at.key + (at.rows_are_keys ? r : l);
        const bool truth = r < at.rows && l < at.lanes && rule.band.lo <= key - query &&
                           key - query <= rule.band.hi && rule.key_begin <= key &&
                           key < rule.key_end && rule.query_begin <= query &&
                           query < rule.query_end;
        int times = 0;
        bool got = false;
        for (int i = 0; i < tile.count; ++i) {
          const Segment& s = tile.segments[i];
          const int j = l / X::kLanes;
          CHECK(s.begin % kUnit == 0 && s.end % kUnit == 0 && s.begin < s.end && s.j0 < s.j1 &&
                    s.j1 <= at.vectors,
                "segment [%d, %d) x [%d, %d)", s.begin, s.end, s.j0, s.j1);
          if (r < s.begin || r >= s.end || j < s.j0 || j >= s.j1) continue;
          ++times;
          got = !s.masked || (tile.bits[r][j] >> (l % X::kLanes) & 1);
        }
        CHECK(times <= 1 && got == truth, "row %d lane %d is %d in %d segments, expected %d", r, l,
              got, times, truth);
      }
  }
  return "";
}

}  // namespace
