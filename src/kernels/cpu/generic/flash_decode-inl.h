// SPDX-License-Identifier: Apache-2.0
// Few queries: reading K and V is all that costs. Three things differ from flash_forward-inl.h:
//
// - Rows are the queries of all query heads that share a key head, so K and V are read once for
//   all of them: row r is query r % query_length of head r / query_length of the group.
// - K and V are read row by row as they lie in memory. Lanes are keys in Q K^T (up to kFewRows
//   rows) and dims in P V, so that few rows fill them; O has rows of dims. Where products are of
//   tiles, K and P are the left operands, so that neither K nor V is transposed.
// - Keys come in chunks, so that many cores can share one head. Chunks start at multiples of
//   chunk_keys and are merged in their order, always: bits do not depend on who computes them.
//
// S, m and P are those of the forward, bit by bit, and so is every sum within a chunk: a single
// chunk gives the forward's result. Between chunks m differs, which is exact (m is an integer).
#pragma once

#include "kernels/cpu/generic/decode_visible-inl.h"
#include "kernels/cpu/generic/flash_forward-inl.h"
#include "kernels/cpu/generic/turns-inl.h"

namespace {

// Keys; a tile of K and V stays in the second-level cache.
template <class X>
inline constexpr int kDecodeTile = kTiled<X> ? 256 : 64;
inline constexpr int kFewRows = 8;  // beyond, rows fill the lanes of Q K^T well enough

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

template <class X>
DecodeRows decode_rows(const tilewise::ForwardLaunch& args, const tilewise::DecodeItem& item) {
  const auto& shape = args.shape;
  const int64_t group = shape.query_heads / shape.kv_heads;
  const int64_t first = item.row_tile * kWidth<X>;
  const int64_t lanes = smaller(kWidth<X>, group * shape.query_length - first);
  return {item.batch, item.kv_head * group, first, static_cast<int>(lanes), shape.query_length};
}

// Q^T of the rows, as transpose_words makes it.
template <class X>
void load_queries(const tilewise::ForwardLaunch& args, const DecodeRows& rows,
                  typename X::Real scale, DecodeScratch<X>& scratch) {
  const int64_t depth = words<X>(args.shape.head_dim);
  std::memset(scratch.q.qt, 0, depth * kWidth<X> * sizeof(*scratch.q.qt));
  std::memset(scratch.query, 0, depth * kWidth<X> * sizeof(*scratch.query));
  for (int lane = 0; lane < rows.lanes; ++lane) {
    const Matrix m = matrix_of(args.query, rows.batch, rows.head(lane));
    auto* row = scratch.query + lane * depth;
    load_row_words<X>(m, rows.query(lane), args.shape.head_dim, row);
    for (int64_t d = 0; d < depth; ++d) {
      if (X::kWord == 1) row[d] *= scale;
      scratch.q.qt[d * kWidth<X> + lane] = row[d];
    }
  }
}

// (keys, kWidth) <- log2(e) * bias, as load_bias makes it.
template <class X>
void load_decode_bias(const tilewise::ForwardLaunch& args, const DecodeRows& rows, int64_t k0,
                      int64_t keys, DecodeScratch<X>& scratch) {
  std::memset(scratch.bias, 0, kDecodeTile<X> * kWidth<X> * sizeof(*scratch.bias));
  for (int lane = 0; lane < rows.lanes; ++lane) {
    const Matrix m = matrix_of(args.bias, rows.batch, rows.head(lane));
    load_row<X>(m, rows.query(lane), k0, keys, scratch.row);
    for (int64_t k = 0; k < keys; ++k)
      scratch.bias[k * kWidth<X> + lane] = scratch.row[k] * static_cast<typename X::Real>(kLog2E);
  }
}

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

// The same where products are of tiles; v: pairs of keys.
template <class X>
void multiply_add_values_by_tiles(DecodeScratch<X>& scratch, const Rows& v, int lanes,
                                  int64_t width, const uint64_t* dropped, RowRange range) {
  using Vec = typename X::Vec;
  using Real = typename X::Real;
  constexpr int L = X::kLanes;
  constexpr int64_t kReal = sizeof(Real), kBlock = kWidth<X> * X::kStep;
  static_assert(L == X::kStep);
  QueryBlock<X>& q = scratch.q;
  if (q.behind) {
    for (int lane = 0; lane < lanes; ++lane) {
      scale_row(q.o + lane * width, width, q.behind[lane]);
      q.l_words[lane] *= q.behind[lane];
    }
    q.behind = nullptr;
  }
  const int vectors = (lanes + L - 1) / L;
  scratch.visible->for_each_groups(range.begin, range.end, [&](Groups groups) {
    sum_and_drop(q, scratch.p, dropped, groups);
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
        X::template multiply_tiles<false, 1, 2>(product, q.o + d, width * kReal);
      else
        X::template multiply_tiles<false>(product, q.o + d, width * kReal);
    }
  });
}

