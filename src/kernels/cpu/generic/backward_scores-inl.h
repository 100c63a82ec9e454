// SPDX-License-Identifier: Apache-2.0
// P and dS of a panel of keys, recomputed in registers: the backward's counterpart of
// online_softmax-inl.h. Lanes are keys, rows are queries; neither S nor dP reaches memory.
//
// With dropout the P that is stored is Z o P without the factor r, which dV gets once, at the end;
// dS is that of the whole P.
//
// Forward: P = 2^(S - LSE), so dS = P * (dP - delta) with delta = rowsum(dO * O) - dLSE. A row with
// one dominant key must get P = 1 also where S and LSE are large, so S has the bits that it has in
// the forward (Q times scale * log2(e), summed from 0), and LSE is two numbers, subtracted last. In
// the same way delta is summed as dP is (backward_prepare) and subtracted last: where O = V, dS is
// 0. Where P and dS are rounded to bf16 anyway, one LSE will do, and dP may start at -delta.
#pragma once

#include <cstdint>

#include "kernels/cpu/generic/backward_tables-inl.h"
#include "kernels/cpu/generic/forward_tiles-inl.h"

namespace {

// P and dS need no more than bf16.
template <class X>
inline constexpr bool kCoarse = X::kWord == 2;

// What all units of a panel share: `rows` queries x kWidth keys.
template <class X>
struct PanelScores {
  using Real = typename X::Real;
  Rows q;          // (rows, words(head_dim))
  Rows g;          // (rows, words(value_dim)): dO
  const Real* kt;  // (words(head_dim), kWidth)
  const Real* vt;  // (words(value_dim), kWidth)
  int64_t q_depth;
  int64_t g_depth;
  const Real* minus_lse;      // (rows), base 2; -inf for a row that sees nothing
  const Real* minus_lse_low;  // (rows): what rounding minus_lse left
  const Real* minus_delta;    // (rows)
  const Real* bias;           // (rows, kWidth), times log2(e); null: none
  const uint16_t (*bits)[X::kVectors];
  TileEvaluator<X>* score;  // gives the scores of the unit at hand and their derivative by s
  Real* unit;               // (kUnit, kWidth): the S that it reads, where products are not of tiles
  Real unscaled;            // what that S is multiplied by to be s
  Real to_log2;             // what scores are multiplied by to be in base 2
  Real *s, *dp;   // (kGroup, kWidth): S and dP of one group of rows, where products are of tiles
  Real* p;        // (rows / kWord, kWidth), words of queries
  Real* ds;       // the same
  Real* ds_keys;  // dS again in words of keys (dq_word), where these differ: for dQ
                  // (rows, kStep) where products are of tiles
  Real* ds_real;  // (rows, kWidth), not rounded to words; null: no gradients of bias or tables
  TablePart<X>* tables;  // null: no gradients of tables
  bool has_sink;
  int64_t index;            // of the panel in its tile of keys
  bool careful;             // mark masked pairs by -0.0; NaN and infinity as arithmetic has them
  const uint64_t* dropped;  // find_dropped; null: no dropout
  Real keep_scale;          // r; P lacks it, dP does not
  Rows ahead[2];            // rows that are brought into the second-level cache meanwhile
};

// acc += kRows rows of `a` from `row` on times NV vectors of keys. Beside it a line of each of
// kRows rows ahead is fetched, in one loop: where it ended with the last line of every row, the
// product and what follows took 5 % longer.
template <class X, int NV>
TILEWISE_INLINE void multiply_rows(const Rows& a, int row, const typename X::Real* b, int64_t depth,
                                   const Rows& ahead, typename X::Vec (&acc)[X::kRows][NV]) {
  using Vec = typename X::Vec;
  using Real = typename X::Real;
  const char* word = a.row(row);
  const int64_t stride = a.stride;
  const auto multiply = [&]() __attribute__((always_inline)) {
    Vec column[NV];
    TILEWISE_UNROLL for (int j = 0; j < NV; ++j) column[j] = X::load(b + j * X::kLanes);
    TILEWISE_UNROLL for (int i = 0; i < X::kRows; ++i) {
      const Vec x = broadcast_word<X>(word + i * stride);
      TILEWISE_UNROLL for (int j = 0; j < NV; ++j) acc[i][j] = X::dot(acc[i][j], x, column[j]);
    }
    word += sizeof(Real);
    b += kWidth<X>;
  };
  constexpr int kLine = 64, kStep = kLine / static_cast<int>(sizeof(Real)) / X::kRows;
  const int64_t lines = depth * static_cast<int64_t>(sizeof(Real)) / kLine;
  const char* next = ahead.row(row);
  int64_t line = 0;
  for (int64_t n = 0; n < X::kRows * lines; ++n) {
    X::prefetch_l2(next + line * kLine);
    if (++line == lines) {
      line = 0;
      next += ahead.stride;
    }
    TILEWISE_UNROLL for (int d = 0; d < kStep; ++d) multiply();
  }
  for (int64_t d = X::kRows * lines * kStep; d < depth; ++d) multiply();
}

// p = 2^x; bits as exp2_minus has them, but no test for overflow: x is at most slightly above 0.
template <class X, int N>
TILEWISE_INLINE void exp2_small(const typename X::Vec (&x)[N], typename X::Vec (&p)[N]) {
  using Vec = typename X::Vec;
  const Vec magic = X::broadcast(Exp2<typename X::Real>::kMagic);
  Vec t[N], f[N];
  TILEWISE_UNROLL for (int n = 0; n < N; ++n) t[n] = X::add(x[n], magic);
  TILEWISE_UNROLL for (int n = 0; n < N; ++n) f[n] = X::sub(x[n], X::sub(t[n], magic));
  exp2_fractions<X>(f, 1, p);
  TILEWISE_UNROLL for (int n = 0; n < N; ++n) p[n] = X::shift_into_exponent(p[n], t[n]);
}

// What exp2_small leaves out: NaN, and x of 2^7 and more.
template <class X>
TILEWISE_INLINE typename X::Vec exp2_special(typename X::Vec p, typename X::Vec x) {
  using E = Exp2<typename X::Real>;
  const auto inf = X::broadcast(__builtin_inff());
  p = X::select(X::less(X::broadcast(typename X::Real(0.25) - E::kZero), x), inf, p);
  return X::select(X::unordered(x), X::sub(inf, inf), p);
}

// log2 P of a score of a program, but that of 0 below 2^-100. Such scores spread widely: the
// products of many tiny P with dO and Q would be subnormal, and so would be sums of nothing else,
// which is slow. The rest of the row adds up to 1, unless a sink takes nearly all of it.
template <class X>
TILEWISE_INLINE typename X::Vec negligible_to_zero(typename X::Vec x) {
  const auto zero = X::broadcast(Exp2<typename X::Real>::kZero);
  return X::select(X::less(x, X::add(zero, X::broadcast(27))), zero, x);
}

// Scores that spread widely make many dS subnormal, which is slow in every product that follows.
template <class X>
TILEWISE_INLINE typename X::Vec flush_subnormal(typename X::Vec x) {
  const auto smallest = X::broadcast(Exp2<typename X::Real>::kSmallest);
  return X::select(X::less(X::max(x, X::sub(typename X::Vec{}, x)), smallest), typename X::Vec{},
                   x);
}

// dS as careful products need it: -0.0 means masked, so that no visible pair may be that, not even
// after it was rounded to bf16 (which flushes subnormal numbers).
template <class X>
TILEWISE_INLINE typename X::Vec never_minus_zero(typename X::Vec x) {
  if constexpr (X::kWord == 2) x = flush_subnormal<X>(x);
  return X::add(x, typename X::Vec{});
}

// dP of a coarse kernel starts at -delta, unless dropout comes between the two.
template <class X, bool kDrops>
inline constexpr bool kStartsAtDelta = kCoarse<X> && !kTiled<X> && !kDrops;

// The scores of kUnit queries by the program; see transform_scores.
template <class X, int NV>
__attribute__((noinline)) void transform_panel_scores(const PanelScores<X>& panel, int row,
                                                      int j0) {
  auto* s = kTiled<X> ? panel.s + row % kGroup<X> * kWidth<X> : panel.unit;
  if (!kTiled<X>)
    multiply_unit<X, NV>({panel.q.row(row), panel.q.stride}, panel.kt, panel.q_depth, j0, s);
  if (!kPrescaled<X>) scale_unit<X, NV>(panel.unscaled, j0, s);
  panel.score->unit(row, j0, j0 + NV, s);
}

// The scores of the program for kRows queries.
template <class X, int NV>
TILEWISE_INLINE void load_scores_of_program(const PanelScores<X>& panel, int row, int j0,
                                            typename X::Vec (&to)[X::kRows][NV]) {
  using Real = typename X::Real;
  const Operand& from = panel.score->output(0);
  TILEWISE_UNROLL for (int i = 0; i < X::kRows; ++i) TILEWISE_UNROLL for (int j = 0; j < NV; ++j)
      to[i][j] = X::load(reinterpret_cast<const Real*>(from.at(row % kUnit + i, j0 + j)));
}

// kRows rows of what score_panel_group makes.
template <class X, int NV>
TILEWISE_INLINE void load_rows_of_group(const typename X::Real* from, int row, int lane0,
                                        typename X::Vec (&to)[X::kRows][NV]) {
  from += row % kGroup<X> * kWidth<X> + lane0;
  TILEWISE_UNROLL for (int i = 0; i < X::kRows; ++i) TILEWISE_UNROLL for (int j = 0; j < NV; ++j)
      to[i][j] = X::load(from + i * kWidth<X> + j * X::kLanes);
}

// What score_rows makes of kRows queries and NV lane vectors.
template <class X, int NV>
struct ScoreBlock {
  typename X::Vec p[X::kRows][NV];  // S before exponentiate
  typename X::Vec dp[X::kRows][NV];
  typename X::Mask visible[X::kRows][NV];  // not set where all are: UnitKind::kPlain
};

// P is final before dS is known: stored at once and loaded again for dS, since P and the sums of dP
// do not fit the registers together.
template <class X, UnitKind kKind, bool kDrops>
inline constexpr bool kStoresFirst = X::kWord == 1 && kKind == UnitKind::kPlain && !kDrops;

// Lines 12 and 13: P = 2^(S - LSE).
template <class X, int NV, UnitKind kKind, bool kDrops>
TILEWISE_INLINE void exponentiate(const PanelScores<X>& panel, int row, int j0, bool masked,
                                  ScoreBlock<X, NV>& block) {
  using Vec = typename X::Vec;
  constexpr int R = X::kWord, N = R * NV;  // the vectors of the rows of a word are computed in step
  constexpr bool kBiased = kKind == UnitKind::kBiased;
  const bool is_scored = kBiased && panel.score != nullptr;
  const Vec scale = X::broadcast(panel.to_log2), low = X::broadcast(Exp2<typename X::Real>::kZero),
            minus_inf = X::broadcast(-__builtin_inff());
  TILEWISE_UNROLL for (int i = 0; i < X::kRows; i += R) {
    Vec x[N], power[N];
    TILEWISE_UNROLL for (int n = 0; n < N; ++n) {
      const int h = i + n / NV, j = n % NV, r = row + h;
      const Vec s = block.p[h][j], minus_lse = X::broadcast(panel.minus_lse[r]);
      const Vec minus_low = X::broadcast(panel.minus_lse_low[r]);
      const auto minus = [&](Vec score) { return X::add(X::add(score, minus_lse), minus_low); };
      if constexpr (kCoarse<X>)
        x[n] = X::fma(s, scale, minus_lse);
      else if constexpr (kBiased)
        x[n] = minus(X::mul(s, scale));  // rounded as in the forward
      else
        x[n] = minus(s);
      if constexpr (kKind == UnitKind::kMasked)
        block.visible[h][j] = X::lanes(panel.bits[r][j0 + j]);
      if constexpr (!kBiased) {
        x[n] = X::max(low, x[n]);
        continue;
      }
      auto seen = X::lanes(masked ? panel.bits[r][j0 + j] : ~0u);
      if (panel.bias) {
        const Vec bias = X::load(panel.bias + r * kWidth<X> + (j0 + j) * X::kLanes);
        x[n] =
            kCoarse<X> ? X::add(X::fma(s, scale, bias), minus_lse) : minus(X::fma(s, scale, bias));
        seen = X::both(seen, X::opposite(X::equal(bias, minus_inf)));
      }
      seen = X::both(seen, X::opposite(X::equal(minus_lse, minus_inf)));
      if (is_scored) seen = X::both(seen, X::opposite(X::equal(s, minus_inf)));
      block.visible[h][j] = seen;
      x[n] = is_scored && !panel.has_sink ? negligible_to_zero<X>(x[n]) : X::max(low, x[n]);
    }
    exp2_small<X>(x, power);
    TILEWISE_UNROLL for (int n = 0; n < N; ++n) {
      if constexpr (kStoresFirst<X, kKind, kDrops>)
        X::store(panel.p + (row + i) * kWidth<X> + (j0 + n) * X::kLanes, power[n]);
      else
        block.p[i + n / NV][n % NV] =
            kBiased && panel.careful ? exp2_special<X>(power[n], x[n]) : power[n];
    }
  }
}

// Lines 17 and 20: dS = P * (dP - delta); stores both as the products take them.
template <class X, int NV, UnitKind kKind, bool kDrops>
TILEWISE_INLINE void store_scores(const PanelScores<X>& panel, int row, int j0,
                                  ScoreBlock<X, NV>& block) {
  using Vec = typename X::Vec;
  using Real = typename X::Real;
  constexpr int R = X::kWord, N = R * NV;
  constexpr bool kBiased = kKind == UnitKind::kBiased;
  TILEWISE_UNROLL for (int i = 0; i < X::kRows; i += R) {
    Vec ds[N];
    TILEWISE_UNROLL for (int n = 0; n < N; ++n) {
      const int h = i + n / NV, j = n % NV, r = row + h;
      Vec y = block.dp[h][j], &p = block.p[h][j];
      if constexpr (kStoresFirst<X, kKind, kDrops>)
        p = X::load(panel.p + r * kWidth<X> + (j0 + j) * X::kLanes);
      if constexpr (!kStartsAtDelta<X, kDrops>) {
        const Vec minus_delta = X::broadcast(panel.minus_delta[r]);
        if constexpr (kDrops) {  // dP = Z o dO V^T
          const auto dropped = dropped_lanes<X>(panel.dropped[r], j0 + j);
          y = X::fma(y, X::select(dropped, Vec{}, X::broadcast(panel.keep_scale)), minus_delta);
        } else {
          y = X::add(y, minus_delta);
        }
      }
      ds[n] = X::mul(p, y);
      if constexpr (kBiased) {
        if (panel.ds_real)  // forward: S = score + bias
          X::store(panel.ds_real + r * kWidth<X> + (j0 + j) * X::kLanes,
                   X::select(block.visible[h][j], ds[n], Vec{}));
        if (panel.score) {  // forward: score(s)
          const Vec factor =
              X::load(reinterpret_cast<const Real*>(panel.score->output(1).at(r % kUnit, j0 + j)));
          ds[n] = flush_subnormal<X>(X::mul(ds[n], factor));
        }
        if (panel.careful) ds[n] = never_minus_zero<X>(ds[n]);
      }
      if constexpr (kDrops)  // of the biased kind 0, but NaN stays
        p = X::select(dropped_lanes<X>(panel.dropped[r], j0 + j),
                      kBiased ? X::mul(p, Vec{}) : Vec{}, p);
      if constexpr (kKind != UnitKind::kPlain) {
        const Vec nothing = X::broadcast(kBiased && panel.careful ? Real(-0.0) : Real(0));
        p = X::select(block.visible[h][j], p, nothing);
        ds[n] = X::select(block.visible[h][j], ds[n], nothing);
      }
    }
    TILEWISE_UNROLL for (int j = 0; j < NV; ++j) {
      const int lane = (j0 + j) * X::kLanes, at = (row + i) / R * kWidth<X> + lane;
      if constexpr (R == 1) {
        if (!kStoresFirst<X, kKind, kDrops>) X::store(panel.p + at, block.p[i][j]);
        X::store(panel.ds + at, ds[j]);
      } else {
        X::store_p(panel.p + at, kWidth<X>, block.p[i][j], block.p[i + 1][j]);
        X::store_p(panel.ds + at, kWidth<X>, ds[j], ds[NV + j]);
        if constexpr (kTiled<X>)
          TILEWISE_UNROLL for (int h = 0; h < R; ++h) X::store_bf16(
              reinterpret_cast<uint16_t*>(panel.ds_keys + (row + i + h) * X::kStep) + lane,
              ds[h * NV + j]);
        else
          X::store(panel.ds_keys + at, X::pair_in_order(ds[j], ds[NV + j]));
      }
    }
  }
}

// kRows queries from `row` on, lane vectors [j0, j0 + NV). S and P before dP and dS: the product
// for dP does not wait for the exponentials, and each of the panels of K^T and V^T stays in the
// first-level cache for more rows. Both products at once, of half as many rows, took 3 % longer, at
// d = 128 7 %.
template <class X, int NV, UnitKind kKind, bool kDrops>
__attribute__((noinline)) void score_rows(const PanelScores<X>& panel, int row, int j0,
                                          bool masked) {
  using Vec = typename X::Vec;
  const int lane0 = j0 * X::kLanes;
  ScoreBlock<X, NV> block;
  TILEWISE_UNROLL for (int i = 0; i < X::kRows; ++i) {
    const Vec start = X::broadcast(kStartsAtDelta<X, kDrops> ? panel.minus_delta[row + i] : 0);
    TILEWISE_UNROLL for (int j = 0; j < NV; ++j) block.p[i][j] = Vec{}, block.dp[i][j] = start;
  }
  if (kKind == UnitKind::kBiased && panel.score)
    load_scores_of_program<X, NV>(panel, row, j0, block.p);
  else if constexpr (kTiled<X>)
    load_rows_of_group<X, NV>(panel.s, row, lane0, block.p);
  else  // forward: S = Q K^T
    multiply_rows<X, NV>(panel.q, row, panel.kt + lane0, panel.q_depth, panel.ahead[0], block.p);
  exponentiate<X, NV, kKind, kDrops>(panel, row, j0, masked, block);
  if constexpr (kTiled<X>)
    load_rows_of_group<X, NV>(panel.dp, row, lane0, block.dp);
  else  // forward: O = P V, so dP = dO V^T
    multiply_rows<X, NV>(panel.g, row, panel.vt + lane0, panel.g_depth, panel.ahead[1], block.dp);
  store_scores<X, NV, kKind, kDrops>(panel, row, j0, block);
}

// S and dP of the group that starts at `row`; see score_group.
template <class X>
void score_panel_group(const PanelScores<X>& panel, int row, bool whole) {
  multiply_group<X>({panel.q.row(row), panel.q.stride}, panel.kt, panel.q_depth, panel.s);
  multiply_group<X>({panel.g.row(row), panel.g.stride}, panel.vt, panel.g_depth, panel.dp);
  if (whole) return;
  const auto hidden = panel.careful ? X::masked_words() : typename X::Vec{};
  const int at = row / X::kWord * kWidth<X>;
  for (int i = 0; i < kGroup<X> / X::kWord * kWidth<X>; i += X::kLanes) {
    X::store(panel.p + at + i, hidden);
    X::store(panel.ds + at + i, hidden);
    X::store(panel.ds_keys + at + i, hidden);
  }
}

// Lines 11 to 13, 17 and 20 over the visible units.
template <class X, bool kDrops>
void recompute_scores(const PanelScores<X>& panel, const VisibleTile<X>& visible) {
  int group_end = 0;
  for (int i = 0; i < visible.count; ++i) {
    const Segment& s = visible.segments[i];
    const auto run = [&]<int NV>() {
      for (int row = s.begin; row < s.end; row += X::kRows) {
        if constexpr (kTiled<X>)
          if (row >= group_end) {
            const int group = row / kGroup<X> * kGroup<X>;
            group_end = group + kGroup<X>;
            score_panel_group(panel, group,
                              row == group && group_end <= s.end && NV == X::kVectors);
          }
        if (panel.score && row % kUnit == 0) transform_panel_scores<X, NV>(panel, row, s.j0);
        if (panel.bias || panel.ds_real || panel.careful || panel.score)
          score_rows<X, NV, UnitKind::kBiased, kDrops>(panel, row, s.j0, s.masked);
        else if (s.masked)
          score_rows<X, NV, UnitKind::kMasked, kDrops>(panel, row, s.j0, true);
        else
          score_rows<X, NV, UnitKind::kPlain, kDrops>(panel, row, s.j0, false);
        if (panel.tables && (row + X::kRows) % kUnit == 0)
          add_table_unit<X>(*panel.tables, *panel.score,
                            panel.ds_real + (row + X::kRows - kUnit) * kWidth<X>, panel.index, s.j0,
                            s.j1);
      }
    };
    const int vectors = s.j1 - s.j0;
    if constexpr (X::kVectors > 2)
      if (vectors == 3) {
        run.template operator()<3>();
        continue;
      }
    if constexpr (X::kVectors > 1)
      if (vectors == 2) {
        run.template operator()<2>();
        continue;
      }
    run.template operator()<1>();
  }
}

}  // namespace
