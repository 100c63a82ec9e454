// SPDX-License-Identifier: Apache-2.0
// Scores between the product and the softmax: scales, and units in memory for a program.
#pragma once

#include <cstdint>

#include "kernels/cpu/generic/products-inl.h"
#include "kernels/launch.h"

namespace {

inline constexpr double kLog2E = 1.4426950408889634;
inline constexpr double kLog2ELow = 2.0355273740931033e-17;  // log2(e) - kLog2E
inline constexpr double kLn2 = 0.69314718055994531;

// Q carries the scale, so that S needs no factor any more. Not where its words are pairs of bf16.
template <class X>
inline constexpr bool kPrescaled = X::kWord == 1;

template <class X>
typename X::Real scale_of(float scale, double scale_f64) {
  return sizeof(typename X::Real) == 8 ? static_cast<typename X::Real>(scale_f64)
                                       : static_cast<typename X::Real>(scale);
}

// Where the scale is applied. Without a program all of it at once, in base 2, to Q where words are
// numbers; a program sees natural units.
template <class Real>
struct ScoreScales {
  Real query;     // of Q, where a word is one number
  Real unscaled;  // of S^T, before a program
  Real to_log2;   // of the scores
};

template <class X>
ScoreScales<typename X::Real> score_scales(typename X::Real scale, bool has_program) {
  using Real = typename X::Real;
  const auto log2e = static_cast<Real>(kLog2E);
  if (has_program) return {scale, scale, log2e};
  return {scale * log2e, Real(1), kPrescaled<X> ? Real(1) : scale * log2e};
}
template <class X>
ScoreScales<typename X::Real> score_scales(const tilewise::ForwardLaunch& args) {
  return score_scales<X>(scale_of<X>(args.scale, args.scale_f64), args.score != nullptr);
}

// s (kUnit, kWidth), lane vectors [j0, j0 + NV) = A B, as multiply_abt has it.
template <class X, int NV>
TILEWISE_INLINE void multiply_unit(const Rows& a, const typename X::Real* b, int64_t depth, int j0,
                                   typename X::Real* s) {
  for (int half = 0; half < kUnit; half += X::kRows) {
    typename X::Vec x[X::kRows][NV];
    multiply_abt<X, NV>(x, {a.row(half), a.stride}, b + j0 * X::kLanes, depth);
    TILEWISE_UNROLL for (int i = 0; i < X::kRows; ++i) TILEWISE_UNROLL for (int j = 0; j < NV; ++j)
        X::store(s + (half + i) * kWidth<X> + (j0 + j) * X::kLanes, x[i][j]);
  }
}

template <class X, int NV>
TILEWISE_INLINE void scale_unit(typename X::Real factor, int j0, typename X::Real* s) {
  if (factor == 1) return;
  for (int i = 0; i < kUnit; ++i) TILEWISE_UNROLL for (int j = 0; j < NV; ++j) {
      auto* to = s + i * kWidth<X> + (j0 + j) * X::kLanes;
      X::store(to, X::mul(X::load(to), X::broadcast(factor)));
    }
}

}  // namespace
