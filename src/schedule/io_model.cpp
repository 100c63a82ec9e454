// SPDX-License-Identifier: Apache-2.0
#include "schedule/io_model.h"

#include <algorithm>
#include <limits>

namespace tilewise::io_model {
namespace {

// Wide enough for any product of sizes below; narrowed once, at the end.
using Wide = __int128;

int64_t narrow(Wide words) {
  constexpr Wide kMost = std::numeric_limits<int64_t>::max();
  return static_cast<int64_t>(std::min(words, kMost));
}

Words make_words(Wide read, Wide written) { return {narrow(read), narrow(written)}; }

// The same numbers under the paper's letters; heads counts (batch, query head) pairs.
struct Letters {
  explicit Letters(const Sizes& sizes)
      : heads(Wide{sizes.batch} * sizes.query_heads),
        kv_heads(Wide{sizes.batch} * sizes.kv_heads),
        N(sizes.query_length),
        M(sizes.kv_length),
        d(sizes.head_dim),
        e(sizes.value_dim) {}
  Wide heads, kv_heads, N, M, d, e;
};

}  // namespace

int64_t Words::total() const noexcept { return narrow(Wide{read} + written); }

Words operator+(const Words& a, const Words& b) noexcept {
  return make_words(Wide{a.read} + b.read, Wide{a.written} + b.written);
}

Words standard_forward(const Sizes& sizes, int64_t separate_passes) noexcept {
  const auto [heads, kv_heads, N, M, d, e] = Letters(sizes);
  // S = Q K^T; P = softmax(S); O = P V.
  const Wide read = (N * d + M * d) + N * M + (N * M + M * e) + separate_passes * N * M;
  const Wide written = N * M + N * M + N * e + separate_passes * N * M;
  return make_words(heads * read, heads * written);
}

Words standard_backward(const Sizes& sizes, int64_t separate_passes) noexcept {
  const auto [heads, kv_heads, N, M, d, e] = Letters(sizes);
  // dV = P^T dO; dP = dO V^T; dS = P (dP - Delta); dQ = dS K; dK = dS^T Q.
  const Wide read = (N * M + N * e) + (N * e + M * e) + 2 * N * M + (N * M + M * d) +
                    (N * M + N * d) + separate_passes * N * M;
  const Wide written = M * e + N * M + N * M + N * d + M * d + separate_passes * N * M;
  const Wide summed = (heads - kv_heads) * M * (d + e);  // dK and dV of the first head so far
  return make_words(heads * read + summed, heads * written);
}

Words tiled_forward(const Sizes& sizes, const TileCounts& by_query) noexcept {
  const auto [heads, kv_heads, N, M, d, e] = Letters(sizes);
  const Wide keys_read = by_query.column_elements();
  return make_words(heads * (N * d + keys_read * (d + e)), heads * (N * e + N));
}

Words decode_forward(const Sizes& sizes, int64_t keys, int64_t chunks, int64_t row_tiles) noexcept {
  const auto [heads, kv_heads, N, M, d, e] = Letters(sizes);
  const Wide merged = heads * N * (e + 3) * (chunks - 1);
  return make_words(heads * N * d * chunks + kv_heads * row_tiles * keys * (d + e) + merged,
                    heads * (N * e + N) + merged);
}

Words tiled_backward_prepare(const Sizes& sizes) noexcept {
  const auto [heads, kv_heads, N, M, d, e] = Letters(sizes);
  return make_words(heads * (2 * N * e + N), heads * 2 * N);
}

Words tiled_backward(const Sizes& sizes, const TileCounts& by_key) noexcept {
  const auto [heads, kv_heads, N, M, d, e] = Letters(sizes);
  const Wide queries_read = by_key.column_elements();
  return make_words(kv_heads * M * (d + e) + heads * queries_read * (d + e + 2 + d),
                    kv_heads * M * (d + e) + heads * queries_read * d);
}

Words algorithm1_forward(const Sizes& sizes, const TileCounts& by_key) noexcept {
  const auto [heads, kv_heads, N, M, d, e] = Letters(sizes);
  const Wide queries_read = by_key.column_elements();
  return make_words(heads * (M * (d + e) + queries_read * (d + e + 2)),
                    heads * (N * e + 2 * N + queries_read * (e + 2)));
}

Words algorithm4_backward(const Sizes& sizes, const TileCounts& by_key) noexcept {
  const auto [heads, kv_heads, N, M, d, e] = Letters(sizes);
  const Wide queries_read = by_key.column_elements();
  return make_words(heads * (M * (d + e) + queries_read * (d + 2 * e + d + 2)),
                    heads * (N * d + M * (d + e) + queries_read * d));
}

int64_t packed_forward(const Sizes& sizes, const TileCounts& by_query,
                       const PackedCopies& copies) noexcept {
  const auto [heads, kv_heads, N, M, d, e] = Letters(sizes);
  const Wide keys_read = by_query.column_elements();
  return narrow(heads * (copies.query * N * d + keys_read * (copies.key * d + copies.value * e)));
}

int64_t packed_backward(const Sizes& sizes, const TileCounts& by_key,
                        const PackedCopies& copies) noexcept {
  const auto [heads, kv_heads, N, M, d, e] = Letters(sizes);
  const Wide queries_read = by_key.column_elements();
  return narrow(kv_heads * M * (copies.key * d + copies.value * e) +
                heads * queries_read * (copies.query * d + copies.grad_output * e));
}

int64_t forward_flops(const Sizes& sizes, int64_t pairs) noexcept {
  const Letters s(sizes);
  return narrow(2 * (s.d + s.e) * pairs);
}

int64_t backward_flops(const Sizes& sizes, int64_t pairs) noexcept {
  const Letters s(sizes);
  return narrow(5 * (s.d + s.e) * pairs);
}

Blocks paper_blocks(int64_t memory_words, int64_t head_dim) noexcept {
  const int64_t keys = std::max<int64_t>(1, (memory_words + 4 * head_dim - 1) / (4 * head_dim));
  return {std::min(keys, head_dim), keys};
}

int64_t forward_lower_bound(const Sizes& sizes, int64_t memory_words) noexcept {
  const auto [heads, kv_heads, N, M, d, e] = Letters(sizes);
  const Wide compulsory = heads * N * (d + e) + kv_heads * M * (d + e);
  const Wide products = heads * N * M * d * d / memory_words - memory_words;
  return narrow(std::max(compulsory, products));
}

std::vector<BlockPoint> block_size_sweep(const Sizes& sizes, const Band& band, int64_t first,
                                         int64_t last) {
  const int64_t n = sizes.query_length;
  const int64_t m = sizes.kv_length;
  std::vector<BlockPoint> points;
  for (int64_t block = first; block <= last; block *= 2) {
    // The other side of the tile moves no words while every tile is visited; it is kept square, so
    // that masks are cut as finely as the block allows.
    const TileCounts by_query = count_tiles(tile_rows_by_query(band, n, m, block, block), n, m);
    const TileCounts by_key = count_tiles(tile_rows_by_key(band, n, m, block, block), m, n);
    points.push_back({block, tiled_forward(sizes, by_query),
                      tiled_backward_prepare(sizes) + tiled_backward(sizes, by_key),
                      algorithm1_forward(sizes, by_key), algorithm4_backward(sizes, by_key)});
  }
  return points;
}

}  // namespace tilewise::io_model
