// SPDX-License-Identifier: Apache-2.0
// The fifth product, dQ += dS K, whose sums several workers share: each adds when its turn has
// come.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/generic/backward_tiles-inl.h"
#include "kernels/cpu/generic/turns-inl.h"

namespace {

// Vectors of head_dim that one block of dQ holds, beside kRows queries.
template <class X>
inline constexpr int kGradVectors = X::kVectors == 1 ? 1
                                    : X::kRows == 8  ? 2
                                                     : 3;

// Where dQ of one head is summed.
template <class Real>
struct GradQuery {
  Real* data;
  int64_t stride;  // elements from one row to the next
};

// grad_query can hold its own sums: contiguous along dim, in the kernel's arithmetic.
template <class X>
bool sums_in_place(const Tensor& grad_query) {
  const DType real = sizeof(typename X::Real) == 8 ? DType::kFloat64 : DType::kFloat32;
  return grad_query.dtype == real && (grad_query.strides[3] == 1 || grad_query.shape[3] == 1);
}

template <class X>
GradQuery<typename X::Real> grad_query_sums(const tilewise::BackwardLaunch& args,
                                            const tilewise::BackwardItem& item, int64_t head) {
  using Real = typename X::Real;
  const auto& shape = args.shape;
  if (sums_in_place<X>(args.grad_query))
    return {reinterpret_cast<Real*>(matrix_of(args.grad_query, item.batch, head).data),
            args.grad_query.strides[2]};
  const int64_t group = shape.query_heads / shape.kv_heads;
  const int64_t part = head % group * shape.query_length * shape.head_dim;
  return {static_cast<Real*>(item.grad_query_sums) + part, shape.head_dim};
}

// Key tile `tile` in the order of those that add to dQ of a tile of queries.
struct Visit {
  int32_t before;  // key tiles that add earlier
  bool is_last;
  bool is_mixed;  // some tile of the row has masked pairs
};

// What a dQ product reads: dS of all panels, and the keys as words of the contracted index.
template <class X>
struct GradQueryProduct {
  const typename X::Real* ds;
  int64_t panel_size;
  const UnitRange* ranges;
  int64_t panels;
  int64_t keys;
  Rows k;  // (keys / kWord, k_width)
  bool is_first;
  typename X::Real factor;  // scale on the last visit, else 1
};

// kRows queries from `row` on, NV vectors of dQ from byte `column` of K on: c += dS K, keys
// ascending. Only `rows` x `columns` elements of c exist.
template <class X, int NV, bool kCareful>
__attribute__((noinline)) void multiply_add_ds_k(const GradQueryProduct<X>& x, int row,
                                                 int64_t column, typename X::Real* c,
                                                 int64_t stride, int64_t rows, int64_t columns) {
  using Vec = typename X::Vec;
  using Real = typename X::Real;
  constexpr int L = X::kLanes, MR = X::kRows, W = X::kWord;
  const bool whole = rows >= MR && columns >= NV * L;
  Real edge[MR][NV * L];
  if (!whole) std::memset(edge, 0, sizeof(edge));
  if (!whole && !x.is_first)
    for (int64_t i = 0; i < smaller(rows, MR); ++i)
      std::memcpy(edge[i], c + i * stride, smaller(columns, NV * L) * sizeof(Real));
  Vec sum[MR][NV];
  TILEWISE_UNROLL for (int i = 0; i < MR; ++i) TILEWISE_UNROLL for (int v = 0; v < NV; ++v)
      sum[i][v] = x.is_first ? Vec{} : X::load(whole ? c + i * stride + v * L : edge[i] + v * L);
  const auto multiply = [&](const Real* ds, const char* k) __attribute__((always_inline)) {
    Vec b[NV];
    TILEWISE_UNROLL for (int v = 0; v < NV; ++v) b[v] = X::load((const Real*)k + v * L);
    TILEWISE_UNROLL for (int i = 0; i < MR; ++i) {
      const Vec a = X::broadcast(ds[i / W * kWidth<X> + i % W * (L / W)]);
      TILEWISE_UNROLL for (int v = 0; v < NV; ++v) sum[i][v] =
          X::dot(sum[i][v], a, kCareful ? X::hide_masked(b[v], a) : b[v]);
    }
  };
  const auto multiply_words = [&](const Real* ds, const char* k, int64_t words) {
#pragma GCC unroll 4
    for (int64_t w = 0; w < words; ++w, k += x.k.stride) multiply(ds + w, k);
  };
  for (int64_t panel = 0; panel < x.panels; ++panel) {
    const UnitRange range = x.ranges[panel * kUnits + row / kUnit];
    const int64_t begin = panel * kWidth<X> + range.j0 * L,
                  end = smaller(panel * kWidth<X> + range.j1 * L, x.keys);
    const Real* ds = x.ds + panel * x.panel_size + row / W * kWidth<X> + range.j0 * L;
    // In fp32 all keys in one loop: one for each vector of them takes 5 % longer, fetching dS as
    // below 3 % (Emerald Rapids). In bf16 a vector is two runs of words, and fetching gained 4 % in
    // the sketches (Zen 4).
    if constexpr (W == 1) {
      multiply_words(ds, x.k.row(begin) + column, end - begin);
    } else {
      // The next rows of dS, as far as this vector's share of them.
      const Real* ahead = ds + MR / W * kWidth<X> + range.j0 * (L / W * MR - L);
      for (int64_t key = begin; key < end; key += L, ds += L, ahead += L / W * MR) {
        for (int w = 0; w < L / W * MR; w += 64 / sizeof(Real)) X::prefetch(ahead + w);
        multiply_words(ds, x.k.row(key / W) + column, (smaller(L, end - key) + W - 1) / W);
      }
    }
  }
  const Vec factor = X::broadcast(x.factor);
  TILEWISE_UNROLL for (int i = 0; i < MR; ++i) TILEWISE_UNROLL for (int v = 0; v < NV; ++v)
      X::store(whole ? c + i * stride + v * L : edge[i] + v * L, X::mul(sum[i][v], factor));
  if (!whole)
    for (int64_t i = 0; i < smaller(rows, MR); ++i)
      std::memcpy(c + i * stride, edge[i], smaller(columns, NV * L) * sizeof(Real));
}

// The same product by tiles, for all of a tile of queries.
template <class X>
void multiply_add_ds_k_tiles(const GradQueryProduct<X>& x, int64_t rows, int64_t columns,
                             typename X::Real* c, int64_t stride) {
  using Real = typename X::Real;
  constexpr int64_t kReal = sizeof(Real), G = kGroup<X>;
  for (int64_t r = 0; r < rows; r += G) {
    const auto sees = [&](int64_t panel) {
      const UnitRange* units = x.ranges + panel * kUnits + r / kUnit;
      return units[0].j1 | units[1].j1 | units[2].j1 | units[3].j1;
    };
    static_assert(G == 4 * kUnit && G == kWidth<X>);
    for (int64_t d = 0; d < columns; d += G) {
      const int64_t height = smaller(G, rows - r), width = smaller(G, columns - d);
      const bool whole = height == G && width == G;
      Real edge[G * G];
      Real* const to = c + r * stride + d;
      if (!whole && !x.is_first)
        for (int64_t i = 0; i < height; ++i)
          std::memcpy(edge + i * G, to + i * stride, width * kReal);
      Real* const sums = whole ? to : edge;
      const int64_t sums_stride = (whole ? stride : G) * kReal;
      bool from_zero = x.is_first;
      for (int64_t begin = 0, end; begin < x.panels; begin = end) {
        while (begin < x.panels && !sees(begin)) ++begin;
        for (end = begin; end < x.panels && sees(end);) ++end;
        if (begin == end && !from_zero) break;
        const typename X::TileProduct product = {x.ds + begin * x.panel_size + r * X::kStep,
                                                 X::kStep * kReal,
                                                 x.panel_size * kReal,
                                                 x.k.row(begin * X::kStep) + d * kReal,
                                                 x.k.stride,
                                                 X::kStep * x.k.stride,
                                                 end - begin};
        if (from_zero)
          X::template multiply_tiles<true>(product, sums, sums_stride);
        else
          X::template multiply_tiles<false>(product, sums, sums_stride);
        from_zero = false;
      }
      if (!whole)
        for (int64_t i = 0; i < height; ++i)
          std::memcpy(to + i * stride, edge + i * G, width * kReal);
    }
  }
}

// What NaN and infinity of K add where they are visible.
template <class X>
void add_not_finite_keys(const GradQueryProduct<X>& x, const typename X::Real* rest, int64_t rows,
                         int64_t columns, typename X::Real* c, int64_t stride) {
  const auto* ds = reinterpret_cast<const uint16_t*>(x.ds);
  const auto* halves = reinterpret_cast<const uint16_t*>(rest);
  constexpr uint16_t kMasked = 0x8000;
  const int64_t k_stride = x.k.stride / static_cast<int64_t>(sizeof(*c));
  for (int64_t key = 0; key < x.keys; ++key)
    for (int64_t d = 0; d < columns; ++d) {
      const uint16_t k = halves[(key / 2 * k_stride + d) * 2 + key % 2];
      if (k == 0) continue;
      const int64_t panel = key / kWidth<X>, lane = key % kWidth<X>;
      for (int64_t r = 0; r < rows; ++r) {
        if (x.ranges[panel * kUnits + r / kUnit].j1 == 0) continue;
        const uint16_t weight = ds[panel * x.panel_size * 2 + r * kGroup<X> + lane];
        if (weight != kMasked)
          c[r * stride + d] += tilewise::load_element(&weight, DType::kBFloat16, 0) *
                               tilewise::load_element(&k, DType::kBFloat16, 0);
      }
    }
}

// Scale and settle finished sums.
template <class X>
void finish_sums(typename X::Real factor, int64_t rows, int64_t columns, typename X::Real* c,
                 int64_t stride) {
  constexpr int L = X::kLanes;
  const typename X::Vec f = X::broadcast(factor);
  const int64_t whole = columns / L * L;
  for (int64_t r = 0; r < rows; ++r, c += stride) {
    for (int64_t d = 0; d < whole; d += L) X::store(c + d, X::mul(settled<X>(X::load(c + d)), f));
    if (whole == columns) continue;
    typename X::Real part[L] = {};
    std::memcpy(part, c + whole, (columns - whole) * sizeof(*c));
    X::store(part, X::mul(settled<X>(X::load(part)), f));
    std::memcpy(c + whole, part, (columns - whole) * sizeof(*c));
  }
}

// Line 21 for a tile of queries, and scale where it is complete.
template <class X, bool kCareful>
void add_grad_query(const tilewise::BackwardLaunch& args, const BackwardKeys& keys,
                    const BackwardQueries<X>& queries, const Visit& visit,
                    const GradQuery<typename X::Real>& c, const BackwardScratch<X>& scratch) {
  using Real = typename X::Real;
  constexpr int64_t L = X::kLanes;
  const int64_t head_dim = args.shape.head_dim, q0 = queries.q0, rows = queries.rows;
  const GradQueryProduct<X> x{
      scratch.ds_keys,   scratch.panel_size,
      scratch.ranges,    keys.panels,
      keys.keys,         keys.k,
      visit.before == 0, visit.is_last ? scale_of<X>(args.scale, args.scale_f64) : Real(1)};
  if constexpr (kTiled<X>) {
    auto* to = c.data + q0 * c.stride;
    multiply_add_ds_k_tiles(x, rows, head_dim, to, c.stride);
    if (kCareful) add_not_finite_keys(x, scratch.k_rest, rows, head_dim, to, c.stride);
    if (visit.is_last) finish_sums<X>(x.factor, rows, head_dim, to, c.stride);
  } else {
    for (int64_t d = 0; d < head_dim; d += kGradVectors<X> * L)
      for (int64_t r = 0; r < rows; r += X::kRows) {
        const auto run = [&]<int NV>() {
          multiply_add_ds_k<X, NV, kCareful>(
              x, static_cast<int>(r), d * static_cast<int64_t>(sizeof(Real)),
              c.data + (q0 + r) * c.stride + d, c.stride, rows - r, head_dim - d);
        };
        if (kGradVectors < X >> 2 && head_dim - d > 2 * L)
          run.template operator()<kGradVectors<X>>();
        else if (kGradVectors<X> > 1 && head_dim - d > L)
          run.template operator() < kGradVectors<X><2 ? 1 : 2>();
        else
          run.template operator()<1>();
      }
  }
}

// dQ_i is complete: convert it where it was summed elsewhere. False: it is not finite although
// `check`ed.
template <class X>
bool finish_grad_query(const tilewise::BackwardLaunch& args,
                       const GradQuery<typename X::Real>& sums, int64_t batch, int64_t head,
                       const BackwardQueries<X>& tile, bool check) {
  const Matrix dq = matrix_of(args.grad_query, batch, head);
  const bool in_place = sums_in_place<X>(args.grad_query);
  bool finite = true;
  for (int64_t r = tile.q0; r < tile.q0 + tile.rows; ++r) {
    const auto* row = sums.data + r * sums.stride;
    if (check) finite = finite && !any_not_finite<X>(row, args.shape.head_dim);
    if (!in_place) store_row<X>(dq, r, 0, args.shape.head_dim, row);
  }
  return finite;
}

inline Visit visit_of(const tilewise::TileRows& by_query, int64_t query_tile, int64_t tile) {
  Visit visit = {0, false, false};
  const int64_t begin = by_query.begin[query_tile], end = by_query.begin[query_tile + 1];
  for (int64_t run = begin; run < end; ++run) {
    const tilewise::TileRun& x = by_query.runs[run];
    visit.is_mixed |= x.kind == tilewise::TileKind::kPartial;
    if (x.first < tile) visit.before += static_cast<int32_t>(smaller(x.last, tile)) - x.first;
    visit.is_last = x.last - 1 == tile;
  }
  return visit;
}

}  // namespace