// Keys and values that are read next, fetched meanwhile: of the next tile of the chunk, or of the
// first one of the worker's next item.
template <class X>
struct NextKeys {
  Fetch<X> keys, values;
  // k0: where the next tile of the item starts; -1: this is the last one.
  NextKeys(const tilewise::ForwardLaunch& args, const tilewise::DecodeItem& item, int64_t k0) {
    const tilewise::DecodeItem* from = &item;
    if (k0 < 0) {
      from = item.next;
      if (!from) return;
      k0 = larger(from->chunk * args.decode.chunk_keys, args.decode.first_key);
    }
    const int64_t end = smaller(args.decode.last_key, (from->chunk + 1) * args.decode.chunk_keys);
    const int64_t rows = smaller(kDecodeTile<X>, end - k0);
    keys = Fetch<X>(matrix_of(args.key, from->batch, from->kv_head), k0, rows, args.shape.head_dim);
    values =
        Fetch<X>(matrix_of(args.value, from->batch, from->kv_head), k0, rows, args.shape.value_dim);
  }
};

// One chunk of keys for the rows of an item. False: see flash_forward_tile.
template <class X, bool kCareful>
bool decode_chunk(const tilewise::ForwardLaunch& args, const tilewise::DecodeItem& item,
                  const DecodeRows& rows, DecodeScratch<X>& scratch) {
  using Real = typename X::Real;
  const auto& shape = args.shape;
  QueryBlock<X>& q = scratch.q;
  const int64_t width = decode_width<X>(shape.value_dim);
  const ScoreScales<Real> scales = score_scales<X>(args);
  const int64_t depth = words<X>(shape.head_dim);
  const bool has_bias = args.bias.data != nullptr, is_few = rows.lanes <= kFewRows;
  bool mixed = has_bias || args.score;
  load_queries(args, rows, scales.query, scratch);
  reset(q, width, kPrescaled<X> || has_bias ? Real(1) : scales.to_log2);
  int64_t heads[kWidth<X>], queries[kWidth<X>];  // of the lanes, as expressions see them
  for (int lane = 0; lane < kWidth<X>; ++lane) {
    const int of = lane < rows.lanes ? lane : 0;
    heads[lane] = args.origin.head + rows.head(of);
    queries[lane] = args.origin.query + rows.query(of);
  }
  const Matrix key = matrix_of(args.key, item.batch, item.kv_head);
  const Matrix value = matrix_of(args.value, item.batch, item.kv_head);

  const int64_t end = smaller(args.decode.last_key, (item.chunk + 1) * args.decode.chunk_keys);
  int64_t k0 = item.chunk * args.decode.chunk_keys;
  // Units and groups count from key 0 (visible-inl.h).
  if (k0 < args.decode.first_key) k0 = args.decode.first_key / kGroup<X> * kGroup<X>;
  for (; k0 < end; k0 += kDecodeTile<X>) {
    const int64_t keys = smaller(kDecodeTile<X>, end - k0);
    find_visible_rows(*scratch.visible, args, rows, k0, static_cast<int>(keys), scratch.evaluator);
    if (scratch.visible->count == 0) continue;
    mixed = mixed || scratch.visible->partial();
    if (has_bias) load_decode_bias(args, rows, k0, keys, scratch);
    const TilePlace place = {
        args.origin.batch + rows.batch, {0, heads}, {0, queries}, {args.origin.key + k0, nullptr}};
    if (args.score)
      scratch.evaluator.begin(*args.score, place, static_cast<int>(keys),
                              (rows.lanes + X::kLanes - 1) / X::kLanes);
    const uint64_t* dropped = find_dropped_rows(args, rows, k0, *scratch.visible, *scratch.dropped);
    const TileScores<X> tile{.p = scratch.p,
                             .s = kTiled<X> || is_few ? scratch.s : nullptr,
                             .score = args.score ? &scratch.evaluator : nullptr,
                             .unit = scratch.unit,
                             .unscaled = scales.unscaled,
                             .bias = has_bias ? scratch.bias : nullptr,
                             .bits = scratch.visible->bits,
                             .to_log2 = scales.to_log2,
                             .key = k0,
                             .depth = depth,
                             .careful = kCareful,
                             .vectors = (rows.lanes + X::kLanes - 1) / X::kLanes,
                             .dropped = dropped};
    const int64_t padded = round_up(keys, kTiled<X> ? kGroup<X> : 2 * X::kLanes);
    NextKeys<X> next(args, item, k0 + keys < end ? k0 + keys : -1);
    if constexpr (kTiled<X> && kCareful) {
      const auto kv = load_keys<X, kCareful>(key, value, shape, k0, keys, scratch);
      absorb_tile(
          q, tile, kv.k, *scratch.visible, [] {},
          [&](RowRange range) {
            add_product<X, kCareful>(q, kv, width, scratch.p, dropped, *scratch.visible, range);
          });
    } else if constexpr (kTiled<X>) {
      const Rows k = word_rows<X>(key, k0, keys, padded, shape.head_dim, scratch.keys);
      const Rows v = contracted_rows<X>(value, k0, keys, padded, shape.value_dim, width,
                                        scratch.values, &next.values);
      const int lines = next.keys.each(kDecodeTile<X> / kUnit);
      absorb_tile(
          q, tile, k, *scratch.visible, [&] { next.keys.lines(lines); },
          [&](RowRange range) {
            multiply_add_values_by_tiles(scratch, v, rows.lanes, width, dropped, range);
          });
    } else {
      const Rows k = word_rows<X>(key, k0, keys, padded, shape.head_dim, scratch.keys);
      if (is_few)
        multiply_few_rows<X>(k, next.keys, padded, rows.lanes, scratch.query, depth, scratch.s);
      const Rows v = contracted_rows<X>(value, k0, keys, round_up(keys, kUnit), shape.value_dim,
                                        width, scratch.values);
      const int lines = next.values.each(3 * kDecodeTile<X> / kUnit);  // the rest beside P V
      absorb_tile(
          q, tile, k, *scratch.visible, [&] { next.values.lines(lines); },
          [&](RowRange range) {
            multiply_add_values<X, kCareful>(scratch, v, rows.lanes, width, range, next.values);
          });
    }
  }
  if (kCareful || !mixed) return true;
  for (int lane = 0; lane < rows.lanes; ++lane)
    if (any_not_finite<X>(q.o + lane * width, shape.value_dim)) return false;
  return true;
}

