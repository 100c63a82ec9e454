// SPDX-License-Identifier: Apache-2.0
// What Algorithm 4 needs once per row, before the walk over the tiles.
#pragma once

#include <cstdint>

#include "kernels/cpu/generic/backward_scores-inl.h"

namespace {

// dO * O of one row that is not of words: an fp32 output of a bf16 problem.
template <class X>
typename X::Real dot_row(const Matrix& o, const Matrix& g, int64_t r, int64_t value_dim) {
  constexpr int64_t kChunk = 64;
  typename X::Real a[kChunk], b[kChunk], sum = 0;
  for (int64_t c = 0; c < value_dim; c += kChunk) {
    const int64_t n = smaller(kChunk, value_dim - c);
    load_row<X>(o, r, c, n, a);
    load_row<X>(g, r, c, n, b);
    for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  }
  return sum;
}

// D = rowsum(dO * O) of `lanes` rows, each summed as score_rows sums dP.
template <class X>
void dot_rows(const Matrix& o, const Matrix& g, int64_t first, int64_t lanes, int64_t value_dim,
              typename X::Real* to) {
  using Vec = typename X::Vec;
  using Real = typename X::Real;
  if (X::kWord == 2 && o.dtype != DType::kBFloat16) {
    for (int64_t r = 0; r < lanes; ++r) to[r] = dot_row<X>(o, g, first + r, value_dim);
    return;
  }
  constexpr int64_t kChunk = 64;
  Real ot[kChunk / X::kWord * kWidth<X>], gt[kChunk / X::kWord * kWidth<X>];
  Vec sum[X::kVectors] = {};
  for (int64_t c = 0; c < value_dim; c += kChunk) {
    const int64_t n = smaller(kChunk, value_dim - c);
    Matrix o_part = o, g_part = g;
    o_part.data = o.at(0, c);
    g_part.data = g.at(0, c);
    transpose_words<X>(o_part, first, lanes, n, 1, ot);
    transpose_words<X>(g_part, first, lanes, n, 1, gt);
    for (int64_t d = 0; d < words<X>(n); ++d)
      for (int j = 0; j < X::kVectors; ++j) {
        const int64_t at = d * kWidth<X> + j * X::kLanes;
        sum[j] = X::dot(sum[j], X::load(gt + at), X::load(ot + at));
      }
  }
  for (int j = 0; j < X::kVectors; ++j) X::store(to + j * X::kLanes, sum[j]);
}

// Whether all of row r is 0: it sees nothing, or nothing but zeros.
inline bool is_zero_row(const Matrix& o, int64_t r, int64_t value_dim) {
  for (int64_t c = 0; c < value_dim; ++c)
    if (tilewise::load_element(o.at(r, c), o.dtype, 0) != 0) return false;
  return true;
}

// Line 19, once per row: D = rowsum(dO * O) - dLSE; and LSE. An LSE
// that is NaN, +inf or beyond 2^21 is for the careful path, whose exponentials have no restricted
// range.
template <class X>
void backward_prepare(const tilewise::BackwardLaunch& args, const tilewise::PrepareItem& item) {
  using Real = typename X::Real;
  const auto& shape = args.shape;
  const Matrix o = matrix_of(args.output, item.batch, item.head),
               g = matrix_of(args.grad_output, item.batch, item.head),
               dq = matrix_of(args.grad_query, item.batch, item.head);
  const int64_t at = (item.batch * shape.query_heads + item.head) * shape.query_length;
  Real *all_lse = static_cast<Real*>(args.lse) + at, *delta = static_cast<Real*>(args.delta) + at;
  const auto number = [&](const Tensor& tensor, int64_t r) {
    return tilewise::load_element(matrix_of(tensor, item.batch, item.head).at(r, 0), tensor.dtype,
                                  0);
  };
  const double sink =
      item.grad_sink
          ? tilewise::load_element(matrix_of(args.sink, 0, item.head).at(0, 0), args.sink.dtype, 0)
          : -__builtin_inf();
  double grad_sink = 0;
  bool careful = false;
  for (int64_t first = item.row_begin; first < item.row_end; first += kWidth<X>) {
    const int64_t lanes = smaller(kWidth<X>, item.row_end - first);
    Real sums[kWidth<X>];
    dot_rows<X>(o, g, first, lanes, shape.value_dim, sums);
    for (int64_t r = first; r < first + lanes; ++r) {
      delta[r] = sums[r - first];
      if (args.grad_logsumexp.data) delta[r] -= static_cast<Real>(number(args.grad_logsumexp, r));
      const double lse = number(args.logsumexp, r);
      all_lse[r] = static_cast<Real>(lse);
      const double limit = Exp2<Real>::kLargestReference;
      careful |= lse != -__builtin_inf() && !(-limit <= lse && lse <= limit);
      if (sink == -__builtin_inf()) continue;  // its probability is 0
      // dO of a row that sees nothing may be NaN, but its D is -dLSE.
      if (sums[r - first] * 0 != 0 && is_zero_row(o, r, shape.value_dim))
        delta[r] =
            args.grad_logsumexp.data ? static_cast<Real>(-number(args.grad_logsumexp, r)) : 0;
      const double log_p = sink > lse ? 0 : sink - lse;  // LSE includes it, but is rounded
      grad_sink -= __builtin_exp(log_p) * static_cast<double>(delta[r]);
    }
  }
  if (item.grad_sink) *item.grad_sink = grad_sink;
  if (careful)
    __atomic_store_n(args.careful + item.batch * shape.kv_heads +
                         item.head / (shape.query_heads / shape.kv_heads),
                     1, __ATOMIC_RELAXED);
  for (int64_t r = item.row_begin; r < item.row_end; ++r) {  // dQ of rows that see nothing
    const auto* begin =
        mask_of(args, item.batch, item.head).by_query.begin + r / args.geometry.backward_query_tile;
    if (begin[0] != begin[1]) continue;
    const Real zeros[X::kLanes] = {};
    for (int64_t c = 0; c < shape.head_dim; c += X::kLanes)
      store_row<X>(dq, r, c, smaller(X::kLanes, shape.head_dim - c), zeros);
  }
}

}  // namespace
