// SPDX-License-Identifier: Apache-2.0
// From tensors to what the register blocks read, and back: conversion, padding, transposition.
#pragma once

#include <cstdint>
#include <cstring>

#include "base/dtype.h"
#include "kernels/cpu/generic/products-inl.h"
#include "tilewise/tensor.h"

namespace {

using tilewise::DType;
using tilewise::Tensor;

// A matrix [length, dim] of one batch entry and head.
struct Matrix {
  char* data;
  int64_t row;     // bytes from one row to the next
  int64_t column;  // bytes from one element to the next
  DType dtype;
  char* at(int64_t r, int64_t c) const { return data + r * row + c * column; }
};

inline Matrix matrix_of(const Tensor& t, int64_t batch, int64_t head) {
  const int64_t bytes = tilewise::dtype_bytes(t.dtype);
  const int64_t b = t.shape[0] == 1 ? 0 : batch, h = t.shape[1] == 1 ? 0 : head;
  auto* data = static_cast<char*>(t.data);
  if (data != nullptr) data += (b * t.strides[0] + h * t.strides[1]) * bytes;  // null: no elements
  return {data, t.shape[2] == 1 ? 0 : t.strides[2] * bytes, t.strides[3] * bytes, t.dtype};
}

// Elements [column, column + count) of a row, converted to Real.
template <class X>
void load_row(const Matrix& m, int64_t r, int64_t column, int64_t count, typename X::Real* to) {
  using Real = typename X::Real;
  const char* from = m.at(r, column);
  const int64_t bytes = tilewise::dtype_bytes(m.dtype);
  int64_t c = 0;
  if (m.column == bytes && m.dtype != DType::kFloat64) {
    if (m.dtype == DType::kFloat32 && sizeof(Real) == 4) {
      std::memcpy(to, from, count * sizeof(Real));
      return;
    }
    const auto* half = reinterpret_cast<const uint16_t*>(from);
    if (m.dtype == DType::kBFloat16)
      for (; c + X::kLanes <= count; c += X::kLanes) X::store(to + c, X::load_bf16(half + c));
    if (m.dtype == DType::kFloat16)
      for (; c + X::kLanes <= count; c += X::kLanes) X::store(to + c, X::load_fp16(half + c));
  }
  for (; c < count; ++c)
    to[c] = static_cast<Real>(tilewise::load_element(from + c * m.column, m.dtype, 0));
}

template <class X>
void store_row(const Matrix& m, int64_t r, int64_t column, int64_t count,
               const typename X::Real* from) {
  using Real = typename X::Real;
  char* to = m.at(r, column);
  int64_t c = 0;
  if (m.column == tilewise::dtype_bytes(m.dtype) && m.dtype != DType::kFloat64) {
    if (m.dtype == DType::kFloat32 && sizeof(Real) == 4) {
      std::memcpy(to, from, count * sizeof(Real));
      return;
    }
    auto* half = reinterpret_cast<uint16_t*>(to);
    if (m.dtype == DType::kBFloat16)
      for (; c + X::kLanes <= count; c += X::kLanes) X::store_bf16(half + c, X::load(from + c));
    if (m.dtype == DType::kFloat16)
      for (; c + X::kLanes <= count; c += X::kLanes) X::store_fp16(half + c, X::load(from + c));
  }
  for (; c < count; ++c) tilewise::store_element(to + c * m.column, m.dtype, 0, from[c]);
}

// Words of a row: kWord elements each. dim elements, zeros up to a multiple of kStep words.
template <class X>
int64_t words(int64_t dim) {
  constexpr int64_t kElements = X::kWord * X::kStep;
  return (dim + kElements - 1) / kElements * X::kStep;
}

template <class X>
void load_row_words(const Matrix& m, int64_t r, int64_t dim, typename X::Real* to) {
  if constexpr (X::kWord == 1) {
    load_row<X>(m, r, 0, dim, to);
  } else {  // bf16 in, bf16 words out
    std::memset(to + dim / 2, 0, (words<X>(dim) - dim / 2) * sizeof(*to));
    if (m.column == 2) {
      std::memcpy(to, m.at(r, 0), dim * 2);
    } else {
      for (int64_t c = 0; c < dim; ++c)
        std::memcpy(reinterpret_cast<char*>(to) + c * 2, m.at(r, c), 2);
    }
  }
}

// The elements of a row of m are words already: kernels may broadcast straight from the tensor.
template <class X>
bool rows_are_words(const Matrix& m, int64_t dim) {
  const DType dtype = X::kWord == 2                   ? DType::kBFloat16
                      : sizeof(typename X::Real) == 8 ? DType::kFloat64
                                                      : DType::kFloat32;
  return m.dtype == dtype && m.column == tilewise::dtype_bytes(dtype) &&
         dim == words<X>(dim) * X::kWord;
}

// Rows [first, first + count) as words, zero rows up to `padded`; the tensor itself where that is
// possible, else a copy in `buffer` (padded, words(dim)).
template <class X>
Rows word_rows(const Matrix& m, int64_t first, int64_t count, int64_t padded, int64_t dim,
               typename X::Real* buffer) {
  if (count == padded && rows_are_words<X>(m, dim)) return {m.at(first, 0), m.row};
  const int64_t width = words<X>(dim);
  for (int64_t r = 0; r < count; ++r) load_row_words<X>(m, first + r, dim, buffer + r * width);
  std::memset(buffer + count * width, 0, (padded - count) * width * sizeof(*buffer));
  return {reinterpret_cast<const char*>(buffer), width * static_cast<int64_t>(sizeof(*buffer))};
}

// Rows of a matrix, fetched line by line in the order of memory into the second-level cache, beside
// the arithmetic. For what is read once: products read in stripes, which the hardware's prefetchers
// do not foresee.
template <class X>
class Fetch {
 public:
  Fetch() = default;
  Fetch(const Matrix& m, int64_t first, int64_t rows, int64_t dim)
      : row_(m.at(first, 0)),
        stride_(m.row),
        bytes_(dim * tilewise::dtype_bytes(m.dtype)),
        lines_(rows * ((bytes_ + 63) / 64)) {
    if (stride_ == bytes_) bytes_ *= rows;  // one long row
  }
  // How many lines to fetch at each of `steps` steps.
  int each(int64_t steps) const { return static_cast<int>((lines_ + steps - 1) / steps); }
  void lines(int count) {
    for (; count > 0 && lines_ > 0; --count, --lines_) {
      X::prefetch_l2(row_ + at_);
      at_ += 64;
      if (at_ >= bytes_) {
        at_ = 0;
        row_ += stride_;
      }
    }
  }