// What chunks leave for those that follow them: O, m, l and l_words of each row.
template <class Real>
struct DecodeSums {
  Real* row;  // (value_dim + 3)
  int64_t value_dim;
  Real& m() const { return row[value_dim]; }
  Real& l() const { return row[value_dim + 1]; }
  Real& l_words() const { return row[value_dim + 2]; }
};

// The paper's lines 11 to 13 for two partial results: both are brought to the larger m.
template <class Real>
void merge(const DecodeSums<Real>& sums, const DecodeSums<Real>& chunk) {
  if (chunk.l() == 0) return;
  if (sums.l() == 0) {
    std::memcpy(sums.row, chunk.row, (sums.value_dim + 3) * sizeof(Real));
    return;
  }
  const Real m = sums.m() < chunk.m() ? chunk.m() : sums.m();
  const Real a = sums.m() == m ? Real(1) : power_of_two<Real>(sums.m() - m);
  const Real b = chunk.m() == m ? Real(1) : power_of_two<Real>(chunk.m() - m);
  for (int64_t d = 0; d < sums.value_dim; ++d) sums.row[d] = a * sums.row[d] + b * chunk.row[d];
  sums.m() = m;
  sums.l() = a * sums.l() + b * chunk.l();
  sums.l_words() = a * sums.l_words() + b * chunk.l_words();
}

