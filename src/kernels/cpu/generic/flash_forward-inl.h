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

namespace {

// Keys [k0, k0 + rows) as the products read them.
template <class X>
struct KeyTile {
  int64_t k0;
  int64_t rows;
  Rows k;  // (rows, words(d))
  Rows v;  // (rows / kWord, e)
};

template <class X>
KeyTile<X> load_keys(const tilewise::ForwardLaunch& args, const tilewise::ForwardItem& item,
                     int64_t tile, ForwardScratch<X>& scratch) {
  const auto& shape = args.shape;
  const int64_t kv_head = item.head / (shape.query_heads / shape.kv_heads);
  const int64_t k0 = tile * args.geometry.key_tile;
  const int64_t rows = smaller(args.geometry.key_tile, shape.kv_length - k0);
  const int64_t padded = round_up(rows, kUnit);
  const Matrix k = matrix_of(args.key, item.batch, kv_head),
               v = matrix_of(args.value, item.batch, kv_head);
  return {k0, rows, word_rows<X>(k, k0, rows, padded, shape.head_dim, scratch.keys),
          contracted_rows<X>(v, k0, rows, padded, shape.value_dim,
                             round_up(shape.value_dim, X::kRows), scratch.values)};
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
  const int64_t width = round_up(shape.value_dim, X::kRows);
  const Real scale =
      static_cast<Real>(scale_of<X>(args.scale, args.scale_f64) * static_cast<Real>(kLog2E));
  const bool has_bias = args.bias.data != nullptr;
  const auto lanes = [&](int i) { return smaller(kWidth<X>, queries - i * kWidth<X>); };
  bool mixed = has_bias;

  for (int i = 0; i < blocks; ++i) {  // line 8: load Q_i; line 2: O = 0, m = -inf, l = 0
    QueryBlock<X>& q = scratch.block[i];
    transpose_words<X>(matrix_of(args.query, item.batch, item.head), q0 + i * kWidth<X>, lanes(i),
                       shape.head_dim, scale, q.qt);
    reset(q, width, kPrescaled<X> || has_bias ? Real(1) : scale);
  }
  const auto* begin = args.by_query.begin + item.query_tile;
  for (int64_t run = begin[0]; run < begin[1]; ++run)
    for (int64_t j = args.by_query.runs[run].first; j < args.by_query.runs[run].last;
         ++j) {                                                 // line 5
      const KeyTile<X> kv = load_keys(args, item, j, scratch);  // line 6
      for (int i = 0; i < blocks; ++i) {
        const int64_t first = q0 + i * kWidth<X>;
        const int vectors = static_cast<int>((lanes(i) + X::kLanes - 1) / X::kLanes);
        VisibleTile<X>& visible = *scratch.visible;
        find_visible<X>(visible, args.band, 1, kv.k0 - first, static_cast<int>(kv.rows), vectors);
        if (visible.count == 0) continue;
        mixed = mixed || visible.partial();
        if (has_bias)
          load_bias<X>(args.bias, item.batch, item.head, first, lanes(i), kv.k0, kv.rows,
                       scratch.bias);
        const TileScores<X> tile{scratch.p,    nullptr, has_bias ? scratch.bias : nullptr,
                                 visible.bits, scale,   words<X>(shape.head_dim),
                                 width,        kCareful};
        absorb_scores(scratch.block[i], tile, kv.k, visible);  // lines 9 to 11: S, m, P, l
        multiply_add_ab<X, kCareful>(kv.v, width, scratch.p, visible,
                                     scratch.block[i].o);  // line 12: O += P V
      }
    }
  if (!kCareful && mixed)
    for (int i = 0; i < blocks; ++i)
      if (not_finite(scratch.block[i], shape.value_dim, lanes(i))) return false;
  for (int i = 0; i < blocks; ++i)  // lines 12 and 13
    store_output(args, item, scratch.block[i], q0 + i * kWidth<X>, lanes(i));
  return true;
}

// A masked pair has P = 0, and 0 * NaN would carry a NaN of V to rows that do not see it. The
// result tells: it is finite unless that (or a visible NaN) happened, and then the tile is computed
// again with a product that leaves masked pairs out. Checking V beforehand costs a pass over it.
template <class X>
void flash_forward(const tilewise::ForwardLaunch& args, const tilewise::ForwardItem& item,
                   void* memory) {
  ForwardScratch<X> scratch(args.shape, args.geometry, memory);
  if (!flash_forward_tile<X, false>(args, item, scratch))
    flash_forward_tile<X, true>(args, item, scratch);
}

template <class X>
int64_t forward_scratch_bytes(const tilewise::AttentionShape& shape,
                              const tilewise::Geometry& geometry) {
  return ForwardScratch<X>(shape, geometry, nullptr).bytes;
}

}  // namespace