 private:
  const char* row_ = nullptr;
  int64_t stride_ = 0, bytes_ = 0, lines_ = 0, at_ = 0;
};

// The same rows, but with the row index as the contracted one: word (r / kWord, c) holds element c
// of kWord consecutive rows. padded is a multiple of kWord, columns are padded with zeros to
// `width`. next: fetched meanwhile, if rows are copied; or null.
template <class X>
Rows contracted_rows(const Matrix& m, int64_t first, int64_t count, int64_t padded, int64_t dim,
                     int64_t width, typename X::Real* buffer, Fetch<X>* next = nullptr) {
  using Real = typename X::Real;
  if constexpr (X::kWord == 1) {
    if (count == padded && dim == width && rows_are_words<X>(m, dim))
      return {m.at(first, 0), m.row};
    for (int64_t r = 0; r < count; ++r) {
      load_row<X>(m, first + r, 0, dim, buffer + r * width);
      std::memset(buffer + r * width + dim, 0, (width - dim) * sizeof(Real));
    }
    std::memset(buffer + count * width, 0, (padded - count) * width * sizeof(Real));
  } else {
    auto* to = reinterpret_cast<uint16_t*>(buffer);
    const int lines = next ? next->each(padded / 2) : 0;
    for (int64_t r = 0; r < padded; r += 2, to += 2 * width) {
      if (next) next->lines(lines);
      int64_t c = 0;
      if (m.column == 2 && r + 1 < count) {
        const auto* a = reinterpret_cast<const uint16_t*>(m.at(first + r, 0));
        const auto* b = reinterpret_cast<const uint16_t*>(m.at(first + r + 1, 0));
        for (; c + 2 * X::kLanes <= dim; c += 2 * X::kLanes)
          X::interleave_rows(a + c, b + c, to + 2 * c);
      }
      for (; c < width; ++c)
        for (int i = 0; i < 2; ++i) {
          to[2 * c + i] = 0;
          if (c < dim && r + i < count) std::memcpy(to + 2 * c + i, m.at(first + r + i, c), 2);
        }
    }
  }
  return {reinterpret_cast<const char*>(buffer), width * static_cast<int64_t>(sizeof(Real))};
}

// The same rows transposed, in groups of kGroup rows, zero rows up to `padded`. Columns [c, c +
// kGroup) are the row c / kGroup of the result, which is (kGroup, kStep) for each group: its row i
// holds element c + i of kGroup consecutive rows. pairs: (padded / kWord, width), what
// contracted_rows makes of them. kCareful: NaN and infinity stay there alone, and are 0 in the
// groups; otherwise its contents do not matter. next: fetched meanwhile; or null.
template <class X, bool kCareful>
Rows contracted_groups(const Matrix& m, int64_t first, int64_t count, int64_t padded, int64_t dim,
                       int64_t width, typename X::Real* pairs, typename X::Real* buffer,
                       Fetch<X>* next = nullptr) {
  using Vec = typename X::Vec;
  constexpr int L = X::kLanes;
  static_assert(X::kStep == L && X::kWord == 2);
  contracted_rows<X>(m, first, count, padded, dim, width, pairs);
  constexpr int64_t kBlock = X::kWord * L * L;
  const int64_t groups = padded / X::kWord / L;
  const int lines = next ? next->each(groups * (width / L)) : 0;
  for (int64_t r = 0; r < padded / X::kWord; r += L)
    for (int64_t c = 0; c < width; c += L) {
      if (next) next->lines(lines);
      auto* to = buffer + (c / (2 * L) * groups + r / L) * kBlock + c % (2 * L) * L;
      Vec block[L];
      for (int i = 0; i < L; ++i) {
        auto* word = pairs + (r + i) * width + c;
        block[i] = X::load(word);
        if (kCareful) {
          const Vec rest = X::not_finite_halves(block[i]);
          block[i] = X::without_bits(block[i], rest);
          X::store(word, rest);
        }
      }
      X::transpose(block);
      for (int i = 0; i < L; ++i) X::store(to + i * L, block[i]);
    }
  return {reinterpret_cast<const char*>(buffer),
          groups * kBlock * static_cast<int64_t>(sizeof(*buffer))};
}

// to (depth words, kWidth) = factor * transpose of the first `lanes` rows; other lanes are 0.
template <class X>
void transpose_words(const Matrix& m, int64_t first, int64_t lanes, int64_t dim,
                     typename X::Real factor, typename X::Real* to) {
  using Real = typename X::Real;
  using Vec = typename X::Vec;
  constexpr int L = X::kLanes;
  const int64_t depth = words<X>(dim);
  const bool direct = rows_are_words<X>(m, dim);
  for (int64_t lane = 0; lane < kWidth<X>; lane += L)
    for (int64_t d = 0; d < depth; d += L) {
      Vec block[L];
      const bool whole = direct && lane + L <= lanes && d + L <= depth;
      for (int i = 0; i < L; ++i) {
        if (whole) {
          block[i] = X::load(reinterpret_cast<const Real*>(m.at(first + lane + i, d * X::kWord)));
        } else {
          Real row[L] = {};
          const int64_t c = d * X::kWord, n = dim - c < L * X::kWord ? dim - c : L * X::kWord;
          if (lane + i < lanes) {
            Matrix part = m;
            part.data = m.at(0, c);
            load_row_words<X>(part, first + lane + i, n, row);
          }
          block[i] = X::load(row);
        }
      }
      X::transpose(block);
      for (int i = 0; i < L && d + i < depth; ++i) {
        const Vec x = X::kWord == 1 ? X::mul(block[i], X::broadcast(factor)) : block[i];
        X::store(to + (d + i) * kWidth<X> + lane, x);
      }
    }
}

// One vector to kLanes consecutive elements of the dtype; false if there is no direct way.
template <class X>
TILEWISE_INLINE bool store_vector(char* to, DType dtype, typename X::Vec x) {
  if (dtype == DType::kBFloat16) {
    X::store_bf16(reinterpret_cast<uint16_t*>(to), x);
  } else if (dtype == DType::kFloat16) {
    X::store_fp16(reinterpret_cast<uint16_t*>(to), x);
  } else if (tilewise::dtype_bytes(dtype) == sizeof(typename X::Real)) {
    X::store(reinterpret_cast<typename X::Real*>(to), x);
  } else {
    return false;
  }
  return true;
}

// The first `lanes` columns of from (dim, kWidth), times factor per lane, become rows of m.
template <class X>
void transpose_out(const typename X::Real* from, const typename X::Real* factor, int64_t dim,
                   const Matrix& m, int64_t first, int64_t lanes) {
  using Real = typename X::Real;
  using Vec = typename X::Vec;
  constexpr int L = X::kLanes;
  const bool contiguous = m.column == tilewise::dtype_bytes(m.dtype);
  for (int64_t lane = 0; lane < lanes; lane += L)
    for (int64_t d = 0; d < dim; d += L) {
      Vec block[L];
      const Vec f = X::load(factor + lane);
      for (int i = 0; i < L; ++i)
        block[i] = d + i < dim ? X::mul(X::load(from + (d + i) * kWidth<X> + lane), f) : Vec{};
      X::transpose(block);
      for (int i = 0; i < L && lane + i < lanes; ++i) {
        if (contiguous && d + L <= dim &&
            store_vector<X>(m.at(first + lane + i, d), m.dtype, block[i]))
          continue;
        Real row[L];
        X::store(row, block[i]);
        store_row<X>(m, first + lane + i, d, dim - d < L ? dim - d : L, row);
      }
    }
}

// Hands out 64-byte aligned parts of a worker's scratch. With data == nullptr it only counts.
struct Scratch {
  char* data;
  int64_t used = 0;
  template <class T>
  T* take(int64_t count) {
    T* part = data ? reinterpret_cast<T*>(data + used) : nullptr;
    used += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return part;
  }
};

}  // namespace
