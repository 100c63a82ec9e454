// SPDX-License-Identifier: Apache-2.0
// Online softmax, fused behind the product S = Q K^T ([Dao22] Algorithm 1, lines 9 to 11). S never
// reaches memory: P = 2^(S - m) is computed from the accumulators.
//
// Everything is in base 2 and per lane (a lane is a query). The reference m of a row need not be
// the maximum: any number near it gives the same O and LSE. m is an INTEGER, raised only when a
// score exceeds it by more than 16. Then rescaling by 2^(m_old - m_new) loses no bits, and P may be
// computed before the maximum is known: one test per unit finds the rare case that m must be
// raised, upon which the unit is computed again (score_unit_cold). P of the units before is
// added to O first, then O is rescaled: P itself would become subnormal, which is slow. Invariants:
// a lane's m depends on its own visible scores only, unit by unit from key 0, never on its
// neighbours, on tiles or on lengths (with a program or a bias it may be raised by its own sum once
// more where a neighbour sees further keys: follow_sums). m = -inf: nothing visible yet; then
// base_m is NaN, which sends the next unit that shows it something to the cold path. So does |m| >
// 2^21, where base - m is inexact.
#pragma once

#include <cstdint>

#include "kernels/cpu/generic/exp2-inl.h"
#include "kernels/cpu/generic/products-inl.h"
#include "kernels/cpu/generic/scores-inl.h"
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
  Real* l_words;    // the sum of P as the product P V takes it: rounded to words. l itself in fp32;
                    // summed with the product itself where that is of tiles
  bool fresh;       // no unit absorbed yet
  bool raising;     // m was raised in the last unit, or it is fresh: to the cold path at once
  int64_t span;     // of keys (kSpan) that the last unit lay in; -1: none yet
  Real* raised_by;  // 2^(old m - new m) where m was raised last; 1 in lanes where it was not
  Real* behind;     // what O has yet to be multiplied by; null: O is up to date
  Real* behind_memory;
};

// What all units of a tile share.
template <class X>
struct TileScores {
  using Real = typename X::Real;
  Real* p;  // (rows / kWord, kWidth) words: P^T of this tile
  Real* s;  // S^T: (kGroup, kWidth) of one group of rows where products are of tiles;
            // (rows, kWidth) or null, to be computed from the keys, elsewhere
  TileEvaluator<X>* score;  // gives the scores of the unit at hand; null: they are S^T
  Real* unit;               // (kUnit, kWidth): the S^T that it reads, where s is null
  Real unscaled;            // what that S^T is multiplied by to be s
  const Real* bias;         // (rows, kWidth), times log2(e); null: none
  const uint16_t (*bits)[X::kVectors];
  Real to_log2;             // what scores are multiplied by to be in base 2
  int64_t key;              // local index of row 0
  int64_t depth;            // words(head_dim)
  bool careful;             // mark masked pairs by p = -0.0
  int vectors;              // of lanes that hold queries
  const uint64_t* dropped;  // find_dropped; null: no dropout
};

// kScored: of a program, with or without a mask.
enum class UnitKind { kPlain, kMasked, kScored, kBiased };

template <class X>
inline constexpr bool kSumsWords = X::kWord == 2 && !kTiled<X>;

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

// What scores, in the units of exp2_minus, are multiplied by to be in base 2.
template <class X>
typename X::Real reference_scale(const TileScores<X>& tile) {
  return kPrescaled<X> || tile.bias ? typename X::Real(1) : tile.to_log2;
}

// Scores of programs and biases may grow with the position. Then some lane would exceed m by more
// than 16 in nearly every unit; so m also follows the sums, where kSpan keys end.
inline constexpr int kSpan = 64;

