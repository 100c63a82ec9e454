// SPDX-License-Identifier: Apache-2.0
// The verbs of flash_backward: what is loaded and stored per tile.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/generic/backward_scores-inl.h"

namespace {

inline constexpr int kUnits = kMaxRows / kUnit;

// Which lane vectors of a panel a unit of queries sees: [j0, j1).
struct UnitRange {
  uint8_t j0;
  uint8_t j1;
};

// A worker's memory for one tile of keys (panels of kWidth) and one tile of queries.
template <class X>
struct BackwardScratch {
  using Real = typename X::Real;
  int64_t q_width;            // head_dim in whole register blocks of dK^T
  int64_t g_width;            // value_dim, of dV^T
  int64_t k_width;            // head_dim in whole vectors, of dQ
  int64_t panel_size;         // words of P or dS of one panel
  Real *kt, *vt;              // (panels, words(dim), kWidth)
  Real *dkt, *dvt;            // (panels, width, kWidth)
  Real* k_words;              // (key_tile / kWord, k_width), where keys must be copied
  Real* k_rest;               // NaN and infinity of K alone, where products are of tiles
  Real *q_rows, *g_rows;      // (query_tile, words(dim)), where these must be copied
  Real *q_words, *g_words;    // (query_tile / kWord, width), likewise
  Real *q_groups, *g_groups;  // as many, where products are of tiles: contracted_groups
  Real *s, *dp;               // (kGroup, kWidth), where products are of tiles
  Real *p, *ds;               // (query_tile / kWord, kWidth)
  Real* ds_keys;              // (panels, query_tile / kWord, kWidth)
  Real *bias, *ds_real;       // (query_tile, kWidth)
  Real* unit;                 // (kUnit, kWidth), where products are not of tiles
  Real *minus_lse, *minus_lse_low, *minus_delta;
  VisibleTile<X>* visible;
  DroppedTile* dropped;
  UnitRange* ranges;           // (panels, kUnits)
  TileEvaluator<X> evaluator;  // rows are queries
  int64_t bytes;

