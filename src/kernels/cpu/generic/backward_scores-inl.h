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

// acc += one word of MR rows times one word of NV vectors of keys; moves on to the next word.
template <class X, int MR, int NV>
TILEWISE_INLINE void multiply_word(typename X::Vec (&acc)[MR][NV], const char*& word,
                                   int64_t stride, const typename X::Real*& b) {
  using Vec = typename X::Vec;
  Vec column[NV];
  TILEWISE_UNROLL for (int j = 0; j < NV; ++j) column[j] = X::load(b + j * X::kLanes);
  TILEWISE_UNROLL for (int i = 0; i < MR; ++i) {
    const Vec x = broadcast_word<X>(word + i * stride);
    TILEWISE_UNROLL for (int j = 0; j < NV; ++j) acc[i][j] = X::dot(acc[i][j], x, column[j]);
  }
  word += sizeof(typename X::Real);
  b += kWidth<X>;
}

// 2^x; bits as exp2_minus has them, without its test for overflow: x is at most slightly above 0.
template <class X>
TILEWISE_INLINE typename X::Vec exp2_small(typename X::Vec x) {
  using Vec = typename X::Vec;
  using E = Exp2<typename X::Real>;
  const Vec magic = X::broadcast(E::kMagic), t = X::add(x, magic);
  return X::shift_into_exponent(exp2_fraction<X>(X::sub(x, X::sub(t, magic)), 1), t);
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

// S and dP of MR queries from `row` on.
template <class X, int MR, int NV, bool kDrops>
TILEWISE_INLINE void multiply_rows(const PanelScores<X>& panel, int row, int lane0,
                                   typename X::Vec (&s)[MR][NV], typename X::Vec (&dp)[MR][NV]) {
  using Vec = typename X::Vec;
  using Real = typename X::Real;
  TILEWISE_UNROLL for (int i = 0; i < MR; ++i) {
    const Vec minus_delta = X::broadcast(panel.minus_delta[row + i]);
    TILEWISE_UNROLL for (int j = 0; j < NV; ++j) s[i][j] = Vec{},
                                                 dp[i][j] = kStartsAtDelta<X, kDrops> ? minus_delta
                                                                                      : Vec{};
  }
  const char *q = panel.q.row(row), *g = panel.g.row(row);
  const int64_t q_stride = panel.q.stride, g_stride = panel.g.stride;
  const Real *kt = panel.kt + lane0, *vt = panel.vt + lane0;
  const int64_t both = smaller(panel.q_depth, panel.g_depth);
  const auto multiply = [&]() __attribute__((always_inline)) {
    multiply_word<X, MR, NV>(s, q, q_stride, kt);   // forward: S = Q K^T
    multiply_word<X, MR, NV>(dp, g, g_stride, vt);  // forward: O = P V, so dP = dO V^T
  };
  // A line of each of MR rows ahead, spread over the product.
  constexpr int kLine = 64, kStep = kLine / static_cast<int>(sizeof(Real)) / MR;
  const int64_t lines = both * static_cast<int64_t>(sizeof(Real)) / kLine;
  for (int i = 0; i < MR; ++i)
    for (int64_t line = 0; line < lines; ++line) {
      X::prefetch_l2(panel.ahead[0].row(row + i) + line * kLine);
      X::prefetch_l2(panel.ahead[1].row(row + i) + line * kLine);
      TILEWISE_UNROLL for (int d = 0; d < kStep; ++d) multiply();
    }
  for (int64_t d = MR * lines * kStep; d < both; ++d) multiply();
  for (int64_t d = both; d < panel.q_depth; ++d) multiply_word<X, MR, NV>(s, q, q_stride, kt);
  for (int64_t d = both; d < panel.g_depth; ++d) multiply_word<X, MR, NV>(dp, g, g_stride, vt);
}

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

// Output `o` of the program for MR queries.
template <class X, int MR, int NV>
TILEWISE_INLINE void load_output(const PanelScores<X>& panel, int o, int row, int j0,
                                 typename X::Vec (&to)[MR][NV]) {
  const Operand& from = panel.score->output(o);
  TILEWISE_UNROLL for (int i = 0; i < MR; ++i) TILEWISE_UNROLL for (int j = 0; j < NV; ++j)
      to[i][j] =
          X::load(reinterpret_cast<const typename X::Real*>(from.at(row % kUnit + i, j0 + j)));
}

// dP alone; see multiply_rows.
template <class X, int MR, int NV, bool kDrops>
TILEWISE_INLINE void multiply_grad_rows(const PanelScores<X>& panel, int row, int lane0,
                                        typename X::Vec (&dp)[MR][NV]) {
  using Vec = typename X::Vec;
  TILEWISE_UNROLL for (int i = 0; i < MR; ++i) TILEWISE_UNROLL for (int j = 0; j < NV; ++j)
      dp[i][j] = kStartsAtDelta<X, kDrops> ? X::broadcast(panel.minus_delta[row + i]) : Vec{};
  const char* g = panel.g.row(row);
  const auto* vt = panel.vt + lane0;
  for (int64_t d = 0; d < panel.g_depth; ++d) multiply_word<X, MR, NV>(dp, g, panel.g.stride, vt);
}

// MR queries from `row` on, lane vectors [j0, j0 + NV).
template <class X, int MR, int NV, UnitKind kKind, bool kDrops>
__attribute__((noinline)) void score_rows(const PanelScores<X>& panel, int row, int j0,
                                          bool masked) {
  using Vec = typename X::Vec;
  using Real = typename X::Real;
  const int lane0 = j0 * X::kLanes;
  Vec s[MR][NV], dp[MR][NV], factor[MR][NV];
  const bool is_scored = kKind == UnitKind::kBiased && panel.score != nullptr;
  if constexpr (kTiled<X>) {
    const int at = row % kGroup<X> * kWidth<X> + lane0;
    TILEWISE_UNROLL for (int i = 0; i < MR; ++i) TILEWISE_UNROLL for (int j = 0; j < NV; ++j) {
      const int64_t from = at + i * kWidth<X> + j * X::kLanes;
      s[i][j] = X::load(panel.s + from);
      dp[i][j] = X::load(panel.dp + from);
    }
  } else if (is_scored) {
    multiply_grad_rows<X, MR, NV, kDrops>(panel, row, lane0, dp);
  } else {
    multiply_rows<X, MR, NV, kDrops>(panel, row, lane0, s, dp);
  }
  if (is_scored) {
    load_output<X, MR, NV>(panel, 0, row, j0, s);
    load_output<X, MR, NV>(panel, 1, row, j0, factor);
  }

  const Vec scale = X::broadcast(panel.to_log2), low = X::broadcast(Exp2<Real>::kZero);
  const Vec minus_inf = X::broadcast(-__builtin_inff());
  TILEWISE_UNROLL for (int j = 0; j < NV; ++j) TILEWISE_UNROLL for (int i = 0; i < MR; i += 2) {
    const int lane = lane0 + j * X::kLanes;
    Vec p[2], ds[2];
    TILEWISE_UNROLL for (int h = 0; h < 2; ++h) {
      const int r = row + i + h;
      const Vec minus_lse = X::broadcast(panel.minus_lse[r]);
      const Vec minus_low = X::broadcast(panel.minus_lse_low[r]);
      const auto minus = [&](Vec x) { return X::add(X::add(x, minus_lse), minus_low); };
      Vec x = s[i + h][j];
      if constexpr (kCoarse<X>)
        x = X::fma(x, scale, minus_lse);
      else if constexpr (kKind == UnitKind::kBiased)
        x = minus(X::mul(x, scale));  // rounded as in the forward
      else
        x = minus(x);
      Vec y = dp[i + h][j];
      if constexpr (!kStartsAtDelta<X, kDrops>) {
        const Vec minus_delta = X::broadcast(panel.minus_delta[r]);
        if constexpr (kDrops) {  // dP = Z o dO V^T
          const auto dropped = dropped_lanes<X>(panel.dropped[r], j0 + j);
          y = X::fma(y, X::select(dropped, Vec{}, X::broadcast(panel.keep_scale)), minus_delta);
        } else {
          y = X::add(y, minus_delta);
        }
      }
      if constexpr (kKind != UnitKind::kBiased) {
        p[h] = exp2_small<X>(X::max(low, x));
        ds[h] = X::mul(p[h], y);
        if constexpr (kDrops)
          p[h] = X::select(dropped_lanes<X>(panel.dropped[r], j0 + j), Vec{}, p[h]);
        if constexpr (kKind == UnitKind::kMasked) {
          const auto visible = X::lanes(panel.bits[r][j0 + j]);
          p[h] = X::select(visible, p[h], Vec{});
          ds[h] = X::select(visible, ds[h], Vec{});
        }
      } else {
        auto visible = X::lanes(masked ? panel.bits[r][j0 + j] : ~0u);
        if (panel.bias) {
          const Vec bias = X::load(panel.bias + r * kWidth<X> + lane);
          x = kCoarse<X> ? X::add(X::fma(s[i + h][j], scale, bias), minus_lse)
                         : minus(X::fma(s[i + h][j], scale, bias));
          visible = X::both(visible, X::opposite(X::equal(bias, minus_inf)));
        }
        visible = X::both(visible, X::opposite(X::equal(minus_lse, minus_inf)));
        if (is_scored) visible = X::both(visible, X::opposite(X::equal(s[i + h][j], minus_inf)));
        x = is_scored && !panel.has_sink ? negligible_to_zero<X>(x) : X::max(low, x);
        p[h] = exp2_small<X>(x);
        if (panel.careful) p[h] = exp2_special<X>(p[h], x);
        ds[h] = X::mul(p[h], y);
        if (panel.ds_real)  // forward: S = score + bias
          X::store(panel.ds_real + r * kWidth<X> + lane, X::select(visible, ds[h], Vec{}));
        if (is_scored)  // forward: score(s)
          ds[h] = flush_subnormal<X>(X::mul(ds[h], factor[i + h][j]));
        if (panel.careful) ds[h] = never_minus_zero<X>(ds[h]);
        if constexpr (kDrops)  // 0, but NaN stays
          p[h] = X::select(dropped_lanes<X>(panel.dropped[r], j0 + j), X::mul(p[h], Vec{}), p[h]);
        const Vec nothing = X::broadcast(panel.careful ? Real(-0.0) : Real(0));
        p[h] = X::select(visible, p[h], nothing);
        ds[h] = X::select(visible, ds[h], nothing);
      }
    }
    const int at = (row + i) / X::kWord * kWidth<X> + lane;
    X::store_p(panel.p + at, kWidth<X>, p[0], p[1]);
    X::store_p(panel.ds + at, kWidth<X>, ds[0], ds[1]);
    if constexpr (kTiled<X>)
      TILEWISE_UNROLL for (int h = 0; h < 2; ++h) X::store_bf16(
          reinterpret_cast<uint16_t*>(panel.ds_keys + (row + i + h) * X::kStep) + lane, ds[h]);
    else if constexpr (X::kWord == 2)
      X::store(panel.ds_keys + at, X::pair_in_order(ds[0], ds[1]));
  }
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
      // A single vector of keys takes more rows, so that enough sums are under way.
      constexpr int MR = X::kVectors > 1 && NV == 1 ? X::kRows : X::kRows / 2;
      for (int row = s.begin; row < s.end; row += MR) {
        if constexpr (kTiled<X>)
          if (row >= group_end) {
            const int group = row / kGroup<X> * kGroup<X>;
            group_end = group + kGroup<X>;
            score_panel_group(panel, group,
                              row == group && group_end <= s.end && NV == X::kVectors);
          }
        if (panel.score && row % kUnit == 0) transform_panel_scores<X, NV>(panel, row, s.j0);
        if (panel.bias || panel.ds_real || panel.careful || panel.score)
          score_rows<X, MR, NV, UnitKind::kBiased, kDrops>(panel, row, s.j0, s.masked);
        else if (s.masked)
          score_rows<X, MR, NV, UnitKind::kMasked, kDrops>(panel, row, s.j0, true);
        else
          score_rows<X, MR, NV, UnitKind::kPlain, kDrops>(panel, row, s.j0, false);
        if (panel.tables && (row + MR) % kUnit == 0)
          add_table_unit<X>(*panel.tables, *panel.score,
                            panel.ds_real + (row + MR - kUnit) * kWidth<X>, panel.index, s.j0,
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
