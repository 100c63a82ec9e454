// SPDX-License-Identifier: Apache-2.0
// What is visible inside one tile, in units of the register blocks: the rest is neither computed
// nor read. A tile has rows (keys in the forward, queries in the backward) and lanes (the other).
#pragma once

#include <cstdint>
#include <cstring>

#include "base/tile.h"
#include "kernels/cpu/generic/eval_tile-inl.h"
#include "kernels/cpu/generic/products-inl.h"
#include "kernels/launch.h"

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

  // visit(Groups) for every run of groups in which something is visible, of rows [begin, end),
  // which are multiples of kGroup. What lies between two runs was not computed.
  template <class Visit>
  void for_each_groups(int begin, int end, const Visit& visit) const {
    constexpr int kRows = kGroup<X>;
    Groups run = {begin / kRows, 0};
    for (int i = 0; i < count; ++i) {
      const int first = segments[i].begin / kRows, last = (segments[i].end + kRows - 1) / kRows;
      const int from = first < begin / kRows ? begin / kRows : first;
      const int to = last < end / kRows ? last : end / kRows;
      if (from >= to) continue;
      if (run.count > 0 && from <= run.first + run.count) {
        run.count = to - run.first;
        continue;
      }
      if (run.count > 0) visit(run);
      run = {from, to - from};
    }
    if (run.count > 0) visit(run);
  }
  int units() const {
    int sum = 0;
    for (int i = 0; i < count; ++i) sum += (segments[i].end - segments[i].begin) / kUnit;
    return sum;
  }
  // Whether the product of P and V takes in pairs that are masked: a tile product takes whole
  // groups and all lanes.
  bool partial() const {
    for (int i = 0; i < count; ++i) {
      const Segment& s = segments[i];
      if (s.masked) return true;
      if (kTiled<X> &&
          (s.begin % kGroup<X> != 0 || s.end % kGroup<X> != 0 || s.j0 > 0 || s.j1 < X::kVectors))
        return true;
    }
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

// Where a tile lies, in local indices: those of its first row and lane.
struct TilePosition {
  int64_t query;
  int64_t key;
  bool rows_are_keys;
  int rows;     // rows at or beyond see nothing
  int lanes;    // lanes at or beyond see nothing; those of the last vector may be let through
  int vectors;  // lane vectors
};

// What a rule says, in terms of the tile: row r sees the lanes [r + first, r + last] of those in
// [lane_begin, lane_end) if it is in [row_begin, row_end).
struct RuleOfTile {
  int first, last;
  int row_begin, row_end;
  int lane_begin, lane_end;
};

inline RuleOfTile rule_of_tile(const tilewise::TileRule& rule, const TilePosition& at) {
  // Bounds are within +-2^62 and indices within lengths, so nothing overflows.
  const auto near = [](int64_t x) {
    constexpr int64_t kFar = 1 << 20;  // beyond any tile
    return static_cast<int>(x < -kFar ? -kFar : x > kFar ? kFar : x);
  };
  const auto least = [](int a, int b) { return a < b ? a : b; };
  const int64_t shift = at.key - at.query;
  const int keys[2] = {near(rule.key_begin - at.key), near(rule.key_end - at.key)};
  const int queries[2] = {near(rule.query_begin - at.query), near(rule.query_end - at.query)};
  if (at.rows_are_keys)
    return {near(shift - rule.band.hi),
            near(shift - rule.band.lo),
            keys[0],
            least(keys[1], at.rows),
            queries[0],
            least(queries[1], at.lanes)};
  return {near(rule.band.lo - shift),
          near(rule.band.hi - shift),
          queries[0],
          least(queries[1], at.rows),
          keys[0],
          least(keys[1], at.lanes)};
}

// Which lanes of vector j the rows [begin, end) see some of, and [full_begin, full_end) all of.
struct RowsOfVector {
  int begin, end, full_begin, full_end;
};

template <class X>
RowsOfVector rows_of_vector(const RuleOfTile& rule, int j) {
  constexpr int L = X::kLanes;
  const auto least = [](int a, int b) { return a < b ? a : b; };
  const auto most = [](int a, int b) { return a < b ? b : a; };
  const int from = most(j * L, rule.lane_begin), to = least(j * L + L, rule.lane_end);
  RowsOfVector rows{};
  if (from >= to) return rows;
  rows.begin = most(from - rule.last, rule.row_begin);
  rows.end = least(to - rule.first, rule.row_end);
  if (to - from < L) return rows;
  rows.full_begin = most(j * L + L - 1 - rule.last, rule.row_begin);
  rows.full_end = least(j * L - rule.first + 1, rule.row_end);
  return rows;
}

// What the band and the ranges of a rule show; its program is for keep_visible.
template <class X>
void find_visible(VisibleTile<X>& tile, const tilewise::TileRule& by, const TilePosition& at) {
  constexpr int L = X::kLanes;
  const RuleOfTile rule = rule_of_tile(by, at);
  const int rows = at.rows, vectors = at.vectors;
  tile.count = 0;
  if (rule.first > rule.last) return;
  RowsOfVector see[X::kVectors] = {};
  bool full = rows % kUnit == 0 && vectors > 0;
  for (int j = 0; j < vectors; ++j) {
    see[j] = rows_of_vector<X>(rule, j);
    full &= see[j].full_begin <= 0 && rows <= see[j].full_end;
  }
  if (full) {
    tile.add({0, rows, 0, vectors, false});
    return;
  }
  for (int r = 0; r < rows; r += kUnit) {
    const int stop = r + kUnit < rows ? r + kUnit : rows;
    int j0 = 0, j1 = vectors;
    while (j0 < j1 && (stop <= see[j0].begin || r >= see[j0].end)) ++j0;
    while (j0 < j1 && (stop <= see[j1 - 1].begin || r >= see[j1 - 1].end)) --j1;
    if (j0 == j1) continue;
    bool masked = stop < r + kUnit;
    for (int j = j0; j < j1; ++j) masked |= r < see[j].full_begin || stop > see[j].full_end;
    if (masked)
      for (int i = r; i < r + kUnit; ++i) {
        const bool is_seen = rule.row_begin <= i && i < rule.row_end;
        const int begin = i + rule.first < rule.lane_begin ? rule.lane_begin : i + rule.first;
        const int end = i + rule.last + 1 > rule.lane_end ? rule.lane_end : i + rule.last + 1;
        for (int j = j0; j < j1; ++j) {
          const auto within = [](int lane) { return lane < 0 ? 0 : lane > L ? L : lane; };
          const int from = within(begin - j * L), to = within(end - j * L);
          tile.bits[i][j] =
              is_seen && from < to ? static_cast<uint16_t>((1u << to) - (1u << from)) : uint16_t{0};
        }
      }
    tile.add({r, r + kUnit, j0, j1, masked});
  }
}

// Bits of a unit, as in VisibleTile.
template <class X>
struct UnitBits {
  static constexpr int kCount = kUnit * X::kVectors;
  static constexpr auto kAll = static_cast<uint16_t>((1u << X::kLanes) - 1);
  uint16_t x[kCount];

  // What a register of bools shows of lane vectors [j0, j1).
  void read(const Operand& from, int j0, int j1) {
    if (from.vector == sizeof(uint16_t) && from.row == sizeof(uint16_t) * X::kVectors) {
      std::memcpy(x, from.data, sizeof(x));
    } else {
      for (int i = 0; i < kUnit; ++i)
        for (int j = j0; j < j1; ++j)
          std::memcpy(x + i * X::kVectors + j, from.at(i, j), sizeof(uint16_t));
    }
    for (uint16_t& bits : x) bits &= kAll;
  }
  void keep(const uint16_t (*rows)[X::kVectors]) {
    for (int n = 0; n < kCount; ++n) x[n] &= rows[n / X::kVectors][n % X::kVectors];
  }
  bool shows(int j) const {
    uint16_t some = 0;
    for (int i = 0; i < kUnit; ++i) some |= x[i * X::kVectors + j];
    return some != 0;
  }
  bool hides(int j) const {
    uint16_t all = kAll;
    for (int i = 0; i < kUnit; ++i) all &= x[i * X::kVectors + j];
    return all != kAll;
  }
};

// Of what is visible, what the first output of the program shows too. The evaluator has begun on
// this tile.
template <class X>
void keep_visible(VisibleTile<X>& tile, TileEvaluator<X>& program) {
  Segment before[kMaxRows / kUnit];
  const int count = tile.count;
  std::memcpy(before, tile.segments, count * sizeof(*before));
  tile.count = 0;
  for (int n = 0; n < count; ++n)
    for (int row = before[n].begin; row < before[n].end; row += kUnit) {
      int j0 = before[n].j0, j1 = before[n].j1;
      program.unit(row, j0, j1);
      UnitBits<X> bits;
      bits.read(program.output(0), j0, j1);
      if (before[n].masked) bits.keep(tile.bits + row);
      while (j0 < j1 && !bits.shows(j0)) ++j0;
      while (j0 < j1 && !bits.shows(j1 - 1)) --j1;
      if (j0 == j1) continue;
      bool masked = false;
      for (int j = j0; j < j1; ++j) masked |= bits.hides(j);
      if (masked) std::memcpy(tile.bits + row, bits.x, sizeof(bits.x));
      tile.add({row, row + kUnit, j0, j1, masked});
    }
}

// What the head of `place` sees of a tile of the run.
template <class X>
void find_visible(VisibleTile<X>& tile, const tilewise::MaskClass& mask,
                  const tilewise::TileRun& run, const TilePosition& at, const TilePlace& place,
                  TileEvaluator<X>& evaluator) {
  constexpr tilewise::TileRule kEverything{};
  const bool is_partial = run.kind == tilewise::TileKind::kPartial;
  const tilewise::TileRule& rule = is_partial ? mask.rules[run.rule] : kEverything;
  find_visible(tile, rule, at);
  if (rule.program < 0 || tile.count == 0) return;
  evaluator.begin(mask.programs[rule.program], place, at.rows, at.vectors);
  keep_visible(tile, evaluator);
}

// The mask of a head of a launch.
template <class Launch>
const tilewise::MaskClass& mask_of(const Launch& args, int64_t batch, int64_t head) {
  return args.mask_classes[args.class_of_head[batch * args.shape.query_heads + head]];
}

// The key tiles of a row that the scores leave something of.
template <class Launch>
tilewise::TileRange significant_tiles(const Launch& args, int64_t batch, int64_t head, int64_t rows,
                                      int64_t row) {
  if (args.significant == nullptr) return {0, INT32_MAX};
  return args.significant[(batch * args.shape.query_heads + head) * rows + row];
}

// The same in the positions that expressions see.
template <class Launch>
TilePlace place_of(const Launch& args, int64_t batch, int64_t head, const TilePosition& at) {
  const tilewise::TileOrigin& origin = args.origin;
  return {origin.batch + batch,
          {origin.head + head, nullptr},
          {origin.query + at.query, nullptr},
          {origin.key + at.key, nullptr}};
}

}  // namespace
