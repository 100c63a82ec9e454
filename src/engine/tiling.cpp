// SPDX-License-Identifier: Apache-2.0
#include "engine/tiling.h"

#include <algorithm>
#include <numeric>

namespace tilewise {

int64_t shortest_block_tile(int64_t tile) {
  return std::clamp(ceil_divide(tile, 2), std::min(tile, kLeastTile), kMinBlockTile);
}

namespace {

// Measured on a core with 2 MiB of L2: shorter tiles lose more to their fixed costs than a smaller
// cache can.
constexpr int64_t kMinKeys = 64;
constexpr int64_t kMinBackwardQueries = 32;

// A tile no longer than `tile` that does not cross blocks, a multiple of `step`; `tile` if there is
// none that is worth it.
int64_t follow(int64_t block, int64_t tile, int64_t step) {
  if (block <= 0) return tile;
  if (block <= tile) {
    const int64_t size = ceil_divide(kMinBlockTile, block) * block;
    return size <= tile && size % step == 0 ? size : tile;
  }
  constexpr int64_t kMostParts = 64;  // a longer block is rarely crossed, and the search ends
  const int64_t least = shortest_block_tile(tile);
  if (block / tile >= kMostParts) return tile;
  for (int64_t parts = ceil_divide(block, tile); block / parts >= least; ++parts) {
    if (block % (parts * step) == 0) return block / parts;
  }
  return tile;
}

// In whole units, at least one.
int64_t fit(int64_t size, int64_t unit, int64_t max) {
  return std::clamp(size / unit * unit, unit, max);
}

}  // namespace

Geometry model_geometry(const Kernel& kernel, int64_t head_dim, int64_t value_dim,
                        const Machine& machine) {
  const TileBytes bytes = kernel.tile_bytes(head_dim, value_dim);
  const Geometry &unit = kernel.limits.unit, &max = kernel.limits.max;
  const int64_t share = machine.l2_bytes() / kL2Share;
  // Rounded up: 512 queries, say, are one tile of 11 units of 48, and K and V are read once.
  const int64_t queries = round_up(std::min(share / bytes.query, kMaxQueries), unit.query_tile);
  const int64_t keys = std::max(share / bytes.key, kMinKeys);
  const int64_t backward_queries = std::max(
      std::min(machine.l1_bytes() / 2 / bytes.backward_scores, share / bytes.backward_query),
      kMinBackwardQueries);
  const int64_t backward_keys = std::min(machine.l2_bytes() / 2 / bytes.backward_key, kMaxKeys);
  return {fit(queries, unit.query_tile, max.query_tile), fit(keys, unit.key_tile, max.key_tile),
          fit(backward_queries, unit.backward_query_tile, max.backward_query_tile),
          fit(backward_keys, unit.backward_key_tile, max.backward_key_tile)};
}

Geometry choose_geometry(const Geometry& tiles, const Kernel& kernel, const AttentionShape& shape,
                         int workers) {
  Geometry geometry = tiles;
  const int64_t length = std::max<int64_t>(shape.query_length, 1);
  const int64_t heads = shape.batch * shape.query_heads;
  int64_t count = ceil_divide(length, tiles.query_tile);
  if (workers > 1 && heads > 0) {
    count = std::max(count, ceil_divide(kItemsPerWorker * workers, heads));
  }
  geometry.query_tile = round_up(ceil_divide(length, count), kernel.limits.unit.query_tile);
  return geometry;
}

Geometry longest_geometry(const Geometry& tiles, const Kernel& kernel, int64_t query_length) {
  Geometry geometry = tiles;
  geometry.query_tile = std::min(tiles.query_tile, round_up(std::max<int64_t>(query_length, 1),
                                                            kernel.limits.unit.query_tile));
  return geometry;
}

Geometry follow_blocks(const Geometry& tiles, const Kernel& kernel,
                       const expr::BlockSizes& blocks) {
  // Rows come in whole groups. So do the keys of the backward, whose lanes dQ adds up.
  const int64_t group = kernel.limits.unit.backward_query_tile;
  return {follow(blocks.queries, tiles.query_tile, 1), follow(blocks.keys, tiles.key_tile, group),
          follow(blocks.queries, tiles.backward_query_tile, group),
          follow(blocks.keys, tiles.backward_key_tile, group)};
}

int choose_workers(int64_t flops, int64_t items, int threads) {
  const int64_t worth = std::min(flops / kFlopsPerWorker, items);
  return static_cast<int>(std::clamp<int64_t>(worth, 1, threads));
}

HeadBalance::HeadBalance(double work, int workers)
    : total_(work), loads_(static_cast<size_t>(workers)), may_share_(workers - 1) {}

bool HeadBalance::fits(double load, double work) const {
  return (load + work) * static_cast<double>(loads_.size()) <= total_;
}

BackwardShares HeadBalance::share(int64_t heads, int64_t key_tiles, double work) {
  const auto workers = static_cast<int64_t>(loads_.size());
  BackwardShares shares;
  shares.key_tiles = key_tiles;
  if (loads_.front() == *std::max_element(loads_.begin(), loads_.end())) {  // rounds of all workers
    while (shares.whole_heads + workers <= heads && fits(loads_.front(), work)) {
      for (double& load : loads_) load += work;
      shares.whole_heads += workers;
    }
  }
  const auto is_later = [](double a, double b) { return a > b; };
  for (; shares.whole_heads < heads && (may_share_ == 0 || fits(loads_.front(), work));
       ++shares.whole_heads) {
    std::pop_heap(loads_.begin(), loads_.end(), is_later);
    loads_.back() += work;
    std::push_heap(loads_.begin(), loads_.end(), is_later);
  }
  shares.shared_heads = std::min(heads - shares.whole_heads, may_share_);
  shares.whole_heads = heads - shares.shared_heads;
  may_share_ -= shares.shared_heads;
  if (shares.shared_heads > 0) {  // all workers are done with the shared heads at the same time
    const double sum = std::accumulate(loads_.begin(), loads_.end(), 0.0) +
                       work * static_cast<double>(shares.shared_heads);
    std::fill(loads_.begin(), loads_.end(), sum / static_cast<double>(workers));
  }
  return shares;
}

int64_t table_copies(int64_t elements, int64_t heads) {
  if (elements == 0) return 0;
  return std::min(std::clamp(kTableSums / elements, kMinTableCopies, kMaxTableCopies), heads);
}

int64_t max_table_sums(int64_t elements, int64_t heads) {
  const int64_t most =
      std::min(kMaxTableCopies * elements, std::max(kTableSums, kMinTableCopies * elements));
  return heads < kMaxTableCopies ? std::min(most, heads * elements) : most;
}

int64_t max_slots(int64_t heads, int workers) {
  return std::min<int64_t>(heads, 2 * int64_t{workers} - 1);
}

}  // namespace tilewise
