// SPDX-License-Identifier: Apache-2.0
// C = alpha A B (+ C) on the register blocks of attention, blocked for the caches as in Goto and
// van de Geijn, "Anatomy of high-performance matrix multiplication" (2008): a panel of B (depth
// block x kWidth) stays in the first-level cache while a block of A passes by from the second.
// Standard attention is made of it, so that it differs from ours in its order of work only.
//
// Sums run over the depth in index order within a block of depth, and over blocks in order; no sum
// depends on rows, columns or strides. Nothing outside the three matrices is read or written.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/generic/pack-inl.h"
#include "kernels/cpu/generic/products-inl.h"
#include "kernels/launch.h"

namespace {

inline constexpr int64_t kDepthBlock = 128;  // words: a panel of B takes 24 KiB with AVX-512
inline constexpr int64_t kRowBlock = 192;    // rows of A; with its depth 96 KiB
inline constexpr int64_t kPanelBlock = 8;    // panels of B; with their depth 192 KiB
// Words from one depth to the next where A lies by depth: an odd number of cache lines, so that the
// first-level cache can hold a column.
inline constexpr int64_t kRowBlockStride = kRowBlock + 16;

// Vectors of columns, shared out evenly: 4 are 2 + 2, not 3 + 1, which would wait for loads.
template <class X>
struct Panels {
  int64_t vectors;
  int64_t count;
  explicit Panels(int64_t columns)
      : vectors((columns + X::kLanes - 1) / X::kLanes),
        count((vectors + X::kVectors - 1) / X::kVectors) {}
  int64_t begin(int64_t i) const { return vectors * i / count; }
  int width(int64_t i) const { return static_cast<int>(begin(i + 1) - begin(i)); }
};

template <class X>
struct MatmulScratch {
  using Real = typename X::Real;
  Real* a;     // (rows, kDepthBlock) or, by depth, (kDepthBlock, kRowBlockStride)
  Real* b;     // per panel (kDepthBlock, kWidth)
  Real* sums;  // per panel and kRows rows (kRows, kWidth): sums over the blocks of depth so far
  int64_t bytes;

