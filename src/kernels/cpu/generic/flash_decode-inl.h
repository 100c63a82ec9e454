// SPDX-License-Identifier: Apache-2.0
// Few queries: reading K and V is all that costs. Three things differ from flash_forward-inl.h:
//
// - Rows are the queries of all query heads that share a key head, so K and V are read once for
//   all of them: row r is query r % query_length of head r / query_length of the group.
// - K and V are read row by row as they lie in memory. Lanes are keys in Q K^T (up to kFewRows
//   rows) and dims in P V, so that few rows fill them; O has rows of dims. Where products are of
//   tiles, K is the left operand, and so is P but for few rows, whose P V is none of tiles.
// - Keys come in chunks, so that many cores can share one head. Chunks start at multiples of
//   chunk_keys and are merged in their order, always: bits do not depend on who computes them.
//
// S, m and P are those of the forward, bit by bit, and so is every sum within a chunk: a single
// chunk gives the forward's result. Between chunks m differs, which is exact (m is an integer).
#pragma once

#include "kernels/cpu/generic/decode_products-inl.h"
#include "kernels/cpu/generic/turns-inl.h"

namespace {

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
      const Rows v = is_few ? word_rows<X>(value, k0, keys, padded, shape.value_dim, scratch.values)
                            : contracted_rows<X>(value, k0, keys, padded, shape.value_dim, width,
                                                 scratch.values, &next.values);
      const int lines = next.keys.each(kDecodeTile<X> / kUnit);
      absorb_tile(
          q, tile, k, *scratch.visible, [&] { next.keys.lines(lines); },
          [&](RowRange range) {
            prepare_rows(scratch, rows.lanes, width, dropped, range);
            if (is_few)
              multiply_add_values_of_few(scratch, v, rows.lanes, width, range, next.values);
            else
              multiply_add_values_by_tiles(scratch, v, rows.lanes, width, range);
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
    if (any_not_finite<X>(q.o + lane * width, width)) return false;  // 0 beyond the dims
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
  const int64_t width = decode_width<X>(shape.value_dim);
  const auto element = [&](int lane, int64_t d) {
    if (kTiled<X> && is_careful) return d * kWidth<X> + lane;  // as the forward has it
    return lane * width +
           (kTiled<X> && rows.lanes <= kFewRows ? column_of_few_rows(d, X::kLanes) : d);
  };
  if constexpr (kTiled<X>) {
    X::end_tiles();
    settle<X>(scratch.q.o, width * kWidth<X>);
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
    for (int64_t d = 0; d < shape.value_dim; ++d) scratch.row[d] = scratch.q.o[element(lane, d)];
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
