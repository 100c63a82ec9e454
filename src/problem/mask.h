// SPDX-License-Identifier: Apache-2.0
// What a Mask means. Private: the public type stays opaque, so that the language can replace this.
#pragma once

#include <cstdint>

#include "base/tile.h"
#include "tilewise/problem.h"

namespace tilewise::detail {

enum class MaskKind { kCausal, kCausalTopLeft, kWindow };

struct MaskRule {
  MaskKind kind;
  int64_t left = 0;   // kWindow
  int64_t right = 0;  // kWindow
};

// The band of local indices that the mask leaves visible. Offsets and lengths: see plan.h, Step.
[[nodiscard]] Band band_of(const Mask& mask, int64_t query_length, int64_t kv_length,
                           int64_t query_offset, int64_t key_offset);
// Pairs (query, key) visible inside [0, query_length) x [0, kv_length). Closed form per row: O(N).
[[nodiscard]] int64_t visible_pairs(const Band& band, int64_t query_length, int64_t kv_length);

}  // namespace tilewise::detail
