// SPDX-License-Identifier: Apache-2.0
// The verbs of flash_backward: what is loaded, multiplied, handed over and stored per tile.
#pragma once

#include <sched.h>

#include <cstdint>
#include <cstring>

#include "kernels/cpu/generic/backward_scores-inl.h"

namespace {

inline constexpr int kUnits = kMaxRows / kUnit;

// Vectors of head_dim that one block of dQ holds: kRows x 2 accumulators, B read once per kRows.
inline constexpr int kGradVectors = 2;

// Which lane vectors of a panel a unit of queries sees: [j0, j1).
struct UnitRange {
  uint8_t j0;
  uint8_t j1;
};

// A worker's memory for one tile of keys (panels of kWidth) and one tile of queries.
template <class X>
struct BackwardScratch {
  using Real = typename X::Real;
  int64_t q_width;          // head_dim in whole register blocks of dK^T
  int64_t g_width;          // value_dim, of dV^T
  int64_t k_width;          // head_dim in whole vectors, of dQ
  int64_t panel_size;       // words of P or dS of one panel
  Real *kt, *vt;            // (panels, words(dim), kWidth)
  Real *dkt, *dvt;          // (panels, width, kWidth)
  Real* k_words;            // (key_tile / kWord, k_width), where keys must be copied
  Real *q_rows, *g_rows;    // (query_tile, words(dim)), where these must be copied
  Real *q_words, *g_words;  // (query_tile / kWord, width), likewise
  Real *p, *ds;             // (query_tile / kWord, kWidth)
  Real* ds_keys;            // (panels, query_tile / kWord, kWidth)
  Real *bias, *ds_real;     // (query_tile, kWidth)
  Real *minus_lse, *minus_lse_low, *minus_delta;
  VisibleTile<X>* visible;
  UnitRange* ranges;  // (panels, kUnits)
  int64_t bytes;

