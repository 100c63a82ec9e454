// SPDX-License-Identifier: Apache-2.0
// [Dao22] Algorithm 4: key tiles outside, so that dK_j and dV_j never leave the core's cache. Lanes
// are keys: the kernel computes S and dP of a panel together in registers (backward_scores-inl.h),
// dV^T = dO^T P and dK^T = Q^T dS with keys along the lanes, and dQ = dS K with dims along them.
//
// Deviations from the paper: base 2; LSE replaces (m, l); D_i is computed beforehand
// (backward_prepare), with dLSE subtracted; scale is applied once, to finished dK and dQ, so that
// dBias = dS; the heads of a group share dK_j and dV_j. Several workers may walk one head: each
// waits for its turn before line 21. All sums are in index order, so no bit of a result depends on
// tiles or workers.
//
// IO, in elements, per item of B_c keys: reads and writes B_c (d + e); per visited tile of queries
// reads B_r (d + e) and updates B_r d of dQ (schedule/io_model.h counts the same).
#pragma once

#include "kernels/cpu/generic/backward_grad_query-inl.h"
#include "kernels/cpu/generic/backward_prepare-inl.h"
#include "kernels/cpu/generic/backward_tiles-inl.h"

namespace {

// What will be read next: during panel 0, Q and dO of the next tile of queries; then dQ of this
// one; then K and V of the next tile of keys.
template <class X>
void rows_ahead(const tilewise::BackwardLaunch& args, const tilewise::BackwardItem& item,
                const BackwardQueries<X>& tile, int64_t panel, Rows (&ahead)[2]) {
  using Real = typename X::Real;
  const auto rows_of = [](const Matrix& m, int64_t first) { return Rows{m.at(first, 0), m.row}; };
  const int64_t next_queries = tile.q0 + args.geometry.backward_query_tile,
                next_keys = (item.key_tile + 1) * args.geometry.backward_key_tile;
  if (panel == 0) {
    ahead[0] = rows_of(matrix_of(args.query, item.batch, tile.head), next_queries);
    ahead[1] = rows_of(matrix_of(args.grad_output, item.batch, tile.head), next_queries);
  } else if (panel == 1) {
    const auto sums = grad_query_sums<X>(args, item, tile.head);
    // in bf16 its rows are twice as long
    const char* data = reinterpret_cast<const char*>(sums.data + tile.q0 * sums.stride);
    const int64_t stride = sums.stride * static_cast<int64_t>(sizeof(Real));
    ahead[0] = {data, stride};
    ahead[1] = {data + (X::kWord - 1) * words<X>(args.shape.head_dim) * sizeof(Real), stride};
  } else {
    ahead[0] = rows_of(matrix_of(args.key, item.batch, item.kv_head), next_keys);
    ahead[1] = rows_of(matrix_of(args.value, item.batch, item.kv_head), next_keys);
  }
}

// Lines 11 to 20 and 22 for one panel of the keys: P and dS, and what they add to dV_j and dK_j.
template <class X, bool kCareful>
void accumulate_panel(const tilewise::BackwardLaunch& args, const tilewise::BackwardItem& item,
                      const BackwardKeys& keys, const BackwardQueries<X>& queries,
                      const tilewise::TileRun& run, int64_t p, TablePart<X>& tables,
                      BackwardScratch<X>& scratch) {
  using Real = typename X::Real;
  const int64_t d = words<X>(args.shape.head_dim), e = words<X>(args.shape.value_dim);
  const int64_t first = keys.k0 + p * kWidth<X>,
                lanes = smaller(kWidth<X>, keys.keys - p * kWidth<X>);
  const bool has_bias = args.bias.data != nullptr, has_grad_bias = args.grad_bias.data != nullptr;
  VisibleTile<X>& visible = *scratch.visible;
  // Lanes beyond the keys are masked too, since 2^(0 - LSE) of their zeros may overflow.
  const TilePosition at = {queries.q0,
                           first,
                           false,
                           static_cast<int>(queries.rows),
                           static_cast<int>(lanes),
                           static_cast<int>((lanes + X::kLanes - 1) / X::kLanes)};
  const TilePlace place = place_of(args, item.batch, queries.head, at);
  find_visible(visible, mask_of(args, item.batch, queries.head), run, at, place, scratch.evaluator);
  set_ranges<X>(visible, scratch.ranges + p * kUnits);
  if (visible.count == 0) return;
  if (has_bias)
    load_bias_rows<X>(matrix_of(args.bias, item.batch, queries.head), queries.q0, queries.rows,
                      first, lanes, scratch.bias);
  PanelScores<X> panel{};
  panel.q = queries.q;
  panel.g = queries.g;
  panel.kt = scratch.kt + p * d * kWidth<X>;
  panel.vt = scratch.vt + p * e * kWidth<X>;
  panel.q_depth = d;
  panel.g_depth = e;
  panel.minus_lse = scratch.minus_lse;
  panel.minus_lse_low = scratch.minus_lse_low;
  panel.minus_delta = scratch.minus_delta;
  panel.bias = has_bias ? scratch.bias : nullptr;
  panel.bits = visible.bits;
  if (args.score) {
    scratch.evaluator.begin(*args.score, place, at.rows, at.vectors);
    panel.score = &scratch.evaluator;
  }
  panel.unit = scratch.unit;
  panel.unscaled = panel_scales<X>(args).unscaled;
  panel.to_log2 = panel_scales<X>(args).to_log2;
  panel.s = scratch.s;
  panel.dp = scratch.dp;
  panel.p = scratch.p;
  panel.ds_keys = scratch.ds_keys + p * scratch.panel_size;
  panel.ds = X::kWord == 1 ? panel.ds_keys : scratch.ds;
  panel.tables = tables.tables ? &tables : nullptr;
  panel.index = p;
  panel.ds_real = has_grad_bias || panel.tables ? scratch.ds_real : nullptr;
  panel.has_sink = args.sink.data != nullptr;
  panel.careful = kCareful;
  if (args.dropout.threshold > 0)
    panel.dropped = find_dropped<X, false>(args.dropout, place, visible.segments, visible.count,
                                           *scratch.dropped);
  panel.keep_scale = static_cast<Real>(keep_scale(args));
  rows_ahead<X>(args, item, queries, p, panel.ahead);

  // Lines 11 to 13: P; 17, 20: dS = P * (dP - D).
  if (panel.dropped)
    recompute_scores<X, true>(panel, visible);
  else
    recompute_scores<X, false>(panel, visible);
  Real *dvt = scratch.dvt + p * scratch.g_width * kWidth<X>,
       *dkt = scratch.dkt + p * scratch.q_width * kWidth<X>;
  // line 16: dV += P^T dO; forward: O += (Z o P) V. Line 22: dK += dS^T Q; forward: S = scale Q K^T
  if constexpr (kTiled<X>) {
    visible.for_each_groups(0, kMaxRows, [&](Groups groups) {
      multiply_add_tiles<X>(queries.g_groups, scratch.g_width, panel.p, groups, dvt);
      multiply_add_tiles<X>(queries.q_groups, scratch.q_width, panel.ds, groups, dkt);
      if (kCareful) {
        add_not_finite<X>(scratch.g_words, scratch.g_width, panel.p, groups, dvt);
        add_not_finite<X>(scratch.q_words, scratch.q_width, panel.ds, groups, dkt);
      }
    });
  } else {
    multiply_add_ab<X, kCareful>(queries.g_words, scratch.g_width, panel.p, visible, {0, kMaxRows},
                                 nullptr, dvt);
    multiply_add_ab<X, kCareful>(queries.q_words, scratch.q_width, panel.ds, visible, {0, kMaxRows},
                                 nullptr, dkt);
  }
  if (has_grad_bias)  // forward: S += bias
    add_grad_bias<X>(matrix_of(args.grad_bias, item.batch, queries.head), queries.q0, queries.rows,
                     first, lanes, visible, panel.ds_real);
}

// A masked pair has P = dS = 0, and 0 * NaN carries a NaN of Q, K or dO to rows and keys that do
// not see it. As in the forward the results tell; the head is then computed again, kCareful.
template <class X, bool kCareful>
void flash_backward_tile(const tilewise::BackwardLaunch& args, const tilewise::BackwardItem& item,
                         BackwardScratch<X>& scratch) {
  const auto& shape = args.shape;
  const int64_t group = shape.query_heads / shape.kv_heads;
  const int64_t kv_head = item.batch * shape.kv_heads + item.kv_head;
  int32_t* bias_turn = args.bias_turn + item.key_tile;
  bool is_mixed = args.bias.data != nullptr || args.score, is_finite = true;

  const BackwardKeys keys = load_key_panels<X, kCareful>(args, item, scratch);  // lines 7 and 8
  TablePart<X> tables(args, item.worker);
  if (item.bias_turn >= 0) wait_for_turn(bias_turn, item.bias_turn);
  for (int64_t head = item.kv_head * group; head < (item.kv_head + 1) * group; ++head) {
    const tilewise::MaskClass& mask = mask_of(args, item.batch, head);
    const auto* begin = mask.by_key.begin + item.key_tile;
    for (int64_t run = begin[0]; run < begin[1]; ++run) {
      const tilewise::TileRun& tiles = mask.by_key.runs[run];
      is_mixed = is_mixed || tiles.kind == tilewise::TileKind::kPartial;
      for (int64_t i = tiles.first; i < tiles.last; ++i) {  // line 9
        int32_t* turn = item.turn + head % group * mask.by_query.rows + i;
        const Visit visit = visit_of(mask.by_query, i, item.key_tile);
        const tilewise::TileRange significant =
            significant_tiles(args, item.batch, head, mask.by_query.rows, i);
        // P = dS = 0. The first and the last visit have dQ to begin and to finish.
        if ((item.key_tile < significant.first || item.key_tile >= significant.last) &&
            visit.before > 0 && !visit.is_last) {
          wait_for_turn(turn, visit.before);
          pass_turn(turn, visit.before + 1);
          continue;
        }
        const auto queries =
            load_queries<X, kCareful>(args, item.batch, head, i, scratch);  // line 10
        for (int64_t p = 0; p < keys.panels; ++p)
          accumulate_panel<X, kCareful>(args, item, keys, queries, tiles, p, tables, scratch);
        const auto dq = grad_query_sums<X>(args, item, head);
        wait_for_turn(turn, visit.before);
        add_grad_query<X, kCareful>(args, keys, queries, visit, dq,
                                    scratch);  // line 21: dQ += dS K; forward: S = scale Q K^T
        if (visit.is_last)
          is_finite &= finish_grad_query<X>(args, dq, item.batch, head, queries,
                                            visit.is_mixed || args.bias.data || args.score);
        pass_turn(turn, visit.before + 1);
      }
    }
    settle_keys(tables);
  }
  add_table_part(args, item, tables);
  if (item.bias_turn >= 0) pass_turn(bias_turn, item.bias_turn + 1);
  is_finite &= store_key_gradients<X>(args, item, keys, scratch) || !is_mixed;  // line 24
  if (!is_finite) __atomic_store_n(args.careful + kv_head, 1, __ATOMIC_RELAXED);
}

template <class X>
void flash_backward(const tilewise::BackwardLaunch& args, const tilewise::BackwardItem& item,
                    void* memory) {
  BackwardScratch<X> scratch(args.shape, args.geometry, args.program_sizes, memory);
  if constexpr (kTiled<X>) X::begin_tiles();
  if (item.careful)
    flash_backward_tile<X, true>(args, item, scratch);
  else
    flash_backward_tile<X, false>(args, item, scratch);
  if constexpr (kTiled<X>) X::end_tiles();
}

template <class X>
int64_t backward_scratch_bytes(const tilewise::AttentionShape& shape,
                               const tilewise::Geometry& geometry, const ProgramSizes& programs) {
  return BackwardScratch<X>(shape, geometry, programs, nullptr).bytes;
}

}  // namespace