// Line 12, and LSE, as store_output has them.
template <class X>
void store_row_output(const tilewise::ForwardLaunch& args, const DecodeRows& rows, int lane,
                      const DecodeSums<typename X::Real>& sums) {
  using Real = typename X::Real;
  const int64_t r = rows.query(lane), head = rows.head(lane);
  const Sink<Real> sink(args.sink, head);
  RowSums<Real> row = {sums.m(), sums.l(), sums.l_words()};
  scale_row(sums.row, sums.value_dim, add_sink(sink, row) * static_cast<Real>(keep_scale(args)));
  store_row<X>(matrix_of(args.output, rows.batch, head), r, 0, sums.value_dim, sums.row);
  if (args.logsumexp.data)
    store_logsumexp(matrix_of(args.logsumexp, rows.batch, head).at(r, 0), row, sink);
}

template <class X>
void flash_decode(const tilewise::ForwardLaunch& args, const tilewise::DecodeItem& item,
                  void* memory) {
  using Real = typename X::Real;
  const auto& shape = args.shape;
  DecodeScratch<X> scratch(shape, args.program_sizes, memory);
  const DecodeRows rows = decode_rows<X>(args, item);
  if constexpr (kTiled<X>) X::begin_tiles();
  const bool is_careful = !decode_chunk<X, false>(args, item, rows, scratch);
  if (is_careful) decode_chunk<X, true>(args, item, rows, scratch);
  const bool is_transposed = kTiled<X> && is_careful;  // O^T, as the forward's products have it
  if constexpr (kTiled<X>) {
    X::end_tiles();
    settle<X>(scratch.q.o, decode_width<X>(shape.value_dim) * kWidth<X>);
  }

  const bool is_first = item.chunk == args.decode.first_chunk;
  const bool is_last = item.chunk == args.decode.last_chunk - 1;
  const int64_t stride = shape.value_dim + 3;
  const int64_t group_rows = shape.query_heads / shape.kv_heads * shape.query_length;
  const int64_t head = item.batch * shape.kv_heads + item.kv_head;
  Real* const sums =
      static_cast<Real*>(args.decode.sums) + (head * group_rows + rows.first) * stride;
  int32_t* const turn = args.decode.turn + head * args.decode.row_tiles + item.row_tile;
  const auto number = static_cast<int32_t>(item.chunk - args.decode.first_chunk);
  if (!is_first) wait_for_turn(turn, number);
  for (int lane = 0; lane < rows.lanes; ++lane) {
    for (int64_t d = 0; d < shape.value_dim; ++d)
      scratch.row[d] = scratch.q.o[is_transposed ? d * kWidth<X> + lane
                                                 : lane * decode_width<X>(shape.value_dim) + d];
    const DecodeSums<Real> chunk{scratch.row, shape.value_dim};
    chunk.m() = scratch.q.m[lane];
    chunk.l() = scratch.q.l[lane];
    chunk.l_words() = scratch.q.l_words[lane];
    const DecodeSums<Real> all{sums + lane * stride, shape.value_dim};
    if (is_first)
      std::memcpy(all.row, chunk.row, stride * sizeof(Real));
    else
      merge(all, chunk);
    if (is_last) store_row_output<X>(args, rows, lane, all);
  }
  if (!is_last) pass_turn(turn, number + 1);
}

template <class X>
int64_t decode_scratch_bytes(const tilewise::AttentionShape& shape, const ProgramSizes& programs) {
  return DecodeScratch<X>(shape, programs, nullptr).bytes;
}

}  // namespace
