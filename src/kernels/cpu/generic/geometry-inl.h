// SPDX-License-Identifier: Apache-2.0
// Which tiles the generic kernel takes, and what they keep in the caches of a core.
#pragma once

#include "kernels/cpu/generic/forward_tiles-inl.h"

namespace {

template <class X>
inline constexpr tilewise::TileLimits kTileLimits = {
    .unit = {.query_tile = kWidth<X>,
             .key_tile = kGroup<X>,
             .backward_query_tile = kGroup<X>,
             .backward_key_tile = kWidth<X>},
    .max = {.query_tile = ForwardScratch<X>::kMaxBlocks * kWidth<X>,
            .key_tile = kMaxRows,
            .backward_query_tile = kMaxRows,
            .backward_key_tile = 16 * kWidth<X>}};

template <class X>
tilewise::TileBytes tile_bytes(int64_t head_dim, int64_t value_dim) {
  constexpr int64_t kReal = sizeof(typename X::Real), kElement = kReal / X::kWord;
  const int64_t d = words<X>(head_dim), e = words<X>(value_dim);
  return {.query = (d + value_dim) * kReal,
          .key = (head_dim + value_dim) * kElement,
          .backward_query = 2 * (head_dim + value_dim) * kElement,
          .backward_key = (d + e + head_dim + value_dim) * kReal + kMaxRows * kElement,
          .backward_scores = kWidth<X> * kElement};
}

}  // namespace
