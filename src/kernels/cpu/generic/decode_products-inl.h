// SPDX-License-Identifier: Apache-2.0
// The products of flash_decode-inl.h, and what they work on.
#pragma once

#include "kernels/cpu/generic/decode_visible-inl.h"
#include "kernels/cpu/generic/flash_forward-inl.h"

namespace {

// Keys; a tile of K and V stays in the second-level cache.
template <class X>
inline constexpr int kDecodeTile = kTiled<X> ? 256 : 64;
// Beyond, rows fill the lanes of Q K^T, or the tiles of P V, well enough.
inline constexpr int kFewRows = 8;

template <class X>
int64_t decode_width(int64_t value_dim) {
  return kTiled<X> ? value_width<X>(value_dim) : round_up(value_dim, X::kLanes);
}

// The rows of one item, and what a chunk of keys has given them.
template <class X>
struct DecodeScratch {
  using Real = typename X::Real;
  QueryBlock<X> q;  // o: (kWidth, width), a row of dims for each row
  Real* query;      // (kWidth, words(head_dim))
  Real* s;          // (kDecodeTile<X>, kWidth)
  Real* unit;       // (kUnit, kWidth)
  Real* p;          // (kDecodeTile<X> / kWord, kWidth)
  Real* keys;       // (kDecodeTile<X>, words(head_dim)), where keys must be copied
  Real* values;     // (kDecodeTile<X> / kWord, width), where values must be copied
  Real* groups;     // as in ForwardScratch
  Real* p_rows;     // (kDecodeTile / kGroup, kWidth, kStep): P, where products are of tiles
  Real* bias;       // (kDecodeTile<X>, kWidth)
  Real* row;        // of O, m, l, l_words; or of the bias
  VisibleTile<X>* visible;
  DroppedRows* dropped;
  TileEvaluator<X> evaluator;  // rows are keys
  int64_t bytes;

