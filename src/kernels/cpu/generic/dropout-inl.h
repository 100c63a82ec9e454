// SPDX-License-Identifier: Apache-2.0
// Which pairs of a tile are dropped after the softmax: the random bits of docs/notation.md,
// compared with the threshold. They depend on global positions only, so forward, backward and
// decode draw the same ones, whatever their tiles are.
//
// A block of Philox serves {q, q + 8} x {k, k + 1, k + 8, k + 9} of a cell of 16 x 16 pairs. The
// first three of its ten rounds are shared: they mix what depends on q alone with what depends on
// k alone, but for one multiplication. Numbers of 32 bits lie in the low halves of 64-bit lanes;
// what is in the high halves does not matter.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/generic/visible-inl.h"
#include "kernels/launch.h"

namespace {

inline constexpr int kCell = 16;
inline constexpr int kRounds = 10;
inline constexpr uint64_t kPhiloxMultiplier[2] = {0xD2511F53, 0xCD9E8D57};
inline constexpr uint32_t kPhiloxWeyl[2] = {0x9E3779B9, 0xBB67AE85};

// What the shared rounds give for each counter word 0 (of two queries) and 1 (of four keys), from
// the first cell of a tile on.
struct SharedRounds {
  static constexpr int kQueryCells = kMaxRows / kCell + 1;
  static constexpr int kKeyCells = kMaxRows / kCell + 2;  // even: words of keys fill vectors
  uint64_t query[4][kQueryCells * 8];
  uint64_t key[2][kKeyCells * 4];
};

// Bit l of row r: lane l, counted from where the cells of the tile begin.
struct DroppedTile {
  uint64_t rows[kMaxRows + kCell];
  uint64_t round_key[2][kRounds];  // below 2^32
  SharedRounds shared;
};

// A range of cells, counted from the first one of a tile.
struct Cells {
  int begin;
  int end;
};

template <class X>
TILEWISE_INLINE typename X::Wide wide(uint64_t x) {
  return typename X::Wide{} + x;
}

template <class X>
TILEWISE_INLINE typename X::Wide load_wide(const uint64_t* from) {
  typename X::Wide x;
  std::memcpy(&x, from, sizeof(x));
  return x;
}

// from + 0, from + 1, ...
template <class X>
TILEWISE_INLINE typename X::Wide count_wide(uint64_t from) {
  typename X::Wide x;
  for (int i = 0; i < X::kLanes / 2; ++i) x[i] = from + static_cast<uint64_t>(i);
  return x;
}

template <class X>
void share_rounds(const TilePlace& place, Cells queries, Cells keys, DroppedTile& tile) {
  using Wide = typename X::Wide;
  constexpr int W = X::kLanes / 2;
  const auto& key = tile.round_key;
  const uint64_t head = kPhiloxMultiplier[1] * static_cast<uint32_t>(place.heads.first);
  const Wide m0 = wide<X>(kPhiloxMultiplier[0]), m1 = wide<X>(kPhiloxMultiplier[1]);
  const auto store = [](uint64_t* to, Wide x) { std::memcpy(to, &x, sizeof(x)); };
  const uint64_t first_query = static_cast<uint64_t>(place.queries.first) / kCell * 8;
  for (int i = queries.begin * 8; i < queries.end * 8; i += W) {
    const Wide p0 = X::multiply_low(m0, count_wide<X>(first_query + static_cast<uint64_t>(i)));
    const Wide x2 =
        X::xor3(X::upper(p0), wide<X>(static_cast<uint64_t>(place.batch)), wide<X>(key[1][0]));
    const Wide p1 = X::multiply_low(m1, x2);
    const Wide x0 = X::xor3(X::upper(p1), wide<X>(head), wide<X>(key[0][1]));
    const Wide second = X::multiply_low(m0, x0);
    store(tile.shared.query[0] + i, p0 ^ wide<X>(key[1][1]));
    store(tile.shared.query[1] + i, p1 ^ wide<X>(key[0][2]));
    store(tile.shared.query[2] + i, X::upper(second) ^ wide<X>(key[1][2]));
    store(tile.shared.query[3] + i, second);
  }
  const uint64_t first_key = static_cast<uint64_t>(place.keys.first) / kCell * 4;
  for (int i = keys.begin * 4; i < keys.end * 4; i += W) {
    const Wide x0 = X::xor3(count_wide<X>(first_key + static_cast<uint64_t>(i)),
                            wide<X>(head >> 32), wide<X>(key[0][0]));
    const Wide p0 = X::multiply_low(m0, x0);
    store(tile.shared.key[0] + i, X::upper(p0));
    store(tile.shared.key[1] + i, p0);
  }
}

// Bits of 16 queries, lowest first, for an even key and the next one: whose random bits are below.
template <class X, int V>
TILEWISE_INLINE void compare_words(const typename X::Wide (&near)[V],
                                   const typename X::Wide (&far)[V], typename X::Ints threshold,
                                   uint16_t& even, uint16_t& odd) {
  if constexpr (V == 1) {
    const typename X::Ints words = X::low_halves(near[0], far[0]);
    even = static_cast<uint16_t>(X::int_below(words << 16, threshold));
    odd = static_cast<uint16_t>(X::int_below(words, threshold));
  } else {
    static_assert(V == 2);
    const typename X::Ints low = X::low_halves(near[0], near[1]),
                           high = X::low_halves(far[0], far[1]);
    even = static_cast<uint16_t>(X::int_below(low << 16, threshold) |
                                 X::int_below(high << 16, threshold) << 8);
    odd = static_cast<uint16_t>(X::int_below(low, threshold) | X::int_below(high, threshold) << 8);
  }
}

// One cell: bit i of cell[j] says whether query i drops key j.
template <class X>
TILEWISE_INLINE void drop_cell(const DroppedTile& tile, int query_cell, int key_cell,
                               typename X::Ints threshold, uint16_t (&cell)[kCell]) {
  using Wide = typename X::Wide;
  constexpr int W = X::kLanes / 2, V = 8 / W;
  const Wide m0 = wide<X>(kPhiloxMultiplier[0]), m1 = wide<X>(kPhiloxMultiplier[1]);
  for (int j = 0; j < 4; ++j) {
    Wide x0[V], x1[V], x2[V], x3[V];
    TILEWISE_UNROLL for (int v = 0; v < V; ++v) {
      const auto query = [&](int n) __attribute__((always_inline)) {
        return load_wide<X>(tile.shared.query[n] + query_cell * 8 + v * W);
      };
      const auto key = [&](int n) __attribute__((always_inline)) {
        return wide<X>(tile.shared.key[n][key_cell * 4 + j]);
      };
      x1[v] = X::multiply_low(m1, query(0) ^ key(0));
      x0[v] = X::upper(x1[v]) ^ query(1);
      x2[v] = query(2) ^ key(1);
      x3[v] = query(3);
    }
    TILEWISE_UNROLL for (int round = 3; round < kRounds; ++round) {
      TILEWISE_UNROLL for (int v = 0; v < V; ++v) {
        const Wide p0 = X::multiply_low(m0, x0[v]), p1 = X::multiply_low(m1, x2[v]);
        x0[v] = X::xor3(X::upper(p1), x1[v], wide<X>(tile.round_key[0][round]));
        x2[v] = X::xor3(X::upper(p0), x3[v], wide<X>(tile.round_key[1][round]));
        x1[v] = p1;
        x3[v] = p0;
      }
    }
    compare_words<X, V>(x0, x1, threshold, cell[2 * j], cell[2 * j + 1]);
    compare_words<X, V>(x2, x3, threshold, cell[2 * j + 8], cell[2 * j + 9]);
  }
}

// Cells of a tile whose rows are keys (or queries) in those `rows` and whose lanes are the other in
// those `lanes`.
template <class X, bool kRowsAreKeys>
__attribute__((noinline)) void drop_cells(uint32_t dropout_threshold, Cells rows, Cells lanes,
                                          DroppedTile& tile) {
  typename X::Ints threshold = {};
  threshold += static_cast<int32_t>(dropout_threshold << 16);
  for (int r = rows.begin; r < rows.end; ++r)
    for (int l = lanes.begin; l < lanes.end; ++l) {
      uint16_t cell[kCell];
      drop_cell<X>(tile, kRowsAreKeys ? l : r, kRowsAreKeys ? r : l, threshold, cell);
      if constexpr (!kRowsAreKeys) X::transpose_bits(cell);
      for (int i = 0; i < kCell; ++i)
        std::memcpy(reinterpret_cast<char*>(tile.rows + r * kCell + i) + l * sizeof(uint16_t),
                    cell + i, sizeof(uint16_t));
    }
}

// The cells of `count` positions from `begin` of a tile on; shift: where the tile begins in a cell.
inline Cells cells_of(int begin, int count, int shift) {
  return {(begin + shift) / kCell, (begin + count - 1 + shift) / kCell + 1};
}

// What is dropped of the visible segments of a tile: bit l of row r of the result says it of lane l
// of row r. Elsewhere bits are arbitrary.
template <class X, bool kRowsAreKeys>
const uint64_t* find_dropped(const tilewise::Dropout& dropout, const TilePlace& place,
                             const Segment* segments, int count, DroppedTile& tile) {
  if (count == 0) return tile.rows;
  const int64_t first_row = kRowsAreKeys ? place.keys.first : place.queries.first;
  const int64_t first_lane = kRowsAreKeys ? place.queries.first : place.keys.first;
  const int row_shift = static_cast<int>(first_row % kCell),
            lane_shift = static_cast<int>(first_lane % kCell);
  for (int round = 0; round < kRounds; ++round)
    for (int i = 0; i < 2; ++i)
      tile.round_key[i][round] = static_cast<uint32_t>(
          (dropout.seed >> (32 * i)) + static_cast<uint32_t>(round) * kPhiloxWeyl[i]);
  const int begin = segments[0].begin, end = segments[count - 1].end;
  const Cells rows = cells_of(begin, end - begin, row_shift),
              lanes = cells_of(0, kWidth<X>, lane_shift);
  share_rounds<X>(place, kRowsAreKeys ? lanes : rows, kRowsAreKeys ? rows : lanes, tile);
  for (int i = 0; i < count; ++i) {
    const Segment& s = segments[i];
    drop_cells<X, kRowsAreKeys>(dropout.threshold, cells_of(s.begin, s.end - s.begin, row_shift),
                                cells_of(s.j0 * X::kLanes, (s.j1 - s.j0) * X::kLanes, lane_shift),
                                tile);
  }
  if (lane_shift > 0)
    for (int r = begin; r < end; ++r) tile.rows[row_shift + r] >>= lane_shift;
  return tile.rows + row_shift;
}

// The lanes of vector j of a row of find_dropped.
template <class X>
TILEWISE_INLINE typename X::Mask dropped_lanes(uint64_t row, int j) {
  return X::lanes(static_cast<uint32_t>(row >> (j * X::kLanes)));
}

// Z o P, but for the factor r: P = 0 where the pair is dropped; -0.0, which marks a masked pair,
// stays. p: P of row `row`, words; dropped: as find_dropped has it.
template <class X>
TILEWISE_INLINE void drop_words(const uint64_t* dropped, int row, int j, typename X::Real* p) {
  const auto first = dropped_lanes<X>(dropped[row], j);
  if constexpr (X::kWord == 1)
    X::store(p, X::keep_sign(X::load(p), first));
  else
    X::store(p, X::keep_signs(X::load(p), first, dropped_lanes<X>(dropped[row + 1], j)));
}

// r, or 1 without dropout.
template <class Launch>
double keep_scale(const Launch& args) {
  return args.dropout.threshold > 0 ? args.dropout.keep_scale : 1;
}

}  // namespace
