// SPDX-License-Identifier: Apache-2.0
#include "engine/tiling.h"

#include <algorithm>

namespace tilewise {

Geometry choose_geometry(const Kernel& kernel, const AttentionShape& shape, int workers) {
  Geometry geometry = kernel.geometry(shape.head_dim, shape.value_dim);
  const int64_t unit = kernel.query_unit;
  int64_t tile = std::min(round_up(geometry.query_tile, unit),
                          round_up(std::max<int64_t>(shape.query_length, 1), unit));
  const int64_t heads = shape.batch * shape.query_heads;
  if (workers > 1 && heads > 0) {
    const int64_t tiles = ceil_divide(kItemsPerWorker * workers, heads);  // wanted per head
    tile = std::min(tile,
                    round_up(ceil_divide(std::max<int64_t>(shape.query_length, 1), tiles), unit));
  }
  geometry.query_tile = tile;
  return geometry;
}

int choose_workers(int64_t flops, int64_t items, int threads) {
  const int64_t worth = std::min(flops / kFlopsPerWorker, items);
  return static_cast<int>(std::clamp<int64_t>(worth, 1, threads));
}

BackwardShares share_backward(int64_t heads, int64_t key_tiles, int workers) {
  BackwardShares shares;
  shares.shared_heads = heads % workers;
  shares.whole_heads = heads - shares.shared_heads;
  shares.worker_slots = shares.whole_heads > 0 ? workers : 0;
  shares.key_tiles = key_tiles;
  return shares;
}

int64_t max_slots(int64_t heads, int workers) {
  return std::min<int64_t>(heads, 2 * int64_t{workers} - 1);
}

}  // namespace tilewise