// Raises m by the exponent of l where P is large on average. Neither depends on other lanes, and
// calling it twice changes nothing. True: some m was raised.
template <class X>
__attribute__((noinline)) bool follow_sums(QueryBlock<X>& q, const TileScores<X>& tile) {
  using Vec = typename X::Vec;
  using Real = typename X::Real;
  using Bits = typename X::Bits;
  constexpr int kFraction = sizeof(Real) == 4 ? 23 : 52, kOne = sizeof(Real) == 4 ? 127 : 1023;
  constexpr Real kLarge = 1024, kMost = 0x1p60f;
  const auto is_large = [&](int at) {  // infinite sums and |m| > 2^21 stay as they are
    const Vec l = X::load(q.l + at);
    const auto within = X::both(X::less(X::broadcast(kLarge), l), X::less(l, X::broadcast(kMost)));
    return X::both(within, X::opposite(X::unordered(X::load(q.base_m + at))));
  };
  auto large = is_large(0);
  TILEWISE_UNROLL for (int j = 1; j < X::kVectors; ++j) large =
      X::either(large, is_large(j * X::kLanes));
  if (!X::any(large)) return false;
  for (int j = 0; j < kWidth<X>; j += X::kLanes) {
    Real exponent[X::kLanes], factor[X::kLanes];
    for (int lane = 0; lane < X::kLanes; ++lane) {
      Bits bits;
      std::memcpy(&bits, q.l + j + lane, sizeof(bits));
      const Bits n = (bits >> kFraction) - kOne, power = (kOne - n) << kFraction;
      exponent[lane] = static_cast<Real>(n);
      std::memcpy(factor + lane, &power, sizeof(power));
    }
    const auto raised = is_large(j);
    const Vec f = X::select(raised, X::load(factor), X::broadcast(1));
    const Vec m = X::load(q.m + j);
    X::store(q.l + j, X::mul(X::load(q.l + j), f));
    if (kSumsWords<X>) X::store(q.l_words + j, X::mul(X::load(q.l_words + j), f));
    X::store(q.raised_by + j, f);
    set_reference(q, j, X::select(raised, X::add(m, X::load(exponent)), m), reference_scale(tile));
  }
  return true;
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

// x, but low where P would be 0 or subnormal. Scores of programs spread so widely that many P would
// be subnormal, which is slow (spread); others need no more than P = 0 at low.
template <class X>
TILEWISE_INLINE typename X::Vec bounded(typename X::Vec x, typename X::Vec low, bool spread) {
  return spread ? X::select(X::less(x, X::add(low, X::broadcast(1))), low, x) : X::max(low, x);
}

// S^T of the group that starts at `row` of the tile, into tile.s. whole: all of it is visible;
// otherwise P of its units that are not computed is 0, or marked as masked.
template <class X>
void score_group(const QueryBlock<X>& q, const TileScores<X>& tile, const Rows& keys, int row,
                 bool whole) {
  if (tile.vectors == 1)
    multiply_group<X, 1>({keys.row(row), keys.stride}, q.qt, tile.depth, tile.s);
  else
    multiply_group<X>({keys.row(row), keys.stride}, q.qt, tile.depth, tile.s);
  if (whole) return;
  const auto hidden = tile.careful ? X::masked_words() : typename X::Vec{};
  auto* p = tile.p + row / X::kWord * kWidth<X>;
  for (int i = 0; i < kGroup<X> / X::kWord * kWidth<X>; i += X::kLanes) X::store(p + i, hidden);
}

// S^T of kRows keys: of row `row` of the tile, which `keys` starts with, and lanes from lane0 on.
template <class X, int NV, bool kMayBeScored>
TILEWISE_INLINE void load_scores(typename X::Vec (&s)[X::kRows][NV], const QueryBlock<X>& q,
                                 const TileScores<X>& tile, const Rows& keys, int row, int lane0) {
  if (kMayBeScored && tile.score) {
    const Operand& from = tile.score->output(0);
    TILEWISE_UNROLL for (int i = 0; i < X::kRows; ++i) TILEWISE_UNROLL for (int j = 0; j < NV; ++j)
        s[i][j] = X::load(reinterpret_cast<const typename X::Real*>(
            from.at(row % kUnit + i, lane0 / X::kLanes + j)));
    return;
  }
  if (!kTiled<X> && !tile.s) {
    multiply_abt<X, NV>(s, keys, q.qt + lane0, tile.depth);
    return;
  }
  const auto* from = tile.s + (kTiled<X> ? row % kGroup<X> : row) * kWidth<X> + lane0;
  TILEWISE_UNROLL for (int i = 0; i < X::kRows; ++i) TILEWISE_UNROLL for (int j = 0; j < NV; ++j)
      s[i][j] = X::load(from + i * kWidth<X> + j * X::kLanes);
}

template <class X, int NV>
__attribute__((noinline)) void score_unit_cold(QueryBlock<X>& q, const TileScores<X>& tile,
                                               const Rows& keys, int row, int j0, bool masked);

// kUnit keys from `row` of the tile on, lane vectors [j0, j0 + NV): P into tile.p, row sums into l.
template <class X, int NV, UnitKind kKind>
__attribute__((noinline)) void score_unit(QueryBlock<X>& q, const TileScores<X>& tile,
                                          const Rows& keys, int row, int j0, bool masked) {
  using Vec = typename X::Vec;
  using Real = typename X::Real;
  constexpr bool kScaled = kPrescaled<X> || kKind == UnitKind::kBiased;
  const int lane0 = j0 * X::kLanes;
  const Vec scale = X::broadcast(tile.to_log2);
  Vec sum[NV], sum_words[NV], over = Vec{};
  TILEWISE_UNROLL for (int j = 0; j < NV; ++j) {
    sum[j] = X::load(q.l + lane0 + j * X::kLanes);
    if constexpr (kSumsWords<X>) sum_words[j] = X::load(q.l_words + lane0 + j * X::kLanes);
  }
  for (int half = 0; half < kUnit; half += X::kRows) {
    Vec s[X::kRows][NV];
    load_scores<X, NV, kKind == UnitKind::kScored || kKind == UnitKind::kBiased>(
        s, q, tile, {keys.row(half), keys.stride}, row + half, lane0);
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
            x = X::fma(x, scale, bias);
            x = X::select(X::equal(bias, X::broadcast(-__builtin_inff())), low, x);
          }
          constexpr bool kSpread = kKind == UnitKind::kScored && kPrescaled<X>;
          if (kSpread) x = X::mul(x, scale);
          x = bounded<X>(x, low, kSpread);
          if (kKind != UnitKind::kPlain && masked)
            x = X::select(X::lanes(tile.bits[r + h][j0 + j]), x, low);
          p[h] = exp2_minus<X, kScaled>(x, base_m, scale, t[h]);
        }
        over = X::or_bits(over, t[0], t[1]);
        sum[j] = X::add(sum[j], X::add(p[0], p[1]));
        Real* to = tile.p + r / X::kWord * kWidth<X> + lane;
        X::store_p(to, kWidth<X>, p[0], p[1]);
        if constexpr (kSumsWords<X>) sum_words[j] = X::add_pairs(sum_words[j], X::load(to));
      }
    }
  }
  if (__builtin_expect(X::any_bits(over, Exp2<Real>::kOverflowBits), 0)) {
    score_unit_cold<X, NV>(q, tile, keys, row, j0, masked);
    return;
  }
  TILEWISE_UNROLL for (int j = 0; j < NV; ++j) {
    X::store(q.l + lane0 + j * X::kLanes, sum[j]);
    if constexpr (kSumsWords<X>) X::store(q.l_words + lane0 + j * X::kLanes, sum_words[j]);
  }
}

