// SPDX-License-Identifier: Apache-2.0
// [Dao22] Algorithm 1 with its loops swapped as in [Dao23]: queries outside, so that O_i, m_i and
// l_i never leave the core's cache. Lanes are queries: the kernel computes S^T = K Q^T and O^T =
// V^T P^T, in which maximum, sum and rescaling are vertical and K is read as it lies in memory.
//
// Deviations from the paper: base 2 (scale * log2(e) is folded into Q); m is an integer near the
// maximum, raised lazily (online_softmax-inl.h); diag(l)^-1 once at the end; LSE replaces (m, l).
// Invariant after key tile j, per row: l = sum_{t <= j} 2^(s_t - m), o = sum_{t <= j} 2^(s_t - m)
// v_t.
//
// IO, in elements, per item of B_r queries: reads B_r d, and (d + e) keys per visited tile of keys;
// writes B_r (e + 1) (schedule/io_model.h counts the same).
#pragma once

#include "kernels/cpu/generic/forward_tiles-inl.h"
#include "kernels/cpu/generic/read_ahead-inl.h"

namespace {

// Keys [k0, k0 + rows) as the products read them.
template <class X>
struct KeyTile {
  int64_t k0;
  int64_t rows;
  Rows k;       // (rows, words(d))
  Rows v;       // (rows / kWord, e)
  Rows groups;  // instead of v where products are of tiles
};

// k, v: the head's matrices. Scratch has memory for what must be copied: keys, values, groups.
template <class X, bool kCareful, class Scratch>
KeyTile<X> load_keys(const Matrix& k, const Matrix& v, const tilewise::AttentionShape& shape,
                     int64_t k0, int64_t rows, Scratch& scratch, Fetch<X>* next = nullptr) {
  const int64_t padded = round_up(rows, kGroup<X>);
  const int64_t width = value_width<X>(shape.value_dim);
  KeyTile<X> keys{};
  keys.k0 = k0;
  keys.rows = rows;
  keys.k = word_rows<X>(k, k0, rows, padded, shape.head_dim, scratch.keys);
  if constexpr (kTiled<X>) {
    keys.groups = contracted_groups<X, kCareful>(v, k0, rows, padded, shape.value_dim, width,
                                                 scratch.values, scratch.groups, next);
    keys.v = {reinterpret_cast<const char*>(scratch.values),
              width * static_cast<int64_t>(sizeof(*scratch.values))};
  } else {
    keys.v = contracted_rows<X>(v, k0, rows, padded, shape.value_dim, width, scratch.values);
  }
  return keys;
}

// l_words += rowsum(P) of some groups of rows; then P as the product P V takes it.
template <class X>
void sum_and_drop(QueryBlock<X>& q, typename X::Real* p, const uint64_t* dropped, Groups groups) {
  X::add_tiles(q.l_words, p + groups.first * X::kStep * kWidth<X>, groups.count);
  const int begin = groups.first * kGroup<X>, end = begin + groups.count * kGroup<X>;
  for (int row = begin; dropped && row < end; row += kUnit)
    drop_unit<X, X::kVectors>(dropped, row, 0, p);
}

// Line 12 for some rows of a tile: O = diag(2^(old m - new m)) O + P V.
template <class X, bool kCareful>
void add_product(QueryBlock<X>& q, const KeyTile<X>& kv, int64_t width, typename X::Real* p,
                 const uint64_t* dropped, const VisibleTile<X>& visible, RowRange range) {
  if constexpr (kTiled<X>) {
    if (q.behind) catch_up(q, width);
    visible.for_each_groups(range.begin, range.end, [&](Groups groups) {
      sum_and_drop(q, p, dropped, groups);
      multiply_add_tiles<X>(kv.groups, width, p, groups, q.o);
      if (kCareful)
        add_not_finite<X>(reinterpret_cast<const typename X::Real*>(kv.v.data), width, p, groups,
                          q.o);
    });
  } else {
    multiply_add_ab<X, kCareful>(kv.v, width, p, visible, range, q.behind, q.o);
  }
  q.behind = nullptr;
}

// One tile of queries. False: O is not finite, and masked pairs may have mixed 0 * NaN into it.
template <class X, bool kCareful>
bool flash_forward_tile(const tilewise::ForwardLaunch& args, const tilewise::ForwardItem& item,
                        ForwardScratch<X>& scratch) {
  using Real = typename X::Real;
  const auto& shape = args.shape;
  const int64_t q0 = item.query_tile * args.geometry.query_tile;
  const int64_t queries = smaller(args.geometry.query_tile, shape.query_length - q0);
  const int blocks = static_cast<int>((queries + kWidth<X> - 1) / kWidth<X>);
  const int64_t width = value_width<X>(shape.value_dim);
  const ScoreScales<Real> scales = score_scales<X>(args);
  const bool has_bias = args.bias.data != nullptr;
  const auto lanes = [&](int i) { return smaller(kWidth<X>, queries - i * kWidth<X>); };
  const int64_t kv_head = item.head / (shape.query_heads / shape.kv_heads);
  const Matrix key = matrix_of(args.key, item.batch, kv_head);
  const Matrix value = matrix_of(args.value, item.batch, kv_head);
  bool mixed = has_bias || args.score;

  for (int i = 0; i < blocks; ++i) {  // line 8: load Q_i; line 2: O = 0, m = -inf, l = 0
    QueryBlock<X>& q = scratch.block[i];
    transpose_words<X>(matrix_of(args.query, item.batch, item.head), q0 + i * kWidth<X>, lanes(i),
                       shape.head_dim, scales.query, q.qt);
    reset(q, width, kPrescaled<X> || has_bias ? Real(1) : scales.to_log2);
  }
  const tilewise::MaskClass& mask = mask_of(args, item.batch, item.head);
  const auto* begin = mask.by_query.begin + item.query_tile;
  const tilewise::TileRange significant =
      significant_tiles(args, item.batch, item.head, mask.by_query.rows, item.query_tile);
  for (const auto *run = mask.by_query.runs + begin[0], *end = mask.by_query.runs + begin[1];
       run < end; ++run)
    for (int64_t j = larger(run->first, significant.first),
                 last = smaller(run->last, significant.last);
         j < last; ++j) {  // line 5
      const int64_t k0 = j * args.geometry.key_tile;
      const KeyTile<X> kv = load_keys<X, kCareful>(  // line 6
          key, value, shape, k0, smaller(args.geometry.key_tile, shape.kv_length - k0), scratch);
      const bool ends = run + 1 == end && j + 1 == last;
      ReadAhead<X> ahead;
      if (!ends)
        ahead = ReadAhead<X>(args, key, value, j + 1 < last ? j + 1 : run[1].first);
      else if (item.next)
        ahead = ReadAhead<X>(args, *item.next);
      for (int i = 0; i < blocks; ++i) {
        const int64_t first = q0 + i * kWidth<X>;
        const int vectors = static_cast<int>((lanes(i) + X::kLanes - 1) / X::kLanes);
        VisibleTile<X>& visible = *scratch.visible;
        const TilePosition at = {first, kv.k0, true, static_cast<int>(kv.rows), kWidth<X>, vectors};
        const TilePlace place = place_of(args, item.batch, item.head, at);
        find_visible(visible, mask, *run, at, place, scratch.evaluator);
        if (visible.count == 0) continue;
        mixed = mixed || visible.partial();
        if (has_bias)
          load_bias<X>(args.bias, item.batch, item.head, first, lanes(i), kv.k0, kv.rows,
                       scratch.bias);
        if (args.score) scratch.evaluator.begin(*args.score, place, at.rows, at.vectors);
        const uint64_t* dropped = nullptr;
        if (args.dropout.threshold > 0)
          dropped = find_dropped<X, true>(args.dropout, place, visible.segments, visible.count,
                                          *scratch.dropped);
        const TileScores<X> tile{.p = scratch.p,
                                 .s = scratch.scores,
                                 .score = args.score ? &scratch.evaluator : nullptr,
                                 .unit = scratch.unit,
                                 .unscaled = scales.unscaled,
                                 .bias = has_bias ? scratch.bias : nullptr,
                                 .bits = visible.bits,
                                 .to_log2 = scales.to_log2,
                                 .key = kv.k0,
                                 .depth = words<X>(shape.head_dim),
                                 .careful = kCareful,
                                 .vectors = at.vectors,
                                 .dropped = dropped};
        // Lines 9 to 12: S, m, P, l, O.
        const auto product = [&](RowRange range) {
          add_product<X, kCareful>(scratch.block[i], kv, width, scratch.p, dropped, visible, range);
        };
        ahead.spread(visible.units() * (blocks - i));
        absorb_tile(
            scratch.block[i], tile, kv.k, visible, [&] { ahead.step(); }, product);
      }
    }
  if (!kCareful && mixed)
    for (int i = 0; i < blocks; ++i)
      if (not_finite(scratch.block[i], shape.value_dim, lanes(i))) return false;
  for (int i = 0; i < blocks; ++i) {  // lines 12 and 13
    if (kTiled<X>) settle<X>(scratch.block[i].o, width * kWidth<X>);
    store_output(args, item, scratch.block[i], q0 + i * kWidth<X>, lanes(i));
  }
  return true;
}

// A masked pair has P = 0, and 0 * NaN would carry a NaN of V to rows that do not see it. The
// result tells: it is finite unless that (or a visible NaN) happened, and then the tile is computed
// again with a product that leaves masked pairs out. Checking V beforehand costs a pass over it.
template <class X>
void flash_forward(const tilewise::ForwardLaunch& args, const tilewise::ForwardItem& item,
                   void* memory) {
  ForwardScratch<X> scratch(args.shape, args.geometry, args.program_sizes, memory);
  if constexpr (kTiled<X>) X::begin_tiles();
  if (!flash_forward_tile<X, false>(args, item, scratch))
    flash_forward_tile<X, true>(args, item, scratch);
  if constexpr (kTiled<X>) X::end_tiles();
}

template <class X>
int64_t forward_scratch_bytes(const tilewise::AttentionShape& shape,
                              const tilewise::Geometry& geometry, const ProgramSizes& programs) {
  return ForwardScratch<X>(shape, geometry, programs, nullptr).bytes;
}

}  // namespace