  BackwardScratch(const tilewise::AttentionShape& shape, const tilewise::Geometry& g,
                  const ProgramSizes& programs, void* memory) {
    Scratch part{static_cast<char*>(memory)};
    constexpr int64_t W = X::kWord;
    const int64_t keys = round_up(g.backward_key_tile, kWidth<X>), panels = keys / kWidth<X>;
    const int64_t rows = round_up(g.backward_query_tile, kGroup<X>);
    const int64_t d = words<X>(shape.head_dim), e = words<X>(shape.value_dim);
    q_width = value_width<X>(shape.head_dim);
    g_width = value_width<X>(shape.value_dim);
    k_width = kTiled<X> ? q_width : round_up(shape.head_dim, X::kLanes);
    panel_size = rows / W * kWidth<X>;
    kt = part.take<Real>(d * keys);
    vt = part.take<Real>(e * keys);
    dkt = part.take<Real>(q_width * keys);
    dvt = part.take<Real>(g_width * keys);
    k_words = part.take<Real>(keys / W * k_width);
    k_rest = kTiled<X> ? part.take<Real>(keys / W * k_width) : nullptr;
    q_rows = part.take<Real>(rows * d);
    g_rows = part.take<Real>(rows * e);
    q_words = part.take<Real>(rows / W * q_width);
    g_words = part.take<Real>(rows / W * g_width);
    q_groups = kTiled<X> ? part.take<Real>(rows / W * q_width) : nullptr;
    g_groups = kTiled<X> ? part.take<Real>(rows / W * g_width) : nullptr;
    s = kTiled<X> ? part.take<Real>(kGroup<X> * kWidth<X>) : nullptr;
    dp = kTiled<X> ? part.take<Real>(kGroup<X> * kWidth<X>) : nullptr;
    p = part.take<Real>(panel_size);
    ds = part.take<Real>(panel_size);
    ds_keys = part.take<Real>(panels * panel_size);
    bias = part.take<Real>(rows * kWidth<X>);
    ds_real = part.take<Real>(rows * kWidth<X>);
    unit = kTiled<X> ? nullptr : part.take<Real>(kUnit * kWidth<X>);
    minus_lse = part.take<Real>(rows);
    minus_lse_low = part.take<Real>(rows);
    minus_delta = part.take<Real>(rows);
    visible = part.take<VisibleTile<X>>(1);
    dropped = part.take<DroppedTile>(1);
    ranges = part.take<UnitRange>(panels * kUnits);
    evaluator = TileEvaluator<X>(programs, false, part);
    bytes = part.used;
  }
};

template <class X>
void set_ranges(const VisibleTile<X>& visible, UnitRange* ranges) {
  std::memset(ranges, 0, kUnits * sizeof(*ranges));
  for (int i = 0; i < visible.count; ++i) {
    const Segment& s = visible.segments[i];
    for (int row = s.begin; row < s.end; row += kUnit)
      ranges[row / kUnit] = {static_cast<uint8_t>(s.j0), static_cast<uint8_t>(s.j1)};
  }
}

// (rows, kWidth) <- log2(e) * bias of `rows` queries from q0 and `lanes` keys from k0.
template <class X>
void load_bias_rows(const Matrix& m, int64_t q0, int64_t rows, int64_t k0, int64_t lanes,
                    typename X::Real* to) {
  using Real = typename X::Real;
  for (int64_t r = 0; r < round_up(rows, kUnit); ++r, to += kWidth<X>) {
    std::memset(to, 0, kWidth<X> * sizeof(Real));
    if (r < rows) load_row<X>(m, q0 + r, k0, lanes, to);
    for (int lane = 0; lane < kWidth<X>; lane += X::kLanes)
      X::store(to + lane, X::mul(X::load(to + lane), X::broadcast(static_cast<Real>(kLog2E))));
  }
}

// Q_i with the bits of the forward's Q^T: (padded, head_dim), times scale * log2(e).
template <class X>
Rows scaled_rows(const Matrix& m, int64_t first, int64_t count, int64_t padded, int64_t dim,
                 typename X::Real factor, typename X::Real* to) {
  using Real = typename X::Real;
  for (int64_t r = 0; r < count; ++r) load_row<X>(m, first + r, 0, dim, to + r * dim);
  std::memset(to + count * dim, 0, (padded - count) * dim * sizeof(Real));
  int64_t c = 0;
  for (; c + X::kLanes <= count * dim; c += X::kLanes)
    X::store(to + c, X::mul(X::load(to + c), X::broadcast(factor)));
  for (; c < count * dim; ++c) to[c] *= factor;
  return {reinterpret_cast<const char*>(to), dim * static_cast<int64_t>(sizeof(Real))};
}

// -log2(e) * LSE as the sum of two numbers; -inf and 0 for a row that sees nothing.
template <class Real>
void split_lse(Real lse, Real& minus_lse, Real& minus_lse_low) {
  const double product = lse * kLog2E;
  minus_lse = lse == -__builtin_inff() ? lse : static_cast<Real>(-product);
  const bool is_finite = minus_lse * 0 == 0;
  if constexpr (sizeof(Real) == 4)
    minus_lse_low = is_finite ? static_cast<Real>(-product - static_cast<double>(minus_lse)) : 0;
  else
    minus_lse_low = is_finite ? __builtin_fma(-lse, kLog2E, -minus_lse) - lse * kLog2ELow : 0;
}

// dBias += dS, queries ascending, over the visible units.
template <class X>
void add_grad_bias(const Matrix& m, int64_t q0, int64_t rows, int64_t k0, int64_t lanes,
                   const VisibleTile<X>& visible, const typename X::Real* ds) {
  using Real = typename X::Real;
  for (int i = 0; i < visible.count; ++i) {
    const Segment& s = visible.segments[i];
    const int64_t end = smaller(s.j1 * X::kLanes, lanes);
    for (int64_t r = s.begin; r < smaller(s.end, rows); ++r)
      for (int64_t lane = s.j0 * X::kLanes; lane < end; ++lane) {
        char* to = m.at(q0 + r, k0 + lane);
        Real sum;
        std::memcpy(&sum, to, sizeof(sum));
        sum += ds[r * kWidth<X> + lane];
        std::memcpy(to, &sum, sizeof(sum));
      }
  }
}

// As score_scales has them.
template <class X>
ScoreScales<typename X::Real> panel_scales(const tilewise::BackwardLaunch& args) {
  return score_scales<X>(scale_of<X>(args.scale, args.scale_f64), args.score != nullptr);
}

// One item's tile of keys.
struct BackwardKeys {
  int64_t k0;
  int64_t keys;
  int64_t panels;
  Rows k;  // (keys / kWord, k_width)
};

// Line 7: load K_j and V_j; line 8: dK_j = dV_j = 0.
template <class X, bool kCareful>
BackwardKeys load_key_panels(const tilewise::BackwardLaunch& args,
                             const tilewise::BackwardItem& item, BackwardScratch<X>& scratch) {
  using Real = typename X::Real;
  const auto& shape = args.shape;
  BackwardKeys tile;
  tile.k0 = item.key_tile * args.geometry.backward_key_tile;
  tile.keys = smaller(args.geometry.backward_key_tile, shape.kv_length - tile.k0);
  tile.panels = (tile.keys + kWidth<X> - 1) / kWidth<X>;
  const Matrix k = matrix_of(args.key, item.batch, item.kv_head),
               v = matrix_of(args.value, item.batch, item.kv_head);
  for (int64_t p = 0; p < tile.panels; ++p) {
    const int64_t first = tile.k0 + p * kWidth<X>,
                  lanes = smaller(kWidth<X>, tile.keys - p * kWidth<X>);
    transpose_words<X>(k, first, lanes, shape.head_dim, 1,
                       scratch.kt + p * words<X>(shape.head_dim) * kWidth<X>);
    transpose_words<X>(v, first, lanes, shape.value_dim, 1,
                       scratch.vt + p * words<X>(shape.value_dim) * kWidth<X>);
  }
  const int64_t padded = round_up(tile.keys, kTiled<X> ? kGroup<X> : X::kWord);
  tile.k = contracted_rows<X>(k, tile.k0, tile.keys, padded, shape.head_dim, scratch.k_width,
                              scratch.k_words);
  if constexpr (kTiled<X> && kCareful)
    for (int64_t i = 0; i < padded / X::kWord * scratch.k_width; i += X::kLanes) {
      const auto word = X::load(scratch.k_words + i), rest = X::not_finite_halves(word);
      X::store(scratch.k_rest + i, rest);
      X::store(scratch.k_words + i, X::without_bits(word, rest));
    }
  std::memset(scratch.dkt, 0, tile.panels * scratch.q_width * kWidth<X> * sizeof(Real));
  std::memset(scratch.dvt, 0, tile.panels * scratch.g_width * kWidth<X> * sizeof(Real));
  return tile;
}

// One tile of queries of one head.
template <class X>
struct BackwardQueries {
  int64_t head;
  int64_t q0;
  int64_t rows;
  Rows q, g;                // (rows, words(dim)): Q_i, dO_i
  Rows q_words, g_words;    // (rows / kWord, width)
  Rows q_groups, g_groups;  // instead of those where products are of tiles
};

// Line 10: load Q_i, dO_i, LSE_i, D_i.
template <class X, bool kCareful>
BackwardQueries<X> load_queries(const tilewise::BackwardLaunch& args, int64_t batch, int64_t head,
                                int64_t query_tile, BackwardScratch<X>& scratch) {
  using Real = typename X::Real;
  const auto& shape = args.shape;
  BackwardQueries<X> tile;
  tile.head = head;
  tile.q0 = query_tile * args.geometry.backward_query_tile;
  tile.rows = smaller(args.geometry.backward_query_tile, shape.query_length - tile.q0);
  const int64_t padded = round_up(tile.rows, kGroup<X>);
  const Matrix q = matrix_of(args.query, batch, head), g = matrix_of(args.grad_output, batch, head);
  if constexpr (X::kWord == 1)
    tile.q = scaled_rows<X>(q, tile.q0, tile.rows, padded, shape.head_dim,
                            panel_scales<X>(args).query, scratch.q_rows);
  else
    tile.q = word_rows<X>(q, tile.q0, tile.rows, padded, shape.head_dim, scratch.q_rows);
  tile.g = word_rows<X>(g, tile.q0, tile.rows, padded, shape.value_dim, scratch.g_rows);
  if constexpr (kTiled<X>) {
    tile.q_groups =
        contracted_groups<X, kCareful>(q, tile.q0, tile.rows, padded, shape.head_dim,
                                       scratch.q_width, scratch.q_words, scratch.q_groups);
    tile.g_groups =
        contracted_groups<X, kCareful>(g, tile.q0, tile.rows, padded, shape.value_dim,
                                       scratch.g_width, scratch.g_words, scratch.g_groups);
  } else {
    tile.q_words = contracted_rows<X>(q, tile.q0, tile.rows, padded, shape.head_dim,
                                      scratch.q_width, scratch.q_words);
    tile.g_words = contracted_rows<X>(g, tile.q0, tile.rows, padded, shape.value_dim,
                                      scratch.g_width, scratch.g_words);
  }
  const int64_t at = (batch * shape.query_heads + head) * shape.query_length + tile.q0;
  const Real *lse = static_cast<const Real*>(args.lse) + at,
             *delta = static_cast<const Real*>(args.delta) + at;
  for (int64_t r = 0; r < padded; ++r) {
    split_lse(r < tile.rows ? lse[r] : static_cast<Real>(-__builtin_inff()), scratch.minus_lse[r],
              scratch.minus_lse_low[r]);
    scratch.minus_delta[r] = r < tile.rows ? -delta[r] : Real(0);
  }
  return tile;
}

// Line 24: write dK_j and dV_j. False: they are not finite.
template <class X>
bool store_key_gradients(const tilewise::BackwardLaunch& args, const tilewise::BackwardItem& item,
                         const BackwardKeys& tile, const BackwardScratch<X>& scratch) {
  using Real = typename X::Real;
  const auto& shape = args.shape;
  if (kTiled<X>) {
    settle<X>(scratch.dkt, tile.panels * scratch.q_width * kWidth<X>);
    settle<X>(scratch.dvt, tile.panels * scratch.g_width * kWidth<X>);
  }
  Real scale[kWidth<X>], keep[kWidth<X>];  // r of dropout, which P lacks
  for (int lane = 0; lane < kWidth<X>; ++lane) {
    scale[lane] = scale_of<X>(args.scale, args.scale_f64);
    keep[lane] = static_cast<Real>(keep_scale(args));
  }
  const Matrix dk = matrix_of(args.grad_key, item.batch, item.kv_head),
               dv = matrix_of(args.grad_value, item.batch, item.kv_head);
  for (int64_t p = 0; p < tile.panels; ++p) {
    const int64_t first = tile.k0 + p * kWidth<X>,
                  lanes = smaller(kWidth<X>, tile.keys - p * kWidth<X>);
    transpose_out<X>(scratch.dkt + p * scratch.q_width * kWidth<X>, scale, shape.head_dim, dk,
                     first, lanes);
    transpose_out<X>(scratch.dvt + p * scratch.g_width * kWidth<X>, keep, shape.value_dim, dv,
                     first, lanes);
  }
  return !any_not_finite<X>(scratch.dkt, tile.panels * scratch.q_width * kWidth<X>) &&
         !any_not_finite<X>(scratch.dvt, tile.panels * scratch.g_width * kWidth<X>);
}

}  // namespace