// Scores of one lane vector and unit, as the cold path sees them.
template <class X>
struct ColdUnit {
  typename X::Vec x[kUnit];  // as exp2_minus takes them
  typename X::Mask visible[kUnit];
  bool scaled;
  bool spread;  // see bounded
  typename X::Vec scale;
};

// P where something is special: a row that has seen nothing yet, scores beyond 2^21 (their
// difference is rounded, as they themselves are), NaN, infinity.
template <class X>
__attribute__((noinline)) void exp2_special(const ColdUnit<X>& unit, typename X::Vec m,
                                            typename X::Vec base_m, typename X::Vec low,
                                            typename X::Vec (&p)[kUnit]) {
  using Vec = typename X::Vec;
  using E = Exp2<typename X::Real>;
  const Vec inf = X::broadcast(__builtin_inff()), minus_inf = X::broadcast(-__builtin_inff());
  const auto unset = X::equal(m, minus_inf), large = X::unordered(base_m);
  for (int i = 0; i < kUnit; ++i) {
    const Vec x = unit.x[i], y = unit.scaled ? x : X::mul(x, unit.scale);
    Vec t;
    p[i] = unit.scaled
               ? exp2_minus<X, true>(bounded<X>(x, low, unit.spread), base_m, unit.scale, t)
               : exp2_minus<X, false>(bounded<X>(x, low, unit.spread), base_m, unit.scale, t);
    if (X::any(large)) {
      const Vec difference = X::max(X::broadcast(E::kZero), X::sub(y, m));
      const Vec magic = X::broadcast(E::kMagic), n = X::sub(X::add(difference, magic), magic);
      const Vec power = X::times_power_of_two(exp2_fraction<X>(X::sub(difference, n), 1), n);
      const auto zero = X::less(difference, X::broadcast(E::kZero + 1));
      p[i] = X::select(large, X::select(zero, Vec{}, power), p[i]);
    }
    p[i] = X::select(X::either(unset, X::equal(y, minus_inf)), Vec{}, p[i]);
    p[i] = X::select(X::either(X::unordered(y), X::equal(y, inf)), X::sub(inf, inf), p[i]);
  }
}

