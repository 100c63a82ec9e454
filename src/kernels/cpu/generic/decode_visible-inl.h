// SPDX-License-Identifier: Apache-2.0
// What the rows of decode see of a tile of keys, and what they drop. Lanes are rows: queries of
// several heads, whose masks may differ.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/generic/dropout-inl.h"
#include "kernels/cpu/generic/visible-inl.h"
#include "kernels/launch.h"

namespace {

// Which rows an item has.
struct DecodeRows {
  int64_t batch;
  int64_t first_head;
  int64_t first;  // row of the group that is lane 0
  int lanes;
  int64_t query_length;
  int64_t head(int lane) const { return first_head + (first + lane) / query_length; }
  int64_t query(int lane) const { return (first + lane) % query_length; }
};

// Lanes [begin, end) as bits; at most 64 of them.
inline uint64_t lane_bits(int64_t begin, int64_t end) {
  if (begin >= end) return 0;
  return (~uint64_t{0} >> (64 - (end - begin))) << begin;
}

// Lanes of one head and of one tile of queries.
struct HeadLanes {
  int64_t head;
  int begin, end;
  int64_t query;  // local index of lane 0, were it of this head
};

// keys[k] |= the lanes to which a run of tiles shows key k0 + k, for k in [begin, end).
template <class X>
void add_run(const tilewise::ForwardLaunch& args, const DecodeRows& rows, const HeadLanes& lanes,
             const tilewise::TileRun& run, int64_t k0, int begin, int end,
             TileEvaluator<X>& evaluator, uint64_t* keys) {
  const tilewise::MaskClass& mask = mask_of(args, rows.batch, lanes.head);
  if (run.kind == tilewise::TileKind::kFull) {
    for (int k = begin; k < end; ++k) keys[k] |= lane_bits(lanes.begin, lanes.end);
    return;
  }
  const tilewise::TileRule& rule = mask.rules[run.rule];
  uint64_t shown[kMaxRows] = {};
  for (int k = begin; k < end; ++k) {
    const int64_t key = k0 + k;
    if (key < rule.key_begin || key >= rule.key_end) continue;
    const int64_t first = larger(key - rule.band.hi, rule.query_begin) - lanes.query,
                  last = smaller(key - rule.band.lo, rule.query_end - 1) - lanes.query;
    shown[k] = lane_bits(larger(first, lanes.begin), smaller(last + 1, lanes.end));
  }
  if (rule.program >= 0) {
    int64_t queries[kWidth<X>];
    for (int lane = 0; lane < kWidth<X>; ++lane)
      queries[lane] = args.origin.query + lanes.query + lane;
    const TilePlace place = {args.origin.batch + rows.batch,
                             {args.origin.head + lanes.head, nullptr},
                             {0, queries},
                             {args.origin.key + k0, nullptr}};
    constexpr int L = X::kLanes;
    const int j0 = lanes.begin / L, j1 = (lanes.end + L - 1) / L;
    evaluator.begin(mask.programs[rule.program], place, end, j1);
    for (int unit = begin / kUnit * kUnit; unit < end; unit += kUnit) {
      uint64_t any = 0;
      for (int i = 0; i < kUnit; ++i) any |= shown[unit + i];
      if (any == 0) continue;
      evaluator.unit(unit, j0, j1);
      for (int i = 0; i < kUnit; ++i) {
        uint64_t visible = 0;
        for (int j = j0; j < j1; ++j) {
          uint16_t bits;
          std::memcpy(&bits, evaluator.output(0).at(i, j), sizeof(bits));
          visible |= (bits & lane_bits(0, L)) << (j * L);
        }
        shown[unit + i] &= visible;
      }
    }
  }
  for (int k = begin; k < end; ++k) keys[k] |= shown[k];
}

// The first run of a row of tiles that ends behind `tile`.
inline int64_t run_at(const tilewise::TileRows& tiles, int64_t row, int64_t tile) {
  int64_t low = tiles.begin[row], high = tiles.begin[row + 1];
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (tiles.runs[middle].last > tile)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

// Segments and bits of keys that show themselves to the lanes keys[k], of the first `lanes` lanes.
template <class X>
void set_segments(VisibleTile<X>& tile, const uint64_t* keys, int rows, int lanes) {
  constexpr int L = X::kLanes;
  tile.count = 0;
  for (int unit = 0; unit < rows; unit += kUnit) {
    uint64_t some = 0, all = lane_bits(0, lanes);
    for (int i = 0; i < kUnit; ++i) {
      some |= keys[unit + i];
      all &= keys[unit + i];
    }
    if (some == 0) continue;
    const int j0 = __builtin_ctzll(some) / L, j1 = (63 - __builtin_clzll(some)) / L + 1;
    const bool masked = (lane_bits(j0 * L, smaller(j1 * L, lanes)) & ~all) != 0;
    for (int i = unit; masked && i < unit + kUnit; ++i)
      for (int j = j0; j < j1; ++j)
        tile.bits[i][j] = static_cast<uint16_t>(keys[i] >> (j * L) & lane_bits(0, L));
    tile.add({unit, unit + kUnit, j0, j1, masked});
  }
}

// Row r of the tile is key k0 + r, lanes are rows of the group.
template <class X>
void find_visible_rows(VisibleTile<X>& tile, const tilewise::ForwardLaunch& args,
                       const DecodeRows& rows, int64_t k0, int count, TileEvaluator<X>& evaluator) {
  static_assert(kWidth<X> <= 64);
  uint64_t keys[kMaxRows] = {};
  uint64_t see_all = 0;  // lanes that see every key of the tile
  const int64_t key_tile = args.geometry.key_tile, query_tile = args.geometry.query_tile;
  for (int begin = 0, end; begin < rows.lanes; begin = end) {
    const int64_t head = rows.head(begin), query = rows.query(begin), row = query / query_tile;
    end = static_cast<int>(
        smaller(rows.lanes, begin + smaller(rows.query_length, (row + 1) * query_tile) - query));
    const HeadLanes lanes = {head, begin, end, query - begin};
    const tilewise::TileRows& tiles = mask_of(args, rows.batch, head).by_query;
    for (int64_t n = run_at(tiles, row, k0 / key_tile); n < tiles.begin[row + 1]; ++n) {
      const tilewise::TileRun& run = tiles.runs[n];
      const int64_t from = larger(run.first * key_tile - k0, 0),
                    to = smaller(run.last * key_tile - k0, count);
      if (from >= to) break;
      if (run.kind == tilewise::TileKind::kFull && from == 0 && to == count)
        see_all |= lane_bits(begin, end);
      else
        add_run(args, rows, lanes, run, k0, static_cast<int>(from), static_cast<int>(to), evaluator,
                keys);
    }
  }
  for (int k = 0; k < count; ++k) keys[k] |= see_all;
  set_segments(tile, keys, count, rows.lanes);
}

struct DroppedRows {
  DroppedTile tile;         // of one head
  uint64_t rows[kMaxRows];  // of all
};

// As find_dropped has it, of rows that start at key k0; null: no dropout.
template <class X>
const uint64_t* find_dropped_rows(const tilewise::ForwardLaunch& args, const DecodeRows& rows,
                                  int64_t k0, const VisibleTile<X>& visible, DroppedRows& dropped) {
  if (args.dropout.threshold == 0) return nullptr;
  const int first = visible.segments[0].begin, last = visible.segments[visible.count - 1].end;
  std::memset(dropped.rows, 0, sizeof(dropped.rows));
  for (int begin = 0, end; begin < rows.lanes; begin = end) {
    const int64_t head = rows.head(begin), query = rows.query(begin);
    end = static_cast<int>(smaller(rows.lanes, begin + rows.query_length - query));
    const int vectors = (end - begin + X::kLanes - 1) / X::kLanes;
    const Segment all = {first, last, 0, vectors, false};
    const TilePlace place = {args.origin.batch + rows.batch,
                             {args.origin.head + head, nullptr},
                             {args.origin.query + query, nullptr},
                             {args.origin.key + k0, nullptr}};
    const uint64_t* of_head = find_dropped<X, true>(args.dropout, place, &all, 1, dropped.tile);
    for (int r = first; r < last; ++r)
      dropped.rows[r] |= (of_head[r] & lane_bits(0, end - begin)) << begin;
  }
  return dropped.rows;
}

}  // namespace
