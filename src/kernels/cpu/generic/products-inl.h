// SPDX-License-Identifier: Apache-2.0
// The register blocks of every product: kRows x NV accumulators, A by scalar broadcast, B by
// vectors.
#pragma once

#include <cstdint>

#include "kernels/cpu/generic/macros.h"

namespace {

inline int64_t round_up(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }
inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a < b ? b : a; }

// Rows of words; row r starts at data + r * stride bytes. A broadcasts from it, so neither K nor
// (in fp32) V is ever copied.
struct Rows {
  const char* data;
  int64_t stride;  // bytes
  const char* row(int64_t r) const { return data + r * stride; }
};

// The products of the forward are of tiles: 32 rows by kStep words by kWidth lanes, in memory.
template <class X>
inline constexpr bool kTiled = X::kStep > 1;

// Rows come in units of 8: whether a row's reference m is raised is decided per unit, so units are
// counted from key 0, never from where a tile or a window starts.
inline constexpr int kUnit = 8;
inline constexpr int kMaxRows = 256;  // rows of a tile

template <class X>
inline constexpr int kWidth = X::kLanes* X::kVectors;  // lanes of a tile of S^T, P^T, O^T

template <class X>
TILEWISE_INLINE typename X::Vec broadcast_word(const char* p) {
  typename X::Real word;
  __builtin_memcpy(&word, p, sizeof(word));
  return X::broadcast(word);
}

// Sum of all lanes, in one order.
template <class X>
TILEWISE_INLINE typename X::Real sum_of_lanes(typename X::Vec x) {
  typename X::Real lane[X::kLanes];
  X::store(lane, x);
  for (int n = X::kLanes / 2; n > 0; n /= 2)
    for (int l = 0; l < n; ++l) lane[l] += lane[l + n];
  return lane[0];
}

// s = A B: A is kRows rows of depth words, B is (depth, kWidth) words, from lane vector 0 of b on.
template <class X, int NV>
TILEWISE_INLINE void multiply_abt(typename X::Vec (&s)[X::kRows][NV], const Rows& a,
                                  const typename X::Real* b, int64_t depth) {
  using Vec = typename X::Vec;
  TILEWISE_UNROLL for (int i = 0; i < X::kRows; ++i) TILEWISE_UNROLL for (int j = 0; j < NV; ++j)
      s[i][j] = Vec{};
  const char* word = a.data;
  const int64_t stride = a.stride;
#pragma GCC unroll 2
  for (int64_t d = 0; d < depth; ++d) {
    Vec column[NV];
    TILEWISE_UNROLL for (int j = 0; j < NV; ++j) column[j] = X::load(b + j * X::kLanes);
    TILEWISE_UNROLL for (int i = 0; i < X::kRows; ++i) {
      const Vec x = broadcast_word<X>(word + i * stride);
      TILEWISE_UNROLL for (int j = 0; j < NV; ++j) s[i][j] = X::dot(s[i][j], x, column[j]);
    }
    b += kWidth<X>;
    word += sizeof(typename X::Real);
  }
}

// s (kGroup, kWidth) = A B, as multiply_abt has it: A is kGroup rows of depth words. Only the first
// kLaneVectors vectors of lanes.
template <class X, int kLaneVectors = X::kVectors>
TILEWISE_INLINE void multiply_group(const Rows& a, const typename X::Real* b, int64_t depth,
                                    typename X::Real* s) {
  constexpr int64_t kReal = sizeof(typename X::Real), kRow = kWidth<X> * kReal;
  X::template multiply_tiles<true, 2, kLaneVectors>(
      {a.data, a.stride, X::kStep * kReal, b, kRow, X::kStep * kRow, depth / X::kStep}, s, kRow);
}

// Adds words [begin, end) of the contracted index to lane vectors [J0, J1) of c: kRows rows of A^T
// (A stored as rows of the contracted index, so that row k holds the kRows words at a.row(k)) times
// B. careful: see hide_masked.
template <class X, int NV, int J0, int J1, bool kCareful>
TILEWISE_INLINE void multiply_add_words(typename X::Vec (&c)[X::kRows][NV], const Rows& a,
                                        const typename X::Real* b, int64_t begin, int64_t end) {
  using Vec = typename X::Vec;
  const char* word = a.row(begin);
  b += begin * kWidth<X>;
#pragma GCC unroll 2
  for (int64_t k = begin; k < end; ++k) {
    Vec row[NV];
    TILEWISE_UNROLL for (int j = J0; j < J1; ++j) row[j] = X::load(b + j * X::kLanes);
    TILEWISE_UNROLL for (int i = 0; i < X::kRows; ++i) {
      const Vec x = broadcast_word<X>(word + i * sizeof(typename X::Real));
      TILEWISE_UNROLL for (int j = J0; j < J1; ++j) c[i][j] =
          X::dot(c[i][j], kCareful ? X::hide_masked(x, row[j]) : x, row[j]);
    }
    b += kWidth<X>;
    word += a.stride;
  }
}

}  // namespace
