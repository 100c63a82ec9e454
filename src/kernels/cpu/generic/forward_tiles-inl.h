// SPDX-License-Identifier: Apache-2.0
// The verbs of flash_forward: what is loaded, multiplied and stored per tile.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/generic/dropout-inl.h"
#include "kernels/cpu/generic/finish_rows-inl.h"
#include "kernels/cpu/generic/online_softmax-inl.h"
#include "kernels/cpu/generic/pack-inl.h"
#include "kernels/cpu/generic/scores-inl.h"
#include "kernels/cpu/generic/visible-inl.h"
#include "kernels/launch.h"

namespace {

// Columns of V as the product O += P V takes them.
template <class X>
int64_t value_width(int64_t value_dim) {
  return round_up(value_dim, kTiled<X> ? kGroup<X> : X::kRows);
}

template <class X>
void take_state(Scratch& s, QueryBlock<X>& q) {
  using Real = typename X::Real;
  for (Real** row : {&q.m, &q.base_m, &q.low, &q.l, &q.raised_by, &q.behind_memory})
    *row = s.take<Real>(kWidth<X>);
  q.l_words = X::kWord == 1 ? q.l : s.take<Real>(kWidth<X>);
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
  Real* groups;  // as many, where products are of tiles: contracted_groups
  Real* scores;  // (kGroup, kWidth), where products are of tiles
  Real* unit;    // (kUnit, kWidth), where they are not
  Real* bias;    // (key_tile, kWidth)
  VisibleTile<X>* visible;
  DroppedTile* dropped;
  TileEvaluator<X> evaluator;  // rows are keys
  int64_t bytes;

  ForwardScratch(const tilewise::AttentionShape& shape, const tilewise::Geometry& g,
                 const ProgramSizes& programs, void* memory) {
    Scratch s{static_cast<char*>(memory)};
    const int64_t width = value_width<X>(shape.value_dim);
    for (int64_t i = 0; i * kWidth<X> < g.query_tile; ++i) {
      block[i].qt = s.take<Real>(words<X>(shape.head_dim) * kWidth<X>);
      block[i].o = s.take<Real>(width * kWidth<X>);
      take_state(s, block[i]);
    }
    p = s.take<Real>(g.key_tile / X::kWord * kWidth<X>);
    keys = s.take<Real>(g.key_tile * words<X>(shape.head_dim));
    values = s.take<Real>(g.key_tile / X::kWord * width);
    groups = kTiled<X> ? s.take<Real>(g.key_tile / X::kWord * width) : nullptr;
    scores = kTiled<X> ? s.take<Real>(kGroup<X> * kWidth<X>) : nullptr;
    unit = kTiled<X> ? nullptr : s.take<Real>(kUnit * kWidth<X>);
    bias = s.take<Real>(g.key_tile * kWidth<X>);
    visible = s.take<VisibleTile<X>>(1);
    dropped = s.take<DroppedTile>(1);
    evaluator = TileEvaluator<X>(programs, true, s);
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
  q.fresh = q.raising = true;
  q.span = -1;
  q.behind = nullptr;
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

// P of rows [begin, end), which stay in the same product as the unit that raised m; 0 where it
// becomes subnormal, as the product itself has it.
template <class X>
void rescale_rows(const QueryBlock<X>& q, const TileScores<X>& tile, int begin, int end) {
  using Vec = typename X::Vec;
  for (int j = 0; j < kWidth<X>; j += X::kLanes) {
    const Vec f = X::load(q.raised_by + j);
    for (int r = begin / X::kWord; r < end / X::kWord; ++r) {
      auto* p = tile.p + r * kWidth<X> + j;
      X::store(p, X::scale_words(X::load(p), f));
    }
  }
}

// O is to be multiplied by what m was raised by.
template <class X>
void fall_behind(QueryBlock<X>& q) {
  using Vec = typename X::Vec;
  for (int j = 0; j < kWidth<X>; j += X::kLanes) {
    Vec f = X::load(q.raised_by + j);
    if (q.behind) f = X::mul(f, X::load(q.behind + j));
    // What is left of O is less than it can hold beside what follows; and subnormal factors are
    // slow.
    f = X::select(X::less(f, X::broadcast(Exp2<typename X::Real>::kSmallest)), Vec{}, f);
    X::store(q.behind_memory + j, f);
  }
  q.behind = q.behind_memory;
}

// O and, where it is summed with the product, l_words.
template <class X>
void catch_up(QueryBlock<X>& q, int64_t value_width) {
  for (int j = 0; j < kWidth<X>; j += X::kLanes) {
    const auto f = X::load(q.behind + j);
    for (int64_t d = 0; d < value_width; ++d) {
      auto* o = q.o + d * kWidth<X> + j;
      X::store(o, X::mul(X::load(o), f));
    }
    X::store(q.l_words + j, X::mul(X::load(q.l_words + j), f));
  }
}

// The scores of a unit by the program.
template <class X, int NV>
__attribute__((noinline)) void transform_scores(const QueryBlock<X>& q, const TileScores<X>& tile,
                                                const Rows& keys, int row, int j0) {
  auto* s = kTiled<X> ? tile.s + row % kGroup<X> * kWidth<X>
            : tile.s  ? tile.s + row * kWidth<X>
                      : tile.unit;
  if (!kTiled<X> && !tile.s) multiply_unit<X, NV>(keys, q.qt, tile.depth, j0, s);
  if (!kPrescaled<X>) scale_unit<X, NV>(tile.unscaled, j0, s);
  tile.score->unit(row, j0, j0 + NV, s);
}

// What the product takes of a unit of which l has the whole P.
template <class X, int NV>
void drop_unit(const uint64_t* dropped, int row, int j0, typename X::Real* p) {
  p += row / X::kWord * kWidth<X> + j0 * X::kLanes;
  TILEWISE_UNROLL for (int i = 0; i < kUnit / X::kWord; ++i)
      TILEWISE_UNROLL for (int j = 0; j < NV; ++j)
          drop_words<X>(dropped, row + i * X::kWord, j0 + j, p + i * kWidth<X> + j * X::kLanes);
}

// Lines 9 to 11 for one unit of a segment: P = 2^(S - m), l += rowsum(P), m raised where it must
// be; then dropout.
template <class X>
void absorb_unit(QueryBlock<X>& q, const TileScores<X>& tile, const Rows& keys, const Segment& s,
                 int row) {
  const Rows unit = {keys.row(row), keys.stride};
  const auto run = [&]<int NV>() {
    if (tile.score) transform_scores<X, NV>(q, tile, unit, row, s.j0);
    if (tile.careful || q.raising)
      score_unit_cold<X, NV>(q, tile, unit, row, s.j0, s.masked);
    else if (tile.bias)
      score_unit<X, NV, UnitKind::kBiased>(q, tile, unit, row, s.j0, s.masked);
    else if (tile.score)
      score_unit<X, NV, UnitKind::kScored>(q, tile, unit, row, s.j0, s.masked);
    else if (s.masked)
      score_unit<X, NV, UnitKind::kMasked>(q, tile, unit, row, s.j0, true);
    else
      score_unit<X, NV, UnitKind::kPlain>(q, tile, unit, row, s.j0, false);
    if (!kTiled<X> && tile.dropped) drop_unit<X, NV>(tile.dropped, row, s.j0, tile.p);
  };
  const int vectors = s.j1 - s.j0;
  if constexpr (X::kVectors > 2)
    if (vectors == 3) run.template operator()<3>();
  if constexpr (X::kVectors > 1)
    if (vectors == 2) run.template operator()<2>();
  if (vectors == 1) run.template operator()<1>();
  if (q.fresh) q.fresh = q.raising = false;  // the first raise says nothing about the next
}

// Rows [begin, end) of a tile.
struct RowRange {
  int begin;
  int end;
};

// Lines 9 to 12 for a tile. add_product(range) adds P V of its rows to O, after
// it has brought O up to date (q.behind): once per tile, and before m is raised. between() is
// called before each unit.
template <class X, class Between, class AddProduct>
void absorb_tile(QueryBlock<X>& q, const TileScores<X>& tile, const Rows& keys,
                 const VisibleTile<X>& visible, const Between& between,
                 const AddProduct& add_product) {
  int group_end = 0;  // of rows whose scores are in tile.s
  int added = 0;
  const bool follows = tile.score || tile.bias;
  const auto rescale = [&](int group) __attribute__((noinline)) {
    if (added < group) add_product({added, group});
    added = group;
    fall_behind(q);
  };
  for (int i = 0; i < visible.count; ++i) {
    const Segment& s = visible.segments[i];
    for (int row = s.begin; row < s.end; row += kUnit) {
      between();
      if constexpr (kTiled<X>)
        if (row >= group_end) {
          const int group = row / kGroup<X> * kGroup<X>;
          group_end = group + kGroup<X>;
          score_group(q, tile, keys, group,
                      row == group && group_end <= s.end && s.j1 - s.j0 == X::kVectors);
        }
      const int group = row / kGroup<X> * kGroup<X>;
      if (follows && (tile.key + row) / kSpan != q.span) {
        q.span = (tile.key + row) / kSpan;
        if (follow_sums(q, tile)) rescale(group);
      }
      absorb_unit(q, tile, keys, s, row);
      if (!q.raising) continue;
      if (kTiled<X>) rescale_rows(q, tile, group, row);
      rescale(group);
    }
  }
  add_product({added, kMaxRows});
}

// c (columns, kWidth) = c * factor + A^T B over the visible rows of the range; A: Rows of words
// of the contracted index. factor: one for each lane, or null for 1.
template <class X, bool kCareful>
__attribute__((noinline)) void multiply_add_ab(const Rows& a, int64_t columns,
                                               const typename X::Real* b,
                                               const VisibleTile<X>& visible, RowRange range,
                                               const typename X::Real* factor,
                                               typename X::Real* c) {
  using Vec = typename X::Vec;
  constexpr int NV = X::kVectors;
  for (int64_t d = 0; d < columns; d += X::kRows, c += X::kRows * kWidth<X>) {
    const Rows part = {a.data + d * static_cast<int64_t>(sizeof(typename X::Real)), a.stride};
    Vec sum[X::kRows][NV];
    TILEWISE_UNROLL for (int i = 0; i < X::kRows; ++i) TILEWISE_UNROLL for (int j = 0; j < NV; ++j)
        sum[i][j] = X::load(c + i * kWidth<X> + j * X::kLanes);
    if (factor) TILEWISE_UNROLL for (int j = 0; j < NV; ++j) {
        const Vec f = X::load(factor + j * X::kLanes);
        TILEWISE_UNROLL for (int i = 0; i < X::kRows; ++i) sum[i][j] = X::mul(sum[i][j], f);
      }
    for (int i = 0; i < visible.count; ++i) {
      const Segment& s = visible.segments[i];
      const int64_t begin = larger(s.begin, range.begin) / X::kWord,
                    end = smaller(s.end, range.end) / X::kWord;
      if (begin >= end) continue;
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

// The same product by tiles, over groups of rows: a is what contracted_groups makes of A. B
// is 0 outside of the segments.
template <class X>
void multiply_add_tiles(const Rows& a, int64_t columns, const typename X::Real* b, Groups groups,
                        typename X::Real* c) {
  constexpr int64_t kRow = kWidth<X> * sizeof(typename X::Real);
  constexpr int64_t kRowOfA = X::kStep * sizeof(typename X::Real), kBlock = kGroup<X> * kRowOfA;
  b += groups.first * X::kStep * kWidth<X>;
  for (int64_t d = 0; d < columns; d += kGroup<X>)
    X::template multiply_tiles<false>({a.row(d / kGroup<X>) + groups.first * kBlock, kRowOfA,
                                       kBlock, b, kRow, X::kStep * kRow, groups.count},
                                      c + d * kWidth<X>, kRow);
}

// What multiply_add_tiles left out: NaN and infinity of A, `rest` (rows / kWord, columns), where
// they are visible.
template <class X>
void add_not_finite(const typename X::Real* rest, int64_t columns, const typename X::Real* b,
                    Groups groups, typename X::Real* c) {
  using Vec = typename X::Vec;
  for (int64_t w = groups.first * X::kStep; w < (groups.first + groups.count) * X::kStep; ++w)
    for (int64_t d = 0; d < columns; ++d) {
      uint32_t word;
      std::memcpy(&word, rest + w * columns + d, sizeof(word));
      for (const uint32_t half : {0x0000ffffu, 0xffff0000u}) {
        if ((word & half) == 0) continue;
        const uint32_t alone = word & half, others = ~half;
        const Vec a = broadcast_word<X>(reinterpret_cast<const char*>(&alone));
        const Vec hidden = broadcast_word<X>(reinterpret_cast<const char*>(&others));
        for (int lane = 0; lane < kWidth<X>; lane += X::kLanes) {
          auto* to = c + d * kWidth<X> + lane;
          const Vec p = X::load(b + w * kWidth<X> + lane);
          X::store(to, X::dot(X::load(to), X::hide_masked(a, p), X::without_bits(p, hidden)));
        }
      }
    }
}

// Tile instructions take subnormal numbers for 0, so whether a sum is one may depend on what was
// added to it afterwards: a group of masked pairs or nothing. So may the sign of a zero and the
// bits of a NaN.
template <class X>
TILEWISE_INLINE typename X::Vec settled(typename X::Vec x) {
  using Vec = typename X::Vec;
  const Vec size = X::max(X::sub(Vec{}, x), x);
  const Vec number = X::select(X::less(size, X::broadcast(0x1p-126f)), Vec{}, x);
  return X::select(X::unordered(x), X::broadcast(__builtin_nanf("")), number);
}
template <class X>
void settle(typename X::Real* sums, int64_t count) {
  for (int64_t i = 0; i < count; i += X::kLanes) X::store(sums + i, settled<X>(X::load(sums + i)));
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

// Line 12, once instead of once per tile: O = r diag(l)^-1 O, r of dropout; and LSE. O of a row
// that has seen nothing is 0.
template <class X>
void store_output(const tilewise::ForwardLaunch& args, const tilewise::ForwardItem& item,
                  const QueryBlock<X>& q, int64_t first, int64_t lanes) {
  using Real = typename X::Real;
  const Sink<Real> sink(args.sink, item.head);
  RowSums<Real> rows[kWidth<X>];
  Real inverse[kWidth<X>];
  for (int lane = 0; lane < kWidth<X>; ++lane) {
    rows[lane] = {q.m[lane], q.l[lane], q.l_words[lane]};
    inverse[lane] = add_sink(sink, rows[lane]) * static_cast<Real>(keep_scale(args));
  }
  const Matrix o = matrix_of(args.output, item.batch, item.head);
  transpose_out<X>(q.o, inverse, args.shape.value_dim, o, first, lanes);
  if (!args.logsumexp.data) return;
  const Matrix lse = matrix_of(args.logsumexp, item.batch, item.head);
  for (int64_t lane = 0; lane < lanes; ++lane)
    store_logsumexp(lse.at(first + lane, 0), rows[lane], sink);
}

}  // namespace