// The same unit with every special case, in the lanes that need it; above all references that must
// be raised. Gives the same bits as score_unit to all other lanes.
template <class X, int NV>
void score_unit_cold(QueryBlock<X>& q, const TileScores<X>& tile, const Rows& keys, int row, int j0,
                     bool masked) {
  using Vec = typename X::Vec;
  using Mask = typename X::Mask;
  using Real = typename X::Real;
  using E = Exp2<Real>;
  const Vec minus_inf = X::broadcast(-__builtin_inff());
  const Vec masked_p = X::broadcast(tile.careful ? Real(-0.0) : Real(0));
  ColdUnit<X> unit;
  unit.scaled = tile.bias || kPrescaled<X>;
  unit.spread = kPrescaled<X> && tile.score && !tile.bias;
  unit.scale = X::broadcast(tile.to_log2);
  Real scores[kUnit][NV * X::kLanes];
  for (int half = 0; half < kUnit; half += X::kRows) {
    Vec s[X::kRows][NV];
    load_scores<X, NV, true>(s, q, tile, {keys.row(half), keys.stride}, row + half, j0 * X::kLanes);
    TILEWISE_UNROLL for (int i = 0; i < X::kRows; ++i) TILEWISE_UNROLL for (int j = 0; j < NV; ++j)
        X::store(scores[half + i] + j * X::kLanes, s[i][j]);
  }
  q.raising = false;
  for (int j = 0; j < kWidth<X>; j += X::kLanes) X::store(q.raised_by + j, X::broadcast(1));
  for (int j = 0; j < NV; ++j) {
    const int lane = (j0 + j) * X::kLanes;
    const Vec old_m = X::load(q.m + lane), old_base = X::load(q.base_m + lane);
    Vec largest = minus_inf, largest_t = minus_inf, not_finite = Vec{};
    TILEWISE_UNROLL for (int i = 0; i < kUnit; ++i) {
      Vec x = X::load(scores[i] + j * X::kLanes);
      unit.visible[i] = X::lanes(masked ? tile.bits[row + i][j0 + j] : ~0u);
      if (tile.bias) {
        const Vec bias = X::load(tile.bias + (row + i) * kWidth<X> + lane);
        x = X::fma(x, unit.scale, bias);
        unit.visible[i] = X::both(unit.visible[i], X::opposite(X::equal(bias, minus_inf)));
      }
      if (unit.spread) x = X::mul(x, unit.scale);
      if (tile.score)
        unit.visible[i] = X::both(unit.visible[i], X::opposite(X::equal(x, minus_inf)));
      unit.x[i] = x;
      const Vec y = unit.scaled ? x : X::mul(x, unit.scale);
      const Vec t = unit.scaled ? X::add(x, old_base) : X::fma(x, unit.scale, old_base);
      // The second operand where one is NaN.
      largest = X::select(unit.visible[i], X::max(y, largest), largest);
      largest_t = X::select(unit.visible[i], X::max(t, largest_t), largest_t);
      not_finite = X::fma(y, Vec{}, not_finite);
    }
    // Raise m where a score of this unit exceeds it by more than 16.
    const Mask exceeds = X::either(
        X::less(X::broadcast(E::kMagic + E::kBias + 16), largest_t),
        X::both(X::unordered(old_base), X::less(X::add(old_m, X::broadcast(16)), largest)));
    if (X::any(exceeds)) {
      const Vec m = X::select(exceeds, X::min(X::ceil(largest), X::broadcast(E::kLargest)), old_m);
      const Vec n = X::select(exceeds, X::sub(old_m, m), Vec{});
      const Vec f = X::times_power_of_two(X::broadcast(1), n);
      X::store(q.l + lane, X::mul(X::load(q.l + lane), f));
      if (kSumsWords<X>) X::store(q.l_words + lane, X::mul(X::load(q.l_words + lane), f));
      X::store(q.raised_by + lane, f);
      set_reference(q, lane, m, reference_scale(tile));
      q.raising = true;
    }
    const Vec m = X::load(q.m + lane), base_m = X::load(q.base_m + lane),
              low = X::load(q.low + lane);
    Vec p[kUnit], t;
    if (X::any(X::either(X::unordered(not_finite), X::unordered(base_m)))) {  // m = -inf included
      exp2_special<X>(unit, m, base_m, low, p);
    } else if (unit.scaled) {
      TILEWISE_UNROLL for (int i = 0; i < kUnit; ++i) p[i] =
          exp2_minus<X, true>(bounded<X>(unit.x[i], low, unit.spread), base_m, unit.scale, t);
    } else {
      TILEWISE_UNROLL for (int i = 0; i < kUnit; ++i) p[i] =
          exp2_minus<X, false>(bounded<X>(unit.x[i], low, unit.spread), base_m, unit.scale, t);
    }
    Vec sum = X::load(q.l + lane), sum_words = X::load(q.l_words + lane);
    TILEWISE_UNROLL for (int i = 0; i < kUnit; i += 2) {
      TILEWISE_UNROLL for (int h = 0; h < 2; ++h) p[i + h] =
          X::select(unit.visible[i + h], p[i + h], masked_p);
      sum = X::add(sum, X::add(p[i], p[i + 1]));
      Real* to = tile.p + (row + i) / X::kWord * kWidth<X> + lane;
      X::store_p(to, kWidth<X>, p[i], p[i + 1]);
      if constexpr (kSumsWords<X>) sum_words = X::add_pairs(sum_words, X::load(to));
    }
    X::store(q.l + lane, sum);
    if (kSumsWords<X>) X::store(q.l_words + lane, sum_words);
  }
}

}  // namespace