  MatmulScratch(int64_t columns, void* memory) {
    Scratch s{static_cast<char*>(memory)};
    const int64_t count = Panels<X>(columns).count;
    const int64_t panels = count < kPanelBlock ? count : kPanelBlock;
    a = s.take<Real>(kDepthBlock * kRowBlockStride);
    b = s.take<Real>(panels * kDepthBlock * kWidth<X>);
    sums = s.take<Real>(panels * kRowBlock * kWidth<X>);
    bytes = s.used;
  }
};

// Rows [r0, r0 + rows) of A, elements [k0, k0 + depth) of each; rows beyond are 0.
template <class X>
void pack_a(const Matrix& a, int64_t r0, int64_t rows, int64_t k0, int64_t depth, bool by_depth,
            typename X::Real* to) {
  if (by_depth) {
    const Matrix t = {a.at(r0, 0), a.column, a.row, a.dtype};
    contracted_rows<X>(t, k0, depth, words<X>(depth) * X::kWord, rows, kRowBlockStride, to);
    return;
  }
  const Matrix part = {a.at(r0, k0), a.row, a.column, a.dtype};
  const int64_t padded = (rows + X::kRows - 1) / X::kRows * X::kRows;
  for (int64_t r = 0; r < rows; ++r) load_row_words<X>(part, r, depth, to + r * kDepthBlock);
  std::memset(to + rows * kDepthBlock, 0, (padded - rows) * kDepthBlock * sizeof(*to));
}

// The block of A that comes next, fetched while this one is multiplied: its lines are too short for
// the processor to see a pattern.
struct Ahead {
  const char* data;
  int64_t stride;
  int64_t lines;
  int64_t bytes;  // of a line
};

inline Ahead ahead_of(const Matrix& a, int64_t r0, int64_t rows, int64_t k0, int64_t depth,
                      bool by_depth) {
  const int64_t bytes = tilewise::dtype_bytes(a.dtype);
  return by_depth ? Ahead{a.at(r0, k0), a.column, depth, rows * bytes}
                  : Ahead{a.at(r0, k0), a.row, rows, depth * bytes};
}

// Part i of n.
template <class X>
TILEWISE_INLINE void prefetch_part(const Ahead& ahead, int64_t i, int64_t n) {
  for (int64_t line = ahead.lines * i / n; line < ahead.lines * (i + 1) / n; ++line)
    for (int64_t at = 0; at < ahead.bytes; at += 64)
      X::prefetch_l2(ahead.data + line * ahead.stride + at);
}

// Columns [c0, c0 + lanes) of B, rows [k0, k0 + depth), as words (depth, kWidth).
template <class X>
void pack_b(const Matrix& b, int64_t k0, int64_t depth, int64_t c0, int64_t lanes,
            typename X::Real* to) {
  if (b.column == tilewise::dtype_bytes(b.dtype)) {
    const Matrix part = {b.at(0, c0), b.row, b.column, b.dtype};
    const Rows rows =
        contracted_rows<X>(part, k0, depth, words<X>(depth) * X::kWord, lanes, kWidth<X>, to);
    if (rows.data != reinterpret_cast<const char*>(to))  // it is a panel as it lies in memory
      for (int64_t w = 0; w < words<X>(depth); ++w)
        std::memcpy(to + w * kWidth<X>, rows.row(w), kWidth<X> * sizeof(*to));
    return;
  }
  const Matrix t = {b.at(k0, c0), b.column, b.row, b.dtype};
  transpose_words<X>(t, 0, lanes, depth, 1, to);
}

// The first rows and columns of a register block go to C; alpha is applied here, once.
template <class X, int NV>
TILEWISE_INLINE void store_block(const Matrix& c, int64_t r0, int64_t rows, int64_t c0,
                                 int64_t columns, typename X::Real alpha, bool accumulate,
                                 typename X::Vec (&s)[X::kRows][NV]) {
  using Real = typename X::Real;
  constexpr int L = X::kLanes;
  const typename X::Vec factor = X::broadcast(alpha);
  const bool contiguous = c.column == tilewise::dtype_bytes(c.dtype);
  if (!accumulate && contiguous && rows == X::kRows && columns == NV * L) {
    bool stored = true;
    TILEWISE_UNROLL for (int i = 0; i < X::kRows; ++i) TILEWISE_UNROLL for (int j = 0; j < NV; ++j)
        stored &= store_vector<X>(c.at(r0 + i, c0 + j * L), c.dtype, X::mul(s[i][j], factor));
    if (stored) return;
  }
  Real block[X::kRows][NV * L], old[NV * L];
  TILEWISE_UNROLL for (int i = 0; i < X::kRows; ++i) TILEWISE_UNROLL for (int j = 0; j < NV; ++j)
      X::store(block[i] + j * L, X::mul(s[i][j], factor));
  for (int64_t r = 0; r < rows; ++r) {
    if (accumulate) {
      load_row<X>(c, r0 + r, c0, columns, old);
      for (int64_t i = 0; i < columns; ++i) block[r][i] += old[i];
    }
    store_row<X>(c, r0 + r, c0, columns, block[r]);
  }
}

// One block of A times one panel of B: from `sums` or 0, to `sums` or C.
struct BlockStep {
  int64_t r0, rows, c0, columns;
  int64_t depth;  // words
  bool by_depth, is_first, is_last;
  Ahead ahead;
  int64_t panel, panels;
};

template <class X, int NV>
__attribute__((noinline)) void multiply_panel(const tilewise::MatmulLaunch& args, const Matrix& c,
                                              const BlockStep& step, const typename X::Real* a,
                                              const typename X::Real* b, typename X::Real* sums) {
  using Real = typename X::Real;
  using Vec = typename X::Vec;
  const int64_t groups = (step.rows + X::kRows - 1) / X::kRows;
  for (int64_t r = 0; r < step.rows; r += X::kRows, sums += X::kRows * kWidth<X>) {
    prefetch_part<X>(step.ahead, step.panel * groups + r / X::kRows, step.panels * groups);
    Vec s[X::kRows][NV];
    if (step.by_depth) {
      TILEWISE_UNROLL for (int i = 0; i < X::kRows; ++i)
          TILEWISE_UNROLL for (int j = 0; j < NV; ++j) s[i][j] = Vec{};
      const Rows part = {reinterpret_cast<const char*>(a + r),
                         kRowBlockStride * int64_t(sizeof(Real))};
      multiply_add_words<X, NV, 0, NV, false>(s, part, b, 0, step.depth);
    } else {
      const Rows part = {reinterpret_cast<const char*>(a + r * kDepthBlock),
                         kDepthBlock * int64_t(sizeof(Real))};
      multiply_abt<X, NV>(s, part, b, step.depth);
    }
    if (!step.is_first)
      TILEWISE_UNROLL for (int i = 0; i < X::kRows; ++i)
          TILEWISE_UNROLL for (int j = 0; j < NV; ++j) s[i][j] =
              X::add(X::load(sums + i * kWidth<X> + j * X::kLanes), s[i][j]);
    if (step.is_last) {
      const int64_t rows = step.rows - r < X::kRows ? step.rows - r : X::kRows;
      store_block<X, NV>(c, step.r0 + r, rows, step.c0, step.columns, static_cast<Real>(args.alpha),
                         args.accumulate, s);
    } else {
      TILEWISE_UNROLL for (int i = 0; i < X::kRows; ++i)
          TILEWISE_UNROLL for (int j = 0; j < NV; ++j)
              X::store(sums + i * kWidth<X> + j * X::kLanes, s[i][j]);
    }
  }
}

template <class X>
void matmul_blocks(const tilewise::MatmulLaunch& args, void* memory) {
  const auto matrix = [](const void* data, DType dtype, int64_t row, int64_t column) {
    const int64_t bytes = tilewise::dtype_bytes(dtype);
    return Matrix{static_cast<char*>(const_cast<void*>(data)), row * bytes, column * bytes, dtype};
  };
  const Matrix a = matrix(args.a, args.a_dtype, args.a_row, args.a_column);
  const Matrix b = matrix(args.b, args.b_dtype, args.b_row, args.b_column);
  const Matrix c = matrix(args.c, args.c_dtype, args.c_row, args.c_column);
  const MatmulScratch<X> scratch(args.columns, memory);
  const Panels<X> panels(args.columns);
  const int64_t block = kDepthBlock * X::kWord;  // elements
  const auto part = [](int64_t all, int64_t done, int64_t most) {
    return all - done < most ? all - done : most;
  };
  BlockStep step{};
  step.by_depth = args.a_column != 1 && args.a_row == 1;
  for (int64_t p0 = 0; p0 < panels.count; p0 += kPanelBlock) {
    const int64_t p1 = p0 + part(panels.count, p0, kPanelBlock);
    for (step.r0 = 0; step.r0 < args.rows; step.r0 += kRowBlock) {
      step.rows = part(args.rows, step.r0, kRowBlock);
      int64_t k0 = 0;
      do {
        const int64_t depth = part(args.depth, k0, block);
        step.depth = words<X>(depth);
        step.is_first = k0 == 0;
        step.is_last = k0 + block >= args.depth;
        const bool has_b = step.r0 > 0 && step.is_first && step.is_last;  // of the rows before
        pack_a<X>(a, step.r0, step.rows, k0, depth, step.by_depth, scratch.a);
        const int64_t next_r0 = step.is_last ? step.r0 + kRowBlock : step.r0;
        const int64_t next_k0 = step.is_last ? 0 : k0 + block;
        step.ahead = next_r0 < args.rows
                         ? ahead_of(a, next_r0, part(args.rows, next_r0, kRowBlock), next_k0,
                                    part(args.depth, next_k0, block), step.by_depth)
                         : Ahead{};
        step.panels = p1 - p0;
        for (int64_t p = p0; p < p1; ++p) {
          auto* panel = scratch.b + (p - p0) * kDepthBlock * kWidth<X>;
          auto* sums = scratch.sums + (p - p0) * kRowBlock * kWidth<X>;
          step.panel = p - p0;
          step.c0 = panels.begin(p) * X::kLanes;
          const int width = panels.width(p);
          step.columns = part(args.columns, step.c0, width * X::kLanes);
          if (!has_b) pack_b<X>(b, k0, depth, step.c0, step.columns, panel);
          if constexpr (X::kVectors > 2)
            if (width == 3) multiply_panel<X, 3>(args, c, step, scratch.a, panel, sums);
          if constexpr (X::kVectors > 1)
            if (width == 2) multiply_panel<X, 2>(args, c, step, scratch.a, panel, sums);
          if (width == 1) multiply_panel<X, 1>(args, c, step, scratch.a, panel, sums);
        }
        k0 += block;
      } while (k0 < args.depth);
    }
  }
}

// Words of several elements need both operands in their dtype; others are converted to Real.
template <class X>
void matmul(const tilewise::MatmulLaunch& args, void* memory) {
  if constexpr (X::kWord == 2) {
    if (args.a_dtype != DType::kBFloat16 || args.b_dtype != DType::kBFloat16) {
      matmul_blocks<typename X::Single>(args, memory);
      return;
    }
  }
  matmul_blocks<X>(args, memory);
}

template <class X>
int64_t matmul_scratch_bytes(const tilewise::MatmulLaunch& args) {
  return MatmulScratch<X>(args.columns, nullptr).bytes;
}

}  // namespace
