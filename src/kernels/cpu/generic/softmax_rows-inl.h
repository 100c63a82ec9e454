// SPDX-License-Identifier: Apache-2.0
// The row passes of standard attention ([Dao22] Algorithms 0 and 3), each over rows of a matrix in
// memory: a row is read once, worked on in the first-level cache as Real, and written once.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/generic/dropout-inl.h"
#include "kernels/cpu/generic/eval_tile-inl.h"
#include "kernels/cpu/generic/forward_tiles-inl.h"
#include "kernels/rows.h"

namespace {

// Three rows of Real, padded to whole vectors, what a program shows of kUnit rows, and what is
// dropped of the rows of a cell.
template <class X>
struct RowsScratch {
  using Real = typename X::Real;
  Real* first;
  Real* second;
  Real* third;
  uint16_t* bits;     // (kUnit, vectors)
  uint64_t* dropped;  // (vectors / kVectors, kCell)
  DroppedTile* tile;
  TileEvaluator<X> evaluator;
  int64_t vectors;  // of lanes in a row, in whole register blocks
  int64_t bytes;
  RowsScratch(int64_t columns, const ProgramSizes& programs, void* memory)
      : vectors(round_up(columns, kWidth<X>) / X::kLanes) {
    Scratch s{static_cast<char*>(memory)};
    first = s.take<Real>(columns + X::kLanes);
    second = s.take<Real>(columns + X::kLanes);
    third = s.take<Real>(columns + X::kLanes);
    bits = s.take<uint16_t>(kUnit * vectors);
    dropped = s.take<uint64_t>(vectors / X::kVectors * kCell);
    tile = s.take<DroppedTile>(1);
    evaluator = TileEvaluator<X>(programs, false, s);
    bytes = s.used;
  }
};

inline Matrix rows_of(const void* data, DType dtype, int64_t row, int64_t column = 1) {
  const int64_t bytes = tilewise::dtype_bytes(dtype);
  return {static_cast<char*>(const_cast<void*>(data)), row * bytes, column * bytes, dtype};
}

// Columns [begin, end) of row r are visible, of them those that `bits` show, if it is not null.
struct Visible {
  int64_t begin, end;
  const uint16_t* bits;
  Visible(const tilewise::RowsLaunch& args, int64_t r) : bits(nullptr) {
    const auto within = [&](int64_t x) { return x < 0 ? 0 : x > args.columns ? args.columns : x; };
    const tilewise::TileRule& rule = args.rule;
    const int64_t query = args.first_query + r;
    begin = within(larger(rule.band.lo + query, rule.key_begin));
    end = within(smaller(rule.band.hi + query + 1, rule.key_end));
    if (end < begin || query < rule.query_begin || query >= rule.query_end) end = begin;
  }
};

// The columns that row r sees. Rows come in ascending order: the program runs for kUnit at a time.
template <class X>
Visible visible_of(const tilewise::RowsLaunch& args, int64_t r, RowsScratch<X>& scratch) {
  Visible visible(args, r);
  if (args.program == nullptr) return visible;
  const int64_t row = r % kUnit;
  for (int64_t vector = 0; row == 0 && vector < scratch.vectors; vector += X::kVectors) {
    const TilePlace place = {args.origin.batch,
                             {args.origin.head, nullptr},
                             {args.origin.query + args.first_query + r, nullptr},
                             {args.origin.key + vector * X::kLanes, nullptr}};
    scratch.evaluator.begin(*args.program, place, kUnit, X::kVectors);
    scratch.evaluator.unit(0, 0, X::kVectors);
    for (int i = 0; i < kUnit; ++i)
      for (int j = 0; j < X::kVectors; ++j)
        std::memcpy(scratch.bits + i * scratch.vectors + vector + j,
                    scratch.evaluator.output(0).at(i, j), sizeof(uint16_t));
  }
  visible.bits = scratch.bits + row * scratch.vectors;
  return visible;
}

// row holds columns [first, last): `value` where the bits hide them.
template <class X>
void hide(const Visible& visible, int64_t first, int64_t last, typename X::Real value,
          typename X::Real* row) {
  for (int64_t c = first; visible.bits && c < last; ++c)
    if ((visible.bits[c / X::kLanes] >> (c % X::kLanes) & 1) == 0) row[c - first] = value;
}

template <class X>
void fill_to_vector(typename X::Real* row, int64_t count, typename X::Real value) {
  for (int64_t i = count; i % X::kLanes != 0; ++i) row[i] = value;
}

template <class X>
typename X::Real* real_at(const void* data, int64_t index) {
  return static_cast<typename X::Real*>(const_cast<void*>(data)) + index;
}

// row (count, padded) = factor * row + bias row r from column c on.
template <class X>
void scale_and_bias(const tilewise::RowsLaunch& args, int64_t r, int64_t c, int64_t count,
                    typename X::Real* row, typename X::Real* bias_row) {
  using Real = typename X::Real;
  if (args.bias == nullptr && args.factor == 1) return;
  const typename X::Vec factor = X::broadcast(static_cast<Real>(args.factor));
  if (args.bias != nullptr) {
    load_row<X>(rows_of(args.bias, args.bias_dtype, args.bias_row, args.bias_column), r, c, count,
                bias_row);
    fill_to_vector<X>(bias_row, count, 0);
    for (int64_t i = 0; i < count; i += X::kLanes)
      X::store(row + i, X::fma(X::load(row + i), factor, X::load(bias_row + i)));
  } else {
    for (int64_t i = 0; i < count; i += X::kLanes)
      X::store(row + i, X::mul(X::load(row + i), factor));
  }
}

// to = from * factor + bias where visible, -infinity elsewhere.
template <class X>
void mask_rows(const tilewise::RowsLaunch& args, void* memory) {
  using Real = typename X::Real;
  RowsScratch<X> scratch(args.columns, args.program_sizes, memory);
  Real* row = scratch.first;
  const Matrix from = rows_of(args.from, args.dtype, args.from_row);
  const Matrix to = rows_of(args.to, args.dtype, args.to_row);
  for (int64_t r = 0; r < args.rows; ++r) {
    load_row<X>(from, r, 0, args.columns, row);
    fill_to_vector<X>(row, args.columns, 0);
    scale_and_bias<X>(args, r, 0, args.columns, row, scratch.second);
    const Visible visible = visible_of(args, r, scratch);
    hide<X>(visible, 0, args.columns, -__builtin_inff(), row);
    for (int64_t c = 0; c < visible.begin; ++c) row[c] = -__builtin_inff();
    for (int64_t c = visible.end; c < args.columns; ++c) row[c] = -__builtin_inff();
    store_row<X>(to, r, 0, args.columns, row);
  }
}

// row (count, padded with -infinity) becomes exp(row - max) / sum; returns max + log(sum). The sink
// is one more number of the row.
template <class X>
double softmax_row(typename X::Real* row, int64_t count, typename X::Real sink) {
  using Real = typename X::Real;
  using Vec = typename X::Vec;
  using E = Exp2<Real>;
  Vec max = X::broadcast(-__builtin_inff());
  auto is_nan = X::less(max, max);
  for (int64_t i = 0; i < count; i += X::kLanes) {
    const Vec x = X::load(row + i);
    is_nan = X::either(is_nan, X::unordered(x));
    max = X::max(max, x);
  }
  Real lane[X::kLanes], m = -__builtin_inff();
  X::store(lane, max);
  for (int i = 0; i < X::kLanes; ++i) m = lane[i] > m ? lane[i] : m;
  const bool is_empty = !X::any(is_nan) && m == -__builtin_inff();
  m = is_empty || sink < m ? m : sink;
  const bool unusual = X::any(is_nan) || !(m < __builtin_inff());
  if (unusual || is_empty) {  // NaN or infinity spreads; nothing visible: zeros
    const Real value = unusual ? __builtin_nanf("") : Real(0);
    for (int64_t i = 0; i < count; ++i) row[i] = value;
    return unusual ? __builtin_nan("") : static_cast<double>(sink);
  }
  const Vec reference = X::broadcast(m), log2e = X::broadcast(static_cast<Real>(kLog2E));
  const Vec base = X::broadcast(E::kMagic + E::kBias), zero = X::broadcast(E::kZero);
  Vec sum = Vec{}, unused;
  for (int64_t i = 0; i < count; i += X::kLanes) {
    const Vec y = X::max(zero, X::mul(X::sub(X::load(row + i), reference), log2e));
    const Vec p = exp2_minus<X, true>(y, base, base, unused);
    sum = X::add(sum, p);
    X::store(row + i, p);
  }
  const Real total = sum_of_lanes<X>(sum) + static_cast<Real>(__builtin_exp(double(sink) - m));
  const Vec inverse = X::broadcast(1 / total);
  for (int64_t i = 0; i < count; i += X::kLanes)
    X::store(row + i, X::mul(X::load(row + i), inverse));
  return static_cast<double>(m) + kLn2 * __builtin_log2(static_cast<double>(total));
}

// What rows from r to the end of its cell drop of the columns that they see.
template <class X>
void drop_rows(const tilewise::RowsLaunch& args, int64_t r, RowsScratch<X>& scratch) {
  const int64_t query = args.origin.query + args.first_query + r;
  const int rows = static_cast<int>(smaller(kCell - query % kCell, args.rows - r));
  int64_t begin = args.columns, end = 0;
  for (int i = 0; i < rows; ++i) {
    const Visible visible(args, r + i);
    begin = smaller(begin, visible.begin);
    end = larger(end, visible.end);
  }
  const Segment all = {0, rows, 0, X::kVectors, false};
  for (int64_t part = begin / kWidth<X>; part * kWidth<X> < end; ++part) {
    const TilePlace place = {args.origin.batch,
                             {args.origin.head, nullptr},
                             {query, nullptr},
                             {args.origin.key + part * kWidth<X>, nullptr}};
    const uint64_t* dropped = find_dropped<X, false>(args.dropout, place, &all, 1, *scratch.tile);
    for (int i = 0; i < rows; ++i) scratch.dropped[part * kCell + (query + i) % kCell] = dropped[i];
  }
}

// Columns [begin, begin + count) of row r: to = Z o p. Rows come in ascending order.
template <class X>
void drop_row(const tilewise::RowsLaunch& args, int64_t r, int64_t begin, int64_t count,
              const typename X::Real* p, typename X::Real* to, RowsScratch<X>& scratch) {
  const int64_t in_cell = (args.origin.query + args.first_query + r) % kCell;
  if (r == 0 || in_cell == 0) drop_rows(args, r, scratch);
  const auto keep = static_cast<typename X::Real>(args.dropout.keep_scale);
  for (int64_t c = 0; c < count; ++c) {
    const int64_t part = (begin + c) / kWidth<X>, lane = (begin + c) % kWidth<X>;
    to[c] = p[c] * (scratch.dropped[part * kCell + in_cell] >> lane & 1 ? 0 : keep);
  }
}

// Row r of a matrix: `row` in the visible columns, 0 elsewhere.
template <class X>
void store_visible(const Matrix& to, int64_t r, const Visible& visible, int64_t columns,
                   const typename X::Real* row) {
  store_row<X>(to, r, visible.begin, visible.end - visible.begin, row);
  std::memset(to.at(r, 0), 0, visible.begin * to.column);
  std::memset(to.at(r, visible.end), 0, (columns - visible.end) * to.column);
}

// to = softmax(from * factor + bias) of the visible columns, 0 elsewhere; from may be to, and so
// may dropped.
template <class X>
void softmax_rows(const tilewise::RowsLaunch& args, void* memory) {
  using Real = typename X::Real;
  RowsScratch<X> scratch(args.columns, args.program_sizes, memory);
  Real* row = scratch.first;
  const Matrix from = rows_of(args.from, args.dtype, args.from_row);
  const Matrix to = rows_of(args.to, args.dtype, args.to_row);
  const Real sink = args.sink != nullptr ? *real_at<X>(args.sink, 0) : -__builtin_inff();
  for (int64_t r = 0; r < args.rows; ++r) {
    const Visible visible = visible_of(args, r, scratch);
    const int64_t count = visible.end - visible.begin;
    load_row<X>(from, r, visible.begin, count, row);
    fill_to_vector<X>(row, count, 0);
    scale_and_bias<X>(args, r, visible.begin, count, row, scratch.second);
    hide<X>(visible, visible.begin, visible.end, -__builtin_inff(), row);
    fill_to_vector<X>(row, count, -__builtin_inff());
    const double logsumexp = softmax_row<X>(row, count, sink);
    if (args.logsumexp != nullptr)
      *real_at<X>(args.logsumexp, r * args.logsumexp_row) = static_cast<Real>(logsumexp);
    store_visible<X>(to, r, visible, args.columns, row);
    if (args.dropped == nullptr) continue;
    drop_row(args, r, visible.begin, count, row, scratch.second, scratch);
    store_visible<X>(rows_of(args.dropped, args.dtype, args.to_row), r, visible, args.columns,
                     scratch.second);
  }
}

// from: P, to: dO V^T, times Z: dP. to = P (dP - Delta), Delta = rowsum(P dP) - grad_logsumexp.
template <class X>
void softmax_backward_rows(const tilewise::RowsLaunch& args, void* memory) {
  using Real = typename X::Real;
  using Vec = typename X::Vec;
  const RowsScratch<X> scratch(args.columns, args.program_sizes, memory);
  Real *p = scratch.first, *dp = scratch.second;
  const Vec keep = X::broadcast(static_cast<Real>(keep_scale(args)));
  const Matrix from = rows_of(args.from, args.dtype, args.from_row);
  const Matrix to = rows_of(args.to, args.dtype, args.to_row);
  for (int64_t r = 0; r < args.rows; ++r) {
    load_row<X>(from, r, 0, args.columns, p);
    load_row<X>(to, r, 0, args.columns, dp);
    fill_to_vector<X>(p, args.columns, 0);
    fill_to_vector<X>(dp, args.columns, 0);
    if (args.dropped != nullptr) {
      load_row<X>(rows_of(args.dropped, args.dtype, args.to_row), r, 0, args.columns,
                  scratch.third);
      fill_to_vector<X>(scratch.third, args.columns, 0);
      for (int64_t i = 0; i < args.columns; i += X::kLanes) {  // 0 where P is 0 anyway
        const auto gone = X::equal(X::load(scratch.third + i), Vec{});
        X::store(dp + i, X::mul(X::load(dp + i), X::select(gone, Vec{}, keep)));
      }
    }
    Vec sum = Vec{};
    for (int64_t i = 0; i < args.columns; i += X::kLanes)
      sum = X::fma(X::load(p + i), X::load(dp + i), sum);
    Real delta = sum_of_lanes<X>(sum);
    if (args.grad_logsumexp != nullptr)
      delta -= *real_at<X>(args.grad_logsumexp, r * args.grad_logsumexp_row);
    const Vec all = X::broadcast(delta);
    for (int64_t i = 0; i < args.columns; i += X::kLanes)
      X::store(dp + i, X::mul(X::load(p + i), X::sub(X::load(dp + i), all)));
    store_row<X>(to, r, 0, args.columns, dp);
  }
}

template <class X>
void sum_rows(const tilewise::SumRowsLaunch& args, void* memory) {
  using Real = typename X::Real;
  const RowsScratch<X> scratch(args.columns, {}, memory);
  Real *sum = scratch.first, *row = scratch.second;
  const Matrix from = rows_of(args.from, args.dtype, args.from_row);
  const DType real = sizeof(Real) == 8 ? DType::kFloat64 : DType::kFloat32;
  const Matrix to = rows_of(args.sum, real, 0, args.sum_column);
  std::memset(sum, 0, (args.columns + X::kLanes) * sizeof(Real));
  if (args.accumulate) load_row<X>(to, 0, 0, args.columns, sum);
  for (int64_t r = 0; r < args.rows; ++r) {
    load_row<X>(from, r, 0, args.columns, row);
    fill_to_vector<X>(row, args.columns, 0);
    for (int64_t i = 0; i < args.columns; i += X::kLanes)
      X::store(sum + i, X::add(X::load(sum + i), X::load(row + i)));
  }
  store_row<X>(to, 0, 0, args.columns, sum);
}

template <class X>
int64_t rows_scratch_bytes(int64_t columns, const ProgramSizes& programs) {
  return RowsScratch<X>(columns, programs, nullptr).bytes;
}

}  // namespace