  BackwardScratch(const tilewise::AttentionShape& shape, const tilewise::Geometry& g,
                  void* memory) {
    Scratch s{static_cast<char*>(memory)};
    constexpr int64_t W = X::kWord;
    const int64_t keys = round_up(g.backward_key_tile, kWidth<X>), panels = keys / kWidth<X>;
    const int64_t rows = round_up(g.backward_query_tile, kUnit);
    const int64_t d = words<X>(shape.head_dim), e = words<X>(shape.value_dim);
    q_width = round_up(shape.head_dim, X::kRows);
    g_width = round_up(shape.value_dim, X::kRows);
    k_width = round_up(shape.head_dim, X::kLanes);
    panel_size = rows / W * kWidth<X>;
    kt = s.take<Real>(d * keys);
    vt = s.take<Real>(e * keys);
    dkt = s.take<Real>(q_width * keys);
    dvt = s.take<Real>(g_width * keys);
    k_words = s.take<Real>(keys / W * k_width);
    q_rows = s.take<Real>(rows * d);
    g_rows = s.take<Real>(rows * e);
    q_words = s.take<Real>(rows / W * q_width);
    g_words = s.take<Real>(rows / W * g_width);
    p = s.take<Real>(panel_size);
    ds = s.take<Real>(panel_size);
    ds_keys = s.take<Real>(panels * panel_size);
    bias = s.take<Real>(rows * kWidth<X>);
    ds_real = s.take<Real>(rows * kWidth<X>);
    minus_lse = s.take<Real>(rows);
    minus_lse_low = s.take<Real>(rows);
    minus_delta = s.take<Real>(rows);
    visible = s.take<VisibleTile<X>>(1);
    ranges = s.take<UnitRange>(panels * kUnits);
    bytes = s.used;
  }
};

// find_visible for a panel: lanes at or beyond `lanes` are masked too, since 2^(0 - LSE) of their
// zeros may overflow.
template <class X>
void find_visible_keys(VisibleTile<X>& visible, const tilewise::Band& band, int64_t shift, int rows,
                       int64_t lanes) {
  constexpr int L = X::kLanes;
  const int vectors = static_cast<int>((lanes + L - 1) / L), rest = static_cast<int>(lanes % L);
  find_visible<X>(visible, band, -1, shift, rows, vectors);
  for (int i = 0; rest != 0 && i < visible.count; ++i) {
    Segment& s = visible.segments[i];
    if (s.j1 != vectors) continue;
    for (int r = s.begin; r < s.end; ++r)
      for (int j = s.j0; j < s.j1; ++j) {
        uint16_t& bits = visible.bits[r][j];
        if (!s.masked) bits = static_cast<uint16_t>((1u << L) - 1);
        if (j == vectors - 1) bits = static_cast<uint16_t>(bits & ((1u << rest) - 1));
      }
    s.masked = true;
  }
}

// (rows, kWidth) <- log2(e) * bias of `rows` queries from q0 and `lanes` keys from k0.
template <class X>
void load_bias_rows(const Matrix& m, int64_t q0, int64_t rows, int64_t k0, int64_t lanes,
                    typename X::Real* to) {
  using Real = typename X::Real;
  for (int64_t r = 0; r < round_up(rows, kUnit); ++r, to += kWidth<X>) {
    std::memset(to, 0, kWidth<X> * sizeof(Real));
    if (r < rows) load_row<X>(m, q0 + r, k0, lanes, to);
    for (int lane = 0; lane < kWidth<X>; lane += X::kLanes)
      X::store(to + lane, X::mul(X::load(to + lane), X::broadcast(static_cast<Real>(kLog2E))));
  }
}

// Q_i with the bits of the forward's Q^T: (padded, head_dim), times scale * log2(e).
template <class X>
Rows scaled_rows(const Matrix& m, int64_t first, int64_t count, int64_t padded, int64_t dim,
                 typename X::Real factor, typename X::Real* to) {
  using Real = typename X::Real;
  for (int64_t r = 0; r < count; ++r) load_row<X>(m, first + r, 0, dim, to + r * dim);
  std::memset(to + count * dim, 0, (padded - count) * dim * sizeof(Real));
  int64_t c = 0;
  for (; c + X::kLanes <= count * dim; c += X::kLanes)
    X::store(to + c, X::mul(X::load(to + c), X::broadcast(factor)));
  for (; c < count * dim; ++c) to[c] *= factor;
  return {reinterpret_cast<const char*>(to), dim * static_cast<int64_t>(sizeof(Real))};
}

// -log2(e) * LSE as the sum of two numbers; -inf and 0 for a row that sees nothing.
template <class Real>
void split_lse(Real lse, Real& minus_lse, Real& minus_lse_low) {
  constexpr double kLog2ELow = 2.0355273740931033e-17;  // log2(e) - kLog2E
  const double product = lse * kLog2E;
  minus_lse = lse == -__builtin_inff() ? lse : static_cast<Real>(-product);
  const bool is_finite = minus_lse * 0 == 0;
  if constexpr (sizeof(Real) == 4)
    minus_lse_low = is_finite ? static_cast<Real>(-product - static_cast<double>(minus_lse)) : 0;
  else
    minus_lse_low = is_finite ? __builtin_fma(-lse, kLog2E, -minus_lse) - lse * kLog2ELow : 0;
}

// dBias += dS, queries ascending, over the visible units.
template <class X>
void add_grad_bias(const Matrix& m, int64_t q0, int64_t rows, int64_t k0, int64_t lanes,
                   const VisibleTile<X>& visible, const typename X::Real* ds) {
  using Real = typename X::Real;
  for (int i = 0; i < visible.count; ++i) {
    const Segment& s = visible.segments[i];
    const int64_t end = smaller(s.j1 * X::kLanes, lanes);
    for (int64_t r = s.begin; r < smaller(s.end, rows); ++r)
      for (int64_t lane = s.j0 * X::kLanes; lane < end; ++lane) {
        char* to = m.at(q0 + r, k0 + lane);
        Real sum;
        std::memcpy(&sum, to, sizeof(sum));
        sum += ds[r * kWidth<X> + lane];
        std::memcpy(to, &sum, sizeof(sum));
      }
  }
}

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
GradQuery<typename X::Real> grad_query_sums(const tilewise::BackwardLaunch& args, int64_t batch,
                                            int64_t head, int64_t slot) {
  using Real = typename X::Real;
  const auto& shape = args.shape;
  if (sums_in_place<X>(args.grad_query))
    return {reinterpret_cast<Real*>(matrix_of(args.grad_query, batch, head).data),
            args.grad_query.strides[2]};
  const int64_t group = shape.query_heads / shape.kv_heads;
  const int64_t part = (slot * group + head % group) * shape.query_length * shape.head_dim;
  return {static_cast<Real*>(args.grad_query_accumulator) + part, shape.head_dim};
}

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
  Real edge[MR][NV * L] = {};
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
  for (int64_t panel = 0; panel < x.panels; ++panel) {
    const UnitRange range = x.ranges[panel * kUnits + row / kUnit];
    for (int j = range.j0; j < range.j1; ++j) {
      const int64_t key = panel * kWidth<X> + j * L;
      const Real* ds = x.ds + panel * x.panel_size + row / W * kWidth<X> + j * L;
      const char* k = x.k.row(key / W) + column;
      // The next rows of dS, as far as this vector's share of them.
      const Real* ahead = x.ds + panel * x.panel_size + (row + MR) / W * kWidth<X> + j * L / W * MR;
      if (key + L <= x.keys) {
#pragma GCC unroll 4
        for (int w = 0; w < L / W; ++w, k += x.k.stride) {
          if (w * MR * sizeof(Real) % 64 == 0) X::prefetch(ahead + w * MR);
          multiply(ds + w, k);
        }
      } else {
        for (int64_t w = 0; key + w * W < x.keys; ++w, k += x.k.stride) multiply(ds + w, k);
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

// Line 21 for a tile of `rows` queries: dQ += dS K.
template <class X, bool kCareful>
void add_grad_query(const GradQueryProduct<X>& x, const GradQuery<typename X::Real>& c, int64_t q0,
                    int64_t rows, int64_t head_dim) {
  using Real = typename X::Real;
  constexpr int64_t L = X::kLanes;
  for (int64_t d = 0; d < head_dim; d += kGradVectors * L)
    for (int64_t r = 0; r < rows; r += X::kRows) {
      const auto run = [&]<int NV>() {
        multiply_add_ds_k<X, NV, kCareful>(
            x, static_cast<int>(r), d * static_cast<int64_t>(sizeof(Real)),
            c.data + (q0 + r) * c.stride + d, c.stride, rows - r, head_dim - d);
      };
      if (head_dim - d > L)
        run.template operator()<kGradVectors>();
      else
        run.template operator()<1>();
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

// Turns: several workers add to the same sums, in the order of the items. The predecessor has been
// started, so it is short to wait.
inline void wait_for_turn(const int32_t* turn, int32_t expected) {
  for (int spins = 0; __atomic_load_n(turn, __ATOMIC_ACQUIRE) != expected; ++spins) {
    if (spins > 2000) sched_yield();
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
}

inline void pass_turn(int32_t* turn, int32_t expected) {
  __atomic_store_n(turn, expected + 1, __ATOMIC_RELEASE);
}

// Key tile `tile` in the order of those that add to dQ of a tile of queries.
struct Visit {
  int32_t before;  // key tiles that add earlier
  bool is_last;
  bool is_mixed;  // some tile of the row has masked pairs
};

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
