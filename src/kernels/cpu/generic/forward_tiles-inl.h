// SPDX-License-Identifier: Apache-2.0
// The verbs of flash_forward: what is loaded, multiplied and stored per tile.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/generic/online_softmax-inl.h"
#include "kernels/cpu/generic/pack-inl.h"
#include "kernels/cpu/generic/visible-inl.h"
#include "kernels/launch.h"

namespace {

inline constexpr double kLog2E = 1.4426950408889634;
inline constexpr double kLn2 = 0.69314718055994531;

inline int64_t round_up(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }
inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

template <class X>
typename X::Real scale_of(float scale, double scale_f64) {
  return sizeof(typename X::Real) == 8 ? static_cast<typename X::Real>(scale_f64)
                                       : static_cast<typename X::Real>(scale);
}

// A worker's memory for one tile of queries: `blocks` register blocks of kWidth queries that share
// each tile of keys, so that packing and reading keys is paid once per tile.
template <class X>
struct ForwardScratch {
  using Real = typename X::Real;
  static constexpr int kMaxBlocks = 16;
  QueryBlock<X> block[kMaxBlocks];
  Real* p;       // (key_tile / kWord, kWidth)
  Real* keys;    // (key_tile, words(head_dim)), where keys must be copied
  Real* values;  // (key_tile / kWord, value width), where values must be copied
  Real* bias;    // (key_tile, kWidth)
  VisibleTile<X>* visible;
  int64_t bytes;