  DecodeScratch(const tilewise::AttentionShape& shape, const ProgramSizes& programs, void* memory) {
    Scratch part{static_cast<char*>(memory)};
    const int64_t width = decode_width<X>(shape.value_dim);
    q.qt = part.take<Real>(words<X>(shape.head_dim) * kWidth<X>);
    q.o = part.take<Real>(width * kWidth<X>);
    take_state(part, q);
    query = part.take<Real>(words<X>(shape.head_dim) * kWidth<X>);
    s = part.take<Real>(kDecodeTile<X> * kWidth<X>);
    unit = part.take<Real>(kUnit * kWidth<X>);
    p = part.take<Real>(kDecodeTile<X> / X::kWord * kWidth<X>);
    keys = part.take<Real>(kDecodeTile<X> * words<X>(shape.head_dim));
    values = part.take<Real>(kDecodeTile<X> / X::kWord * width);
    groups = kTiled<X> ? part.take<Real>(kDecodeTile<X> / X::kWord * width) : nullptr;
    p_rows = kTiled<X> ? part.take<Real>(kDecodeTile<X> / X::kWord * kWidth<X>) : nullptr;
    bias = part.take<Real>(kDecodeTile<X> * kWidth<X>);
    row = part.take<Real>(larger(shape.value_dim + 3, kDecodeTile<X>));
    visible = part.take<VisibleTile<X>>(1);
    dropped = part.take<DroppedRows>(1);
    evaluator = TileEvaluator<X>(programs, true, part);
    bytes = part.used;
  }
};

// S^T (keys, kWidth) of R rows for whole groups of 2 kLanes keys. Lanes are keys until the end; two
// vectors of them at a time, since the sum of each row is a chain. A sum is that of multiply_abt,
// in its order. fetch: rows that are read next, fetched meanwhile.
template <class X, int R>
__attribute__((noinline)) void multiply_few_rows(const Rows& keys, Fetch<X>& fetch, int64_t count,
                                                 const typename X::Real* query, int64_t depth,
                                                 typename X::Real* s) {
  using Vec = typename X::Vec;
  using Real = typename X::Real;
  constexpr int L = X::kLanes;
  const int lines = fetch.each(count / L * ((depth + L - 1) / L));
  for (int64_t k0 = 0; k0 < count; k0 += 2 * L) {
    Vec sum[2][R] = {};
    for (int64_t d = 0; d < depth; d += L) {
      const int64_t n = smaller(L, depth - d), byte = d * static_cast<int64_t>(sizeof(Real));
      TILEWISE_UNROLL for (int g = 0; g < 2; ++g) {
        fetch.lines(lines);
        Vec block[L];
        TILEWISE_UNROLL for (int i = 0; i < L; ++i) {
          const char* word = keys.row(k0 + g * L + i) + byte;
          if (n == L) {
            block[i] = X::load(reinterpret_cast<const Real*>(word));
          } else {
            Real part[L] = {};
            std::memcpy(part, word, n * sizeof(Real));
            block[i] = X::load(part);
          }
        }
        X::transpose(block);
        TILEWISE_UNROLL for (int i = 0; i < L; ++i) if (i < n)
            TILEWISE_UNROLL for (int r = 0; r < R; ++r) sum[g][r] =
                X::dot(sum[g][r], block[i], X::broadcast(query[r * depth + d + i]));
      }
    }
    TILEWISE_UNROLL for (int g = 0; g < 2; ++g) {
      Vec block[L] = {};
      TILEWISE_UNROLL for (int r = 0; r < R; ++r) block[r] = sum[g][r];
      X::transpose(block);
      TILEWISE_UNROLL for (int i = 0; i < L; ++i)
          X::store(s + (k0 + g * L + i) * kWidth<X>, block[i]);
    }
  }
}

template <class X>
void multiply_few_rows(const Rows& keys, Fetch<X>& fetch, int64_t count, int rows,
                       const typename X::Real* query, int64_t depth, typename X::Real* s) {
  if (rows > 4)
    multiply_few_rows<X, 8>(keys, fetch, count, query, depth, s);
  else if (rows > 2)
    multiply_few_rows<X, 4>(keys, fetch, count, query, depth, s);
  else if (rows > 1)
    multiply_few_rows<X, 2>(keys, fetch, count, query, depth, s);
  else
    multiply_few_rows<X, 1>(keys, fetch, count, query, depth, s);
}

// c (RB rows of `width` dims) += P V over words [begin, end) of the keys, dims [column, column + NV
// vectors). p: word (w, row i) at p[w * kWidth + i].
template <class X, int RB, int NV, bool kCareful>
__attribute__((noinline)) void multiply_add_pv(const typename X::Real* p, const Rows& v,
                                               int64_t begin, int64_t end, int64_t column,
                                               typename X::Real* c, int64_t width, Fetch<X>& fetch,
                                               int lines) {
  using Vec = typename X::Vec;
  using Real = typename X::Real;
  constexpr int L = X::kLanes;
  Vec sum[RB][NV];
  TILEWISE_UNROLL for (int i = 0; i < RB; ++i) TILEWISE_UNROLL for (int j = 0; j < NV; ++j)
      sum[i][j] = X::load(c + i * width + column + j * L);
  const char* row = v.row(begin) + column * static_cast<int64_t>(sizeof(Real));
  p += begin * kWidth<X>;
  for (int64_t w = begin; w < end; ++w) {
    fetch.lines(lines);
    Vec x[NV];
    TILEWISE_UNROLL for (int j = 0; j < NV; ++j) x[j] =
        X::load(reinterpret_cast<const Real*>(row) + j * L);
    TILEWISE_UNROLL for (int i = 0; i < RB; ++i) {
      const Vec weight = X::broadcast(p[i]);
      TILEWISE_UNROLL for (int j = 0; j < NV; ++j) sum[i][j] =
          X::dot(sum[i][j], kCareful ? X::hide_masked(x[j], weight) : x[j], weight);
    }
    p += kWidth<X>;
    row += v.stride;
  }
  TILEWISE_UNROLL for (int i = 0; i < RB; ++i) TILEWISE_UNROLL for (int j = 0; j < NV; ++j)
      X::store(c + i * width + column + j * L, sum[i][j]);
}

template <class Real>
void scale_row(Real* row, int64_t n, Real factor) {
  for (int64_t i = 0; i < n; ++i) row[i] *= factor;
}

// O = diag(2^(old m - new m)) O + P V over the visible keys of each row.
template <class X, bool kCareful>
void multiply_add_values(DecodeScratch<X>& scratch, const Rows& v, int lanes, int64_t width,
                         RowRange range, Fetch<X>& next) {
  constexpr int L = X::kLanes, W = X::kWord;
  constexpr int NV = X::kRows / 2;  // with 4 rows: half the registers accumulate
  const VisibleTile<X>& visible = *scratch.visible;
  // Two thirds of them: the first third was fetched beside the softmax.
  const int lines = next.each(3 * kDecodeTile<X> / (2 * W) * ((width + NV * L - 1) / (NV * L)) *
                              ((lanes + 3) / 4));
  for (int lane = 0; lane < lanes;) {
    const int rest = lanes - lane, rows = rest >= 4 ? 4 : rest >= 2 ? 2 : 1;
    auto* c = scratch.q.o + lane * width;
    if (scratch.q.behind)
      for (int i = 0; i < rows; ++i) scale_row(c + i * width, width, scratch.q.behind[lane + i]);
    for (int i = 0; i < visible.count; ++i) {
      const Segment& s = visible.segments[i];
      const int64_t begin = larger(s.begin, range.begin) / W, end = smaller(s.end, range.end) / W;
      if (begin >= end || lane / L < s.j0 || lane / L >= s.j1) continue;
      const auto run = [&]<int RB, int N>(int64_t column) {
        multiply_add_pv<X, RB, N, kCareful>(scratch.p + lane, v, begin, end, column, c, width, next,
                                            lines);
      };
      for (int64_t column = 0; column < width;) {
        const bool wide = width - column >= NV * L;
        if (rows == 4)
          wide ? run.template operator()<4, NV>(column) : run.template operator()<4, 1>(column);
        else if (rows == 2)
          wide ? run.template operator()<2, NV>(column) : run.template operator()<2, 1>(column);
        else
          wide ? run.template operator()<1, NV>(column) : run.template operator()<1, 1>(column);
        column += wide ? NV * L : L;
      }
    }
    lane += rows;
  }
  scratch.q.behind = nullptr;
}

// Where products are of tiles: O and l_words as of now, and P as the product takes it.
template <class X>
void prepare_rows(DecodeScratch<X>& scratch, int lanes, int64_t width, const uint64_t* dropped,
                  RowRange range) {
  QueryBlock<X>& q = scratch.q;
  for (int lane = 0; q.behind && lane < lanes; ++lane) {
    scale_row(q.o + lane * width, width, q.behind[lane]);
    q.l_words[lane] *= q.behind[lane];
  }
  q.behind = nullptr;
  scratch.visible->for_each_groups(
      range.begin, range.end, [&](Groups groups) { sum_and_drop(q, scratch.p, dropped, groups); });
}

// The same where products are of tiles; v: pairs of keys.
template <class X>
void multiply_add_values_by_tiles(DecodeScratch<X>& scratch, const Rows& v, int lanes,
                                  int64_t width, RowRange range) {
  using Vec = typename X::Vec;
  using Real = typename X::Real;
  constexpr int L = X::kLanes;
  constexpr int64_t kReal = sizeof(Real), kBlock = kWidth<X> * X::kStep;
  static_assert(L == X::kStep);
  const int vectors = (lanes + L - 1) / L;
  scratch.visible->for_each_groups(range.begin, range.end, [&](Groups groups) {
    for (int64_t g = groups.first; g < groups.first + groups.count; ++g)
      for (int j = 0; j < vectors; ++j) {
        Vec block[L];
        for (int i = 0; i < L; ++i)
          block[i] = X::load(scratch.p + (g * X::kStep + i) * kWidth<X> + j * L);
        X::transpose(block);
        for (int i = 0; i < L; ++i)
          X::store(scratch.p_rows + g * kBlock + (j * L + i) * X::kStep, block[i]);
      }
    for (int64_t d = 0; d < width; d += kGroup<X>) {
      const typename X::TileProduct product = {scratch.p_rows + groups.first * kBlock,
                                               X::kStep * kReal,
                                               kBlock * kReal,
                                               v.row(groups.first * X::kStep) + d * kReal,
                                               v.stride,
                                               X::kStep * v.stride,
                                               groups.count};
      if (vectors == 1)
        X::template multiply_tiles<false, 1, 2>(product, scratch.q.o + d, width * kReal);
      else
        X::template multiply_tiles<false>(product, scratch.q.o + d, width * kReal);
    }
  });
}

// Few rows leave most of a tile empty, and tiles need V in pairs of keys. So few rows take V as it
// lies in memory, and sum as the tile instruction does, bit by bit (TDPBF16PS in Intel's manual):
// over a group of keys the first and the second ones of pairs apart, from 0, then both together
// onto O; and subnormal numbers are 0. Rows of O have the even dims of each 2 kLanes first.
inline int64_t column_of_few_rows(int64_t d, int lanes) {
  return d / (2 * lanes) * 2 * lanes + d % 2 * lanes + d % (2 * lanes) / 2;
}

// RB rows of c += P V over the group of keys that `v` starts with, 2 kLanes dims. p: (kGroup,
// kFewRows).
template <class X, int RB>
__attribute__((noinline)) void multiply_add_few(const typename X::Real* p, const Rows& v,
                                                typename X::Real* c, int64_t width, Fetch<X>& fetch,
                                                int lines) {
  using Vec = typename X::Vec;
  Vec sum[2][RB][2] = {};
  const char* row = v.data;
  for (int key = 0; key < kGroup<X>; key += 2) {
    fetch.lines(lines);
    TILEWISE_UNROLL for (int odd = 0; odd < 2; ++odd) {
      const Vec words = X::load(reinterpret_cast<const typename X::Real*>(row));
      const Vec x[2] = {X::first_halves(words), X::second_halves(words)};
      TILEWISE_UNROLL for (int r = 0; r < RB; ++r) {
        const Vec weight = X::broadcast(p[r]);
        TILEWISE_UNROLL for (int j = 0; j < 2; ++j) sum[odd][r][j] =
            X::fma(x[j], weight, sum[odd][r][j]);
      }
      row += v.stride;
      p += kFewRows;
    }
  }
  TILEWISE_UNROLL for (int r = 0; r < RB; ++r) TILEWISE_UNROLL for (int j = 0; j < 2; ++j) {
    auto* to = c + r * width + j * X::kLanes;
    X::store(to, X::add(X::load(to), X::add(sum[0][r][j], sum[1][r][j])));
  }
}

template <class X>
void multiply_add_values_of_few(DecodeScratch<X>& scratch, const Rows& v, int lanes, int64_t width,
                                RowRange range, Fetch<X>& next) {
  using Real = typename X::Real;
  constexpr int L = X::kLanes;
  constexpr int64_t kDims = 2 * L, kWeights = kGroup<X> * kFewRows + L;
  const int lines = next.each(kDecodeTile<X> / 2 * (width / kDims) * ((lanes + 3) / 4));
  const uint32_t mode = X::begin_subnormal_is_zero();
  scratch.visible->for_each_groups(range.begin, range.end, [&](Groups groups) {
    for (int64_t g = groups.first; g < groups.first + groups.count; ++g) {
      Real p[kWeights];
      for (int w = 0; w < X::kStep; ++w) {
        const auto words = X::load(scratch.p + (g * X::kStep + w) * kWidth<X>);
        X::store(p + 2 * w * kFewRows, X::first_halves(words));
        X::store(p + (2 * w + 1) * kFewRows, X::second_halves(words));
      }
      for (int64_t d = 0; d < width; d += kDims) {
        const Rows part = {v.row(g * kGroup<X>) + d * 2, v.stride};
        for (int lane = 0; lane < lanes;) {
          const int rest = lanes - lane, rows = rest >= 4 ? 4 : rest >= 2 ? 2 : 1;
          auto* c = scratch.q.o + lane * width + d;
          if (rows == 4)
            multiply_add_few<X, 4>(p + lane, part, c, width, next, lines);
          else if (rows == 2)
            multiply_add_few<X, 2>(p + lane, part, c, width, next, lines);
          else
            multiply_add_few<X, 1>(p + lane, part, c, width, next, lines);
          lane += rows;
        }
      }
    }
  });
  X::end_subnormal_is_zero(mode);
}

}  // namespace
