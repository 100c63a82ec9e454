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

#include "kernels/cpu/generic/backward_tiles-inl.h"

namespace {

template <class X>
typename X::Real scale_log2(const tilewise::BackwardLaunch& args) {
  using Real = typename X::Real;
  return static_cast<Real>(scale_of<X>(args.scale, args.scale_f64) * static_cast<Real>(kLog2E));
}

// One item's tile of keys.
struct BackwardKeys {
  int64_t k0;
  int64_t keys;
  int64_t panels;
  Rows k;  // (keys / kWord, k_width)
};

// Line 7: load K_j and V_j; line 8: dK_j = dV_j = 0.
template <class X>
BackwardKeys load_key_panels(const tilewise::BackwardLaunch& args,
                             const tilewise::BackwardItem& item, BackwardScratch<X>& scratch) {
  using Real = typename X::Real;
  const auto& shape = args.shape;
  BackwardKeys tile;
  tile.k0 = item.key_tile * args.geometry.backward_key_tile;
  tile.keys = smaller(args.geometry.backward_key_tile, shape.kv_length - tile.k0);
  tile.panels = (tile.keys + kWidth<X> - 1) / kWidth<X>;
  const Matrix k = matrix_of(args.key, item.batch, item.kv_head),
               v = matrix_of(args.value, item.batch, item.kv_head);
  for (int64_t p = 0; p < tile.panels; ++p) {
    const int64_t first = tile.k0 + p * kWidth<X>,
                  lanes = smaller(kWidth<X>, tile.keys - p * kWidth<X>);
    transpose_words<X>(k, first, lanes, shape.head_dim, 1,
                       scratch.kt + p * words<X>(shape.head_dim) * kWidth<X>);
    transpose_words<X>(v, first, lanes, shape.value_dim, 1,
                       scratch.vt + p * words<X>(shape.value_dim) * kWidth<X>);
  }
  tile.k = contracted_rows<X>(k, tile.k0, tile.keys, round_up(tile.keys, X::kWord), shape.head_dim,
                              scratch.k_width, scratch.k_words);
  std::memset(scratch.dkt, 0, tile.panels * scratch.q_width * kWidth<X> * sizeof(Real));
  std::memset(scratch.dvt, 0, tile.panels * scratch.g_width * kWidth<X> * sizeof(Real));
  return tile;
}

// One tile of queries of one head.
struct BackwardQueries {
  int64_t q0;
  int64_t rows;
  Rows q, g;              // (rows, words(dim)): Q_i, dO_i
  Rows q_words, g_words;  // (rows / kWord, width)
};

// Line 10: load Q_i, dO_i, LSE_i, D_i.
template <class X>
BackwardQueries load_queries(const tilewise::BackwardLaunch& args, int64_t batch, int64_t head,
                             int64_t query_tile, BackwardScratch<X>& scratch) {
  using Real = typename X::Real;
  const auto& shape = args.shape;
  BackwardQueries tile;
  tile.q0 = query_tile * args.geometry.backward_query_tile;
  tile.rows = smaller(args.geometry.backward_query_tile, shape.query_length - tile.q0);
  const int64_t padded = round_up(tile.rows, kUnit);
  const Matrix q = matrix_of(args.query, batch, head), g = matrix_of(args.grad_output, batch, head);
  if constexpr (X::kWord == 1)
    tile.q = scaled_rows<X>(q, tile.q0, tile.rows, padded, shape.head_dim, scale_log2<X>(args),
                            scratch.q_rows);
  else
    tile.q = word_rows<X>(q, tile.q0, tile.rows, padded, shape.head_dim, scratch.q_rows);
  tile.g = word_rows<X>(g, tile.q0, tile.rows, padded, shape.value_dim, scratch.g_rows);
  tile.q_words = contracted_rows<X>(q, tile.q0, tile.rows, padded, shape.head_dim, scratch.q_width,
                                    scratch.q_words);
  tile.g_words = contracted_rows<X>(g, tile.q0, tile.rows, padded, shape.value_dim, scratch.g_width,
                                    scratch.g_words);
  const int64_t at = (batch * shape.query_heads + head) * shape.query_length + tile.q0;
  const Real *lse = static_cast<const Real*>(args.lse) + at,
             *delta = static_cast<const Real*>(args.delta) + at;
  for (int64_t r = 0; r < padded; ++r) {
    split_lse(r < tile.rows ? lse[r] : static_cast<Real>(-__builtin_inff()), scratch.minus_lse[r],
              scratch.minus_lse_low[r]);
    scratch.minus_delta[r] = r < tile.rows ? -delta[r] : Real(0);
  }
  return tile;
}

// What will be read next: during panel 0, Q and dO of the next tile of queries; then dQ of this
// one; then K and V of the next tile of keys.
template <class X>
void rows_ahead(const tilewise::BackwardLaunch& args, const tilewise::BackwardItem& item,
                const BackwardQueries& tile, int64_t head, int64_t panel,
                const GradQuery<typename X::Real>& sums, Rows (&ahead)[2]) {
  using Real = typename X::Real;
  const auto rows_of = [](const Matrix& m, int64_t first) { return Rows{m.at(first, 0), m.row}; };
  const int64_t next_queries = tile.q0 + args.geometry.backward_query_tile,
                next_keys = (item.key_tile + 1) * args.geometry.backward_key_tile;
  if (panel == 0) {
    ahead[0] = rows_of(matrix_of(args.query, item.batch, head), next_queries);
    ahead[1] = rows_of(matrix_of(args.grad_output, item.batch, head), next_queries);
  } else if (panel == 1) {  // in bf16 its rows are twice as long
    const char* data = reinterpret_cast<const char*>(sums.data + tile.q0 * sums.stride);
    const int64_t stride = sums.stride * static_cast<int64_t>(sizeof(Real));
    ahead[0] = {data, stride};
    ahead[1] = {data + (X::kWord - 1) * words<X>(args.shape.head_dim) * sizeof(Real), stride};
  } else {
    ahead[0] = rows_of(matrix_of(args.key, item.batch, item.kv_head), next_keys);
    ahead[1] = rows_of(matrix_of(args.value, item.batch, item.kv_head), next_keys);
  }
}

// Line 24: write dK_j and dV_j. False: they are not finite.
template <class X>
bool store_key_gradients(const tilewise::BackwardLaunch& args, const tilewise::BackwardItem& item,
                         const BackwardKeys& tile, const BackwardScratch<X>& scratch) {
  using Real = typename X::Real;
  const auto& shape = args.shape;
  Real scale[kWidth<X>], one[kWidth<X>];
  for (int lane = 0; lane < kWidth<X>; ++lane)
    scale[lane] = scale_of<X>(args.scale, args.scale_f64), one[lane] = 1;
  const Matrix dk = matrix_of(args.grad_key, item.batch, item.kv_head),
               dv = matrix_of(args.grad_value, item.batch, item.kv_head);
  for (int64_t p = 0; p < tile.panels; ++p) {
    const int64_t first = tile.k0 + p * kWidth<X>,
                  lanes = smaller(kWidth<X>, tile.keys - p * kWidth<X>);
    transpose_out<X>(scratch.dkt + p * scratch.q_width * kWidth<X>, scale, shape.head_dim, dk,
                     first, lanes);
    transpose_out<X>(scratch.dvt + p * scratch.g_width * kWidth<X>, one, shape.value_dim, dv, first,
                     lanes);
  }
  return !any_not_finite<X>(scratch.dkt, tile.panels * scratch.q_width * kWidth<X>) &&
         !any_not_finite<X>(scratch.dvt, tile.panels * scratch.g_width * kWidth<X>);
}

// dQ_i is complete: convert it where it was summed elsewhere. False: it is not finite although
// `check`ed.
template <class X>
bool finish_grad_query(const tilewise::BackwardLaunch& args,
                       const GradQuery<typename X::Real>& sums, int64_t batch, int64_t head,
                       const BackwardQueries& tile, bool check) {
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

// A masked pair has P = dS = 0, and 0 * NaN carries a NaN of Q, K or dO to rows and keys that do
// not see it. As in the forward the results tell; the head is then computed again, kCareful.
template <class X, bool kCareful>
void flash_backward_tile(const tilewise::BackwardLaunch& args, const tilewise::BackwardItem& item,
                         BackwardScratch<X>& scratch) {
  using Real = typename X::Real;
  const auto& shape = args.shape;
  const int64_t group = shape.query_heads / shape.kv_heads;
  const int64_t kv_head = item.batch * shape.kv_heads + item.kv_head;
  const Real scale = scale_of<X>(args.scale, args.scale_f64);
  const bool has_bias = args.bias.data != nullptr, has_grad_bias = args.grad_bias.data != nullptr;
  const bool shares_grad_bias = has_grad_bias && (args.grad_bias.shape[0] < shape.batch ||
                                                  args.grad_bias.shape[1] < shape.query_heads);
  const BackwardKeys keys = load_key_panels<X>(args, item, scratch);
  const auto* begin = args.by_key.begin + item.key_tile;
  bool is_mixed = has_bias, is_finite = true;

  if (shares_grad_bias)
    wait_for_turn(args.bias_turn + item.key_tile, static_cast<int32_t>(kv_head));
  for (int64_t head = item.kv_head * group; head < (item.kv_head + 1) * group; ++head) {
    const auto sums = grad_query_sums<X>(args, item.batch, head, item.slot);
    for (int64_t run = begin[0]; run < begin[1]; ++run)
      for (int64_t i = args.by_key.runs[run].first; i < args.by_key.runs[run].last;
           ++i) {  // line 9
        const BackwardQueries queries = load_queries<X>(args, item.batch, head, i, scratch);
        const Visit visit = visit_of(args.by_query, i, item.key_tile);
        is_mixed = is_mixed || args.by_key.runs[run].kind == tilewise::TileKind::kPartial;
        for (int64_t p = 0; p < keys.panels; ++p) {
          const int64_t first = keys.k0 + p * kWidth<X>,
                        lanes = smaller(kWidth<X>, keys.keys - p * kWidth<X>);
          VisibleTile<X>& visible = *scratch.visible;
          find_visible_keys<X>(visible, args.band, first - queries.q0,
                               static_cast<int>(queries.rows), lanes);
          UnitRange* ranges = scratch.ranges + p * kUnits;
          std::memset(ranges, 0, kUnits * sizeof(*ranges));
          for (int n = 0; n < visible.count; ++n)
            for (int row = visible.segments[n].begin; row < visible.segments[n].end; row += kUnit)
              ranges[row / kUnit] = {static_cast<uint8_t>(visible.segments[n].j0),
                                     static_cast<uint8_t>(visible.segments[n].j1)};
          if (visible.count == 0) continue;
          if (has_bias)
            load_bias_rows<X>(matrix_of(args.bias, item.batch, head), queries.q0, queries.rows,
                              first, lanes, scratch.bias);
          Real* ds_keys = scratch.ds_keys + p * scratch.panel_size;
          Real* ds = X::kWord == 1 ? ds_keys : scratch.ds;
          Rows ahead[2];
          rows_ahead<X>(args, item, queries, head, p, sums, ahead);
          const PanelScores<X> panel{queries.q,
                                     queries.g,
                                     scratch.kt + p * words<X>(shape.head_dim) * kWidth<X>,
                                     scratch.vt + p * words<X>(shape.value_dim) * kWidth<X>,
                                     words<X>(shape.head_dim),
                                     words<X>(shape.value_dim),
                                     scratch.minus_lse,
                                     scratch.minus_lse_low,
                                     scratch.minus_delta,
                                     has_bias ? scratch.bias : nullptr,
                                     visible.bits,
                                     scale_log2<X>(args),
                                     scratch.p,
                                     ds,
                                     ds_keys,
                                     has_grad_bias ? scratch.ds_real : nullptr,
                                     kCareful,
                                     {ahead[0], ahead[1]}};
          recompute_scores<X>(panel, visible);  // lines 11 to 13: P; 17, 20: dS = P * (dP - D)
          // Line 16; forward, line 12: O += P V.
          multiply_add_ab<X, kCareful>(queries.g_words, scratch.g_width, scratch.p, visible,
                                       scratch.dvt + p * scratch.g_width * kWidth<X>);
          // Line 22; forward, line 9: S = scale Q K^T.
          multiply_add_ab<X, kCareful>(queries.q_words, scratch.q_width, ds, visible,
                                       scratch.dkt + p * scratch.q_width * kWidth<X>);
          if (has_grad_bias)  // forward: S += bias
            add_grad_bias<X>(matrix_of(args.grad_bias, item.batch, head), queries.q0, queries.rows,
                             first, lanes, visible, scratch.ds_real);
        }
        int32_t* turn = args.turn + (item.slot * group + head % group) * args.by_query.rows + i;
        wait_for_turn(turn, visit.before);
        const GradQueryProduct<X> product{scratch.ds_keys,   scratch.panel_size,
                                          scratch.ranges,    keys.panels,
                                          keys.keys,         keys.k,
                                          visit.before == 0, visit.is_last ? scale : Real(1)};
        add_grad_query<X, kCareful>(product, sums, queries.q0, queries.rows,
                                    shape.head_dim);  // line 21; forward, line 9
        if (visit.is_last)
          is_finite &= finish_grad_query<X>(args, sums, item.batch, head, queries,
                                            visit.is_mixed || has_bias);
        pass_turn(turn, visit.before);
      }
  }
  if (shares_grad_bias) pass_turn(args.bias_turn + item.key_tile, static_cast<int32_t>(kv_head));
  is_finite &= store_key_gradients<X>(args, item, keys, scratch) || !is_mixed;
  if (!is_finite) __atomic_store_n(args.careful + kv_head, 1, __ATOMIC_RELAXED);
}

template <class X>
void flash_backward(const tilewise::BackwardLaunch& args, const tilewise::BackwardItem& item,
                    void* memory) {
  BackwardScratch<X> scratch(args.shape, args.geometry, memory);
  if (item.careful)
    flash_backward_tile<X, true>(args, item, scratch);
  else
    flash_backward_tile<X, false>(args, item, scratch);
}

template <class X>
int64_t backward_scratch_bytes(const tilewise::AttentionShape& shape,
                               const tilewise::Geometry& geometry) {
  return BackwardScratch<X>(shape, geometry, nullptr).bytes;
}

// D = rowsum(dO * O) of `lanes` rows, each summed as score_rows sums dP.
template <class X>
void dot_rows(const Matrix& o, const Matrix& g, int64_t first, int64_t lanes, int64_t value_dim,
              typename X::Real* to) {
  using Vec = typename X::Vec;
  using Real = typename X::Real;
  constexpr int64_t kChunk = 64;
  Real ot[kChunk / X::kWord * kWidth<X>], gt[kChunk / X::kWord * kWidth<X>];
  Vec sum[X::kVectors] = {};
  for (int64_t c = 0; c < value_dim; c += kChunk) {
    const int64_t n = smaller(kChunk, value_dim - c);
    Matrix o_part = o, g_part = g;
    o_part.data = o.at(0, c);
    g_part.data = g.at(0, c);
    transpose_words<X>(o_part, first, lanes, n, 1, ot);
    transpose_words<X>(g_part, first, lanes, n, 1, gt);
    for (int64_t d = 0; d < words<X>(n); ++d)
      for (int j = 0; j < X::kVectors; ++j) {
        const int64_t at = d * kWidth<X> + j * X::kLanes;
        sum[j] = X::dot(sum[j], X::load(gt + at), X::load(ot + at));
      }
  }
  for (int j = 0; j < X::kVectors; ++j) X::store(to + j * X::kLanes, sum[j]);
}

// Line 19, once per row: D = rowsum(dO * O) - dLSE; and LSE. An LSE
// that is NaN, +inf or beyond 2^21 is for the careful path, whose exponentials have no restricted
// range.
template <class X>
void backward_prepare(const tilewise::BackwardLaunch& args, const tilewise::PrepareItem& item) {
  using Real = typename X::Real;
  const auto& shape = args.shape;
  const Matrix o = matrix_of(args.output, item.batch, item.head),
               g = matrix_of(args.grad_output, item.batch, item.head),
               dq = matrix_of(args.grad_query, item.batch, item.head);
  const int64_t at = (item.batch * shape.query_heads + item.head) * shape.query_length;
  Real *all_lse = static_cast<Real*>(args.lse) + at, *delta = static_cast<Real*>(args.delta) + at;
  const auto number = [&](const Tensor& tensor, int64_t r) {
    return tilewise::load_element(matrix_of(tensor, item.batch, item.head).at(r, 0), tensor.dtype,
                                  0);
  };
  bool careful = false;
  for (int64_t first = item.row_begin; first < item.row_end; first += kWidth<X>) {
    const int64_t lanes = smaller(kWidth<X>, item.row_end - first);
    Real sums[kWidth<X>];
    dot_rows<X>(o, g, first, lanes, shape.value_dim, sums);
    for (int64_t r = first; r < first + lanes; ++r) {
      delta[r] = sums[r - first];
      if (args.grad_logsumexp.data) delta[r] -= static_cast<Real>(number(args.grad_logsumexp, r));
      const double lse = number(args.logsumexp, r);
      all_lse[r] = static_cast<Real>(lse);
      const double limit = Exp2<Real>::kLargestReference;
      careful |= lse != -__builtin_inf() && !(-limit <= lse && lse <= limit);
    }
  }
  if (careful)
    __atomic_store_n(args.careful + item.batch * shape.kv_heads +
                         item.head / (shape.query_heads / shape.kv_heads),
                     1, __ATOMIC_RELAXED);
  for (int64_t r = item.row_begin; r < item.row_end; ++r) {  // dQ of rows that see nothing
    const auto* begin = args.by_query.begin + r / args.geometry.backward_query_tile;
    if (begin[0] != begin[1]) continue;
    const Real zeros[X::kLanes] = {};
    for (int64_t c = 0; c < shape.head_dim; c += X::kLanes)
      store_row<X>(dq, r, c, smaller(X::kLanes, shape.head_dim - c), zeros);
  }
}

}  // namespace