  ForwardScratch(const tilewise::AttentionShape& shape, const tilewise::Geometry& g, void* memory) {
    Scratch s{static_cast<char*>(memory)};
    const int64_t width = round_up(shape.value_dim, X::kRows);
    for (int64_t i = 0; i < g.query_tile / kWidth<X>; ++i) {
      block[i].qt = s.take<Real>(words<X>(shape.head_dim) * kWidth<X>);
      block[i].o = s.take<Real>(width * kWidth<X>);
      for (Real** row : {&block[i].m, &block[i].base_m, &block[i].low, &block[i].l})
        *row = s.take<Real>(kWidth<X>);
      block[i].l_words = X::kWord == 1 ? block[i].l : s.take<Real>(kWidth<X>);
    }
    p = s.take<Real>(g.key_tile / X::kWord * kWidth<X>);
    keys = s.take<Real>(g.key_tile * words<X>(shape.head_dim));
    values = s.take<Real>(g.key_tile / X::kWord * width);
    bias = s.take<Real>(g.key_tile * kWidth<X>);
    visible = s.take<VisibleTile<X>>(1);
    bytes = s.used;
  }
};

// O_i = 0, m = -inf, l = 0.
template <class X>
void reset(QueryBlock<X>& q, int64_t value_width, typename X::Real score_scale) {
  std::memset(q.o, 0, value_width * kWidth<X> * sizeof(*q.o));
  std::memset(q.l, 0, kWidth<X> * sizeof(*q.l));
  std::memset(q.l_words, 0, kWidth<X> * sizeof(*q.l));
  for (int lane = 0; lane < kWidth<X>; lane += X::kLanes)
    set_reference(q, lane, X::broadcast(-__builtin_inff()), score_scale);
  q.fresh = true;
}

// (keys, kWidth) <- log2(e) * bias of `lanes` queries from q0 and `rows` keys from k0, transposed.
template <class X>
void load_bias(const Tensor& tensor, int64_t batch, int64_t head, int64_t q0, int64_t lanes,
               int64_t k0, int64_t rows, typename X::Real* to) {
  using Real = typename X::Real;
  using Vec = typename X::Vec;
  constexpr int L = X::kLanes;
  const Matrix m = matrix_of(tensor, batch, head);
  const Vec log2e = X::broadcast(static_cast<Real>(kLog2E));
  for (int64_t lane = 0; lane < kWidth<X>; lane += L)
    for (int64_t k = 0; k < round_up(rows, kUnit); k += L) {
      Vec block[L];
      for (int i = 0; i < L; ++i) {
        Real row[L] = {};
        if (lane + i < lanes && k < rows)
          load_row<X>(m, q0 + lane + i, k0 + k, smaller(L, rows - k), row);
        block[i] = X::mul(X::load(row), log2e);
      }
      X::transpose(block);
      for (int i = 0; i < L && k + i < round_up(rows, kUnit); ++i)
        X::store(to + (k + i) * kWidth<X> + lane, block[i]);
    }
}

// Lines 9 to 11 for one unit of a segment: P = 2^(S - m), l += rowsum(P), m raised where it must
// be.
template <class X>
void absorb_unit(QueryBlock<X>& q, const TileScores<X>& tile, const Rows& keys, const Segment& s,
                 int row) {
  const Rows unit = {keys.row(row), keys.stride};
  const auto run = [&]<int NV>() {
    if (tile.careful || q.fresh)
      score_unit_cold<X, NV>(q, tile, unit, row, s.j0, s.masked);
    else if (tile.bias)
      score_unit<X, NV, UnitKind::kBiased>(q, tile, unit, row, s.j0, s.masked);
    else if (s.masked)
      score_unit<X, NV, UnitKind::kMasked>(q, tile, unit, row, s.j0, true);
    else
      score_unit<X, NV, UnitKind::kPlain>(q, tile, unit, row, s.j0, false);
  };
  const int vectors = s.j1 - s.j0;
  if constexpr (X::kVectors > 2)
    if (vectors == 3) run.template operator()<3>();
  if constexpr (X::kVectors > 1)
    if (vectors == 2) run.template operator()<2>();
  if (vectors == 1) run.template operator()<1>();
  q.fresh = false;
}

// The same for all visible units of a tile.
template <class X>
void absorb_scores(QueryBlock<X>& q, const TileScores<X>& tile, const Rows& keys,
                   const VisibleTile<X>& visible) {
  for (int i = 0; i < visible.count; ++i) {
    const Segment& s = visible.segments[i];
    for (int row = s.begin; row < s.end; row += kUnit) absorb_unit(q, tile, keys, s, row);
  }
}

// c (columns, kWidth) += A^T B over the visible rows; A: Rows of words of the contracted index.
template <class X, bool kCareful>
__attribute__((noinline)) void multiply_add_ab(const Rows& a, int64_t columns,
                                               const typename X::Real* b,
                                               const VisibleTile<X>& visible, typename X::Real* c) {
  using Vec = typename X::Vec;
  constexpr int NV = X::kVectors;
  for (int64_t d = 0; d < columns; d += X::kRows, c += X::kRows * kWidth<X>) {
    const Rows part = {a.data + d * static_cast<int64_t>(sizeof(typename X::Real)), a.stride};
    Vec sum[X::kRows][NV];
    TILEWISE_UNROLL for (int i = 0; i < X::kRows; ++i) TILEWISE_UNROLL for (int j = 0; j < NV; ++j)
        sum[i][j] = X::load(c + i * kWidth<X> + j * X::kLanes);
    for (int i = 0; i < visible.count; ++i) {
      const Segment& s = visible.segments[i];
      const int64_t begin = s.begin / X::kWord, end = s.end / X::kWord;
      const auto run = [&]<int J0, int J1>() {
        multiply_add_words<X, NV, J0, J1, kCareful>(sum, part, b, begin, end);
      };
      if constexpr (NV == 3) {
        switch (s.j0 * 4 + s.j1) {
          case 1:
            run.template operator()<0, 1>();
            break;
          case 2:
            run.template operator()<0, 2>();
            break;
          case 3:
            run.template operator()<0, 3>();
            break;
          case 6:
            run.template operator()<1, 2>();
            break;
          case 7:
            run.template operator()<1, 3>();
            break;
          default:
            run.template operator()<2, 3>();
            break;
        }
      } else {
        static_assert(NV == 1);
        run.template operator()<0, 1>();
      }
    }
    TILEWISE_UNROLL for (int i = 0; i < X::kRows; ++i) TILEWISE_UNROLL for (int j = 0; j < NV; ++j)
        X::store(c + i * kWidth<X> + j * X::kLanes, sum[i][j]);
  }
}

// NaN or infinity among n numbers.
template <class X>
bool any_not_finite(const typename X::Real* x, int64_t n) {
  using Vec = typename X::Vec;
  Vec sum = Vec{};  // x * 0 is NaN for infinity and NaN
  int64_t i = 0;
  for (; i + X::kLanes <= n; i += X::kLanes) sum = X::fma(X::load(x + i), Vec{}, sum);
  bool found = X::any(X::unordered(sum));
  for (; i < n; ++i) found |= x[i] * 0 != 0;
  return found;
}

// NaN or infinity in O of one of the first `lanes` queries.
template <class X>
bool not_finite(const QueryBlock<X>& q, int64_t value_dim, int64_t lanes) {
  using Vec = typename X::Vec;
  for (int64_t lane = 0; lane < lanes; lane += X::kLanes) {
    Vec sum = Vec{};  // x * 0 is NaN for infinity and NaN
    for (int64_t d = 0; d < value_dim; ++d)
      sum = X::fma(X::load(q.o + d * kWidth<X> + lane), Vec{}, sum);
    const int64_t n = smaller(lanes - lane, X::kLanes);
    if (X::any(X::both(X::unordered(sum), X::lanes(static_cast<uint32_t>((uint64_t{1} << n) - 1)))))
      return true;
  }
  return false;
}

// LSE = m + log l, in natural logarithms; -inf for a row that has seen nothing.
template <class Real>
void store_logsumexp(char* to, Real m, Real l) {
  double log_l;
  if constexpr (sizeof(Real) == 4)
    log_l = __builtin_log2f(l);
  else
    log_l = __builtin_log2(l);
  const double value = l == 0 ? -__builtin_inf() : (static_cast<double>(m) + log_l) * kLn2;
  if constexpr (sizeof(Real) == 4) {
    const float rounded = static_cast<float>(value);
    std::memcpy(to, &rounded, 4);
  } else {
    std::memcpy(to, &value, 8);
  }
}

// Line 12, once instead of once per tile: O = diag(l)^-1 O; and LSE. O of a row that has seen
// nothing is 0.
template <class X>
void store_output(const tilewise::ForwardLaunch& args, const tilewise::ForwardItem& item,
                  const QueryBlock<X>& q, int64_t first, int64_t lanes) {
  using Real = typename X::Real;
  Real inverse[kWidth<X>];
  for (int lane = 0; lane < kWidth<X>; ++lane)
    inverse[lane] = q.l[lane] == 0 ? Real(0) : 1 / q.l_words[lane];
  const Matrix o = matrix_of(args.output, item.batch, item.head);
  transpose_out<X>(q.o, inverse, args.shape.value_dim, o, first, lanes);
  if (!args.logsumexp.data) return;
  const Matrix lse = matrix_of(args.logsumexp, item.batch, item.head);
  for (int64_t lane = 0; lane < lanes; ++lane)
    store_logsumexp(lse.at(first + lane, 0), q.m[lane], q.l[lane]);
}

}  // namespace
