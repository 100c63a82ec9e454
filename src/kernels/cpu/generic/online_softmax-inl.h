// SPDX-License-Identifier: Apache-2.0
// Online softmax, fused behind the product S = Q K^T ([Dao22] Algorithm 1, lines 9 to 11). S never
// reaches memory: P = 2^(S - m) is computed from the accumulators.
//
// Everything is in base 2 and per lane (a lane is a query). The reference m of a row need not be
// the maximum: any number near it gives the same O and LSE. m is an INTEGER, raised only when a
// score exceeds it by more than 16. Then rescaling by 2^(m_old - m_new) loses no bits, and P may be
// computed before the maximum is known: one test per unit finds the rare case that m must be
// raised, upon which the unit is computed again (score_unit_cold). Invariants: a lane's m depends
// on its own visible scores only, unit by unit from key 0, never on its neighbours, on tiles or on
// lengths. m = -inf: nothing visible yet; then base_m is NaN, which sends the next unit that shows
// it something to the cold path. So does |m| > 2^21, where base - m is inexact.
#pragma once

#include <cstdint>

#include "kernels/cpu/generic/exp2-inl.h"
#include "kernels/cpu/generic/products-inl.h"
#include "kernels/cpu/generic/visible-inl.h"

namespace {

// The state of kWidth queries. o is (value_dim, kWidth); the others are (kWidth).
template <class X>
struct QueryBlock {
  using Real = typename X::Real;
  Real* qt;  // (words(head_dim), kWidth): Q^T, times scale * log2(e) where a word is one number
  Real* o;
  Real* m;
  Real* base_m;  // kMagic + kBias - m
  Real* low;     // a score that gives exactly 0
  Real* l;
  Real* l_words;  // the sum of P as the product P V takes it: rounded to words. l itself in fp32
  bool fresh;     // no unit absorbed yet: the first always goes to the cold path
};

// What all units of a tile share.
template <class X>
struct TileScores {
  using Real = typename X::Real;
  Real* p;           // (rows / kWord, kWidth) words: P^T of this tile
  const Real* s;     // (rows, kWidth): S^T if it is there already; null: computed from the keys
  const Real* bias;  // (rows, kWidth), times log2(e); null: none
  const uint16_t (*bits)[X::kVectors];
  Real scale_log2;  // scale * log2(e)
  int64_t depth;    // words(head_dim)
  int64_t value_dim;
  bool careful;  // mark masked pairs by p = -0.0
};

enum class UnitKind { kPlain, kMasked, kBiased };

// Scores that need no factor any more: Q carries it, or adding the bias has applied it.
template <class X>
inline constexpr bool kPrescaled = X::kWord == 1;

template <class X>
void set_reference(QueryBlock<X>& q, int at, typename X::Vec m, typename X::Real scale) {
  using E = Exp2<typename X::Real>;
  using Vec = typename X::Vec;
  const Vec limit = X::broadcast(E::kLargestReference);
  const Vec absolute = X::max(X::sub(Vec{}, m), m);
  const Vec base_m = X::sub(X::broadcast(E::kMagic + E::kBias), m);
  const Vec nan = X::broadcast(__builtin_nanf(""));
  X::store(q.m + at, m);
  X::store(q.base_m + at, X::select(X::less(limit, absolute), nan, base_m));
  Vec low = X::add(m, X::broadcast(E::kZero));
  if (scale != 1) {  // in units of the unscaled product; rounded towards the visible side
    low = X::div(low, X::broadcast(scale));
    const Vec negative = X::sub(Vec{}, low);
    low = X::fma(X::max(low, negative), X::broadcast(0x1p-21f), low);
  }
  X::store(q.low + at, low);
}

// p = 2^(s - m); bits collects what the overflow test looks at. scale: see kPrescaled.
template <class X, bool kScaled>
TILEWISE_INLINE typename X::Vec exp2_minus(typename X::Vec s, typename X::Vec base_m,
                                           typename X::Vec scale, typename X::Vec& t) {
  using Vec = typename X::Vec;
  t = kScaled ? X::add(s, base_m) : X::fma(s, scale, base_m);
  const Vec n = X::sub(t, base_m);
  const Vec f = kScaled ? X::sub(s, n) : X::fms(s, scale, n);  // exact
  return X::shift_into_exponent(exp2_fraction<X>(f, Exp2<typename X::Real>::kFactor), t);
}

// kRows rows of S^T from `row` of the tile on, whose keys are `keys`.
template <class X, int NV>
TILEWISE_INLINE void load_scores(typename X::Vec (&s)[X::kRows][NV], const QueryBlock<X>& q,
                                 const TileScores<X>& tile, const Rows& keys, int row, int lane) {
  if (!tile.s) {
    multiply_abt<X, NV>(s, keys, q.qt + lane, tile.depth);
    return;
  }
  TILEWISE_UNROLL for (int i = 0; i < X::kRows; ++i) TILEWISE_UNROLL for (int j = 0; j < NV; ++j)
      s[i][j] = X::load(tile.s + (row + i) * kWidth<X> + lane + j * X::kLanes);
}

template <class X, int NV>
__attribute__((noinline, cold)) void score_unit_cold(QueryBlock<X>& q, const TileScores<X>& tile,
                                                     const Rows& keys, int row, int j0,
                                                     bool masked);

// kUnit keys from `row` of the tile on, lane vectors [j0, j0 + NV): P into tile.p, row sums into l.
template <class X, int NV, UnitKind kKind>
__attribute__((noinline)) void score_unit(QueryBlock<X>& q, const TileScores<X>& tile,
                                          const Rows& keys, int row, int j0, bool masked) {
  using Vec = typename X::Vec;
  using Real = typename X::Real;
  constexpr bool kScaled = kPrescaled<X> || kKind == UnitKind::kBiased;
  const int lane0 = j0 * X::kLanes;
  const Vec scale = X::broadcast(tile.scale_log2);
  Vec sum[NV], sum_words[NV], over = Vec{};
  TILEWISE_UNROLL for (int j = 0; j < NV; ++j) {
    sum[j] = X::load(q.l + lane0 + j * X::kLanes);
    if constexpr (X::kWord == 2) sum_words[j] = X::load(q.l_words + lane0 + j * X::kLanes);
  }
  for (int half = 0; half < kUnit; half += X::kRows) {
    Vec s[X::kRows][NV];
    load_scores<X, NV>(s, q, tile, {keys.row(half), keys.stride}, row + half, lane0);
    TILEWISE_UNROLL for (int j = 0; j < NV; ++j) {
      const int lane = lane0 + j * X::kLanes;
      const Vec base_m = X::load(q.base_m + lane), low = X::load(q.low + lane);
      TILEWISE_UNROLL for (int i = 0; i < X::kRows; i += 2) {
        const int r = row + half + i;
        Vec p[2], t[2];
        TILEWISE_UNROLL for (int h = 0; h < 2; ++h) {
          Vec x = s[i + h][j];
          if constexpr (kKind == UnitKind::kBiased) {
            const Vec bias = X::load(tile.bias + (r + h) * kWidth<X> + lane);
            x = kPrescaled<X> ? X::add(x, bias) : X::fma(x, scale, bias);
            x = X::select(X::equal(bias, X::broadcast(-__builtin_inff())), low, x);
          }
          x = X::max(low, x);
          if (kKind != UnitKind::kPlain && masked)
            x = X::select(X::lanes(tile.bits[r + h][j0 + j]), x, low);
          p[h] = exp2_minus<X, kScaled>(x, base_m, scale, t[h]);
        }
        over = X::or_bits(over, t[0], t[1]);
        sum[j] = X::add(sum[j], X::add(p[0], p[1]));
        Real* to = tile.p + r / X::kWord * kWidth<X> + lane;
        X::store_p(to, kWidth<X>, p[0], p[1]);
        if constexpr (X::kWord == 2) sum_words[j] = X::add_pairs(sum_words[j], X::load(to));
      }
    }
  }
  if (__builtin_expect(X::any_bits(over, Exp2<Real>::kOverflowBits), 0)) {
    score_unit_cold<X, NV>(q, tile, keys, row, j0, masked);
    return;
  }
  TILEWISE_UNROLL for (int j = 0; j < NV; ++j) {
    X::store(q.l + lane0 + j * X::kLanes, sum[j]);
    if constexpr (X::kWord == 2) X::store(q.l_words + lane0 + j * X::kLanes, sum_words[j]);
  }
}

// Multiplies everything a lane vector has accumulated by 2^n, n <= 0 integral.
template <class X>
void rescale(QueryBlock<X>& q, const TileScores<X>& tile, int lane, int rows, typename X::Vec n) {
  using Vec = typename X::Vec;
  const Vec f = X::times_power_of_two(X::broadcast(1), n);
  X::store(q.l + lane, X::mul(X::load(q.l + lane), f));
  if (X::kWord == 2) X::store(q.l_words + lane, X::mul(X::load(q.l_words + lane), f));
  for (int64_t d = 0; d < tile.value_dim; ++d) {
    auto* o = q.o + d * kWidth<X> + lane;
    X::store(o, X::mul(X::load(o), f));
  }
  for (int r = 0; r < rows / X::kWord; ++r) {
    auto* p = tile.p + r * kWidth<X> + lane;
    X::store(p, X::scale_words(X::load(p), f));
  }
}

// The same unit with every special case: references that must be raised, in the lanes that need it;
// rows that have seen nothing; scores beyond 2^21; NaN and infinity. Gives the same bits as
// score_unit to all other lanes.
template <class X, int NV>
void score_unit_cold(QueryBlock<X>& q, const TileScores<X>& tile, const Rows& keys, int row, int j0,
                     bool masked) {
  using Vec = typename X::Vec;
  using Mask = typename X::Mask;
  using Real = typename X::Real;
  using E = Exp2<Real>;
  const bool scaled = kPrescaled<X> || tile.bias;
  const Vec scale = X::broadcast(tile.scale_log2), inf = X::broadcast(__builtin_inff());
  const Vec minus_inf = X::broadcast(-__builtin_inff());
  Real scores[kUnit][NV * X::kLanes];
  for (int half = 0; half < kUnit; half += X::kRows) {
    Vec s[X::kRows][NV];
    load_scores<X, NV>(s, q, tile, {keys.row(half), keys.stride}, row + half, j0 * X::kLanes);
    for (int i = 0; i < X::kRows; ++i)
      for (int j = 0; j < NV; ++j) X::store(scores[half + i] + j * X::kLanes, s[i][j]);
  }
  for (int j = 0; j < NV; ++j) {
    const int lane = (j0 + j) * X::kLanes;
    Vec s[kUnit], full_scale[kUnit];  // as exp2_minus takes it; always scaled
    Mask visible[kUnit];
    for (int i = 0; i < kUnit; ++i) {
      s[i] = X::load(scores[i] + j * X::kLanes);
      visible[i] = X::lanes(masked ? tile.bits[row + i][j0 + j] : ~0u);
      if (tile.bias) {
        const Vec bias = X::load(tile.bias + (row + i) * kWidth<X> + lane);
        s[i] = kPrescaled<X> ? X::add(s[i], bias) : X::fma(s[i], scale, bias);
        visible[i] = X::both(visible[i], X::opposite(X::equal(bias, minus_inf)));
      }
      full_scale[i] = scaled ? s[i] : X::mul(s[i], scale);
    }
    // Raise m where a score of this unit exceeds it by more than 16.
    const Vec m = X::load(q.m + lane);
    const Mask usual = X::opposite(X::unordered(X::load(q.base_m + lane)));
    Mask exceeds = X::less(minus_inf, minus_inf);
    Vec largest = minus_inf;
    for (int i = 0; i < kUnit; ++i) {
      const Vec t = scaled ? X::add(s[i], X::load(q.base_m + lane))
                           : X::fma(s[i], scale, X::load(q.base_m + lane));
      const Mask here = X::either(
          X::less(X::broadcast(E::kMagic + E::kBias + 16), t),
          X::both(X::opposite(usual), X::less(X::add(m, X::broadcast(16)), full_scale[i])));
      exceeds = X::either(exceeds, X::both(visible[i], here));
      largest =
          X::select(X::both(visible[i], X::less(largest, full_scale[i])), full_scale[i], largest);
    }
    if (X::any(exceeds)) {
      const Vec raised = X::select(exceeds, X::min(X::ceil(largest), X::broadcast(E::kLargest)), m);
      rescale(q, tile, lane, row, X::select(exceeds, X::sub(m, raised), Vec{}));
      set_reference(q, lane, raised, scaled ? Real(1) : tile.scale_log2);
    }
    const Vec new_m = X::load(q.m + lane), base_m = X::load(q.base_m + lane),
              low = X::load(q.low + lane);
    const Mask unset = X::equal(new_m, minus_inf);
    const Mask large = X::unordered(base_m);
    Vec sum = X::load(q.l + lane), sum_words = X::load(q.l_words + lane);
    for (int i = 0; i < kUnit; i += 2) {
      Vec p[2], t;
      for (int h = 0; h < 2; ++h) {
        const Vec x = s[i + h], y = full_scale[i + h];
        p[h] = scaled ? exp2_minus<X, true>(X::max(low, x), base_m, scale, t)
                      : exp2_minus<X, false>(X::max(low, x), base_m, scale, t);
        if (X::any(large)) {  // the difference is rounded, as the scores themselves are
          const Vec difference = X::max(X::broadcast(E::kZero), X::sub(y, new_m));
          const Vec magic = X::broadcast(E::kMagic), n = X::sub(X::add(difference, magic), magic);
          const Vec power = X::times_power_of_two(exp2_fraction<X>(X::sub(difference, n), 1), n);
          const Mask zero = X::less(difference, X::broadcast(E::kZero + 1));
          p[h] = X::select(large, X::select(zero, Vec{}, power), p[h]);
        }
        p[h] = X::select(X::either(unset, X::equal(y, minus_inf)), Vec{}, p[h]);
        p[h] = X::select(X::either(X::unordered(y), X::equal(y, inf)), X::sub(inf, inf), p[h]);
        p[h] = X::select(visible[i + h], p[h], X::broadcast(tile.careful ? Real(-0.0) : Real(0)));
      }
      sum = X::add(sum, X::add(p[0], p[1]));
      Real* to = tile.p + (row + i) / X::kWord * kWidth<X> + lane;
      X::store_p(to, kWidth<X>, p[0], p[1]);
      if constexpr (X::kWord == 2) sum_words = X::add_pairs(sum_words, X::load(to));
    }
    X::store(q.l + lane, sum);
    if (X::kWord == 2) X::store(q.l_words + lane, sum_words);
  }
}

}  // namespace
