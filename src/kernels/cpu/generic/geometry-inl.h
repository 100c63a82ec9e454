// SPDX-License-Identifier: Apache-2.0
// Tile sizes that suit a core with 256 KiB or more of private cache; the plan may change them.
#pragma once

#include "kernels/cpu/generic/forward_tiles-inl.h"

namespace {

template <class X>
tilewise::Geometry propose_geometry(int64_t head_dim, int64_t value_dim) {
  tilewise::Geometry g;
  // Q^T and O^T of a tile of queries stay in the second-level cache beside P and the keys.
  const int64_t block_bytes =
      (words<X>(head_dim) + value_dim) * kWidth<X> * static_cast<int64_t>(sizeof(typename X::Real));
  // With tiles packing V costs more beside the products, so more blocks share it.
  const int64_t max_blocks = kTiled<X> ? 16 : 4;
  int64_t blocks = (kTiled<X> ? 256 : 128) * 1024 / block_bytes;
  blocks = blocks < 1 ? 1 : blocks > max_blocks ? max_blocks : blocks;
  g.query_tile = blocks * kWidth<X>;
  g.key_tile = kMaxRows;
  g.backward_query_tile = kMaxRows;
  const int64_t panels = head_dim + value_dim <= 128 ? 4 : head_dim + value_dim <= 256 ? 3 : 1;
  g.backward_key_tile = panels * kWidth<X>;
  return g;
}

}  // namespace
