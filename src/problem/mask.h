// SPDX-License-Identifier: Apache-2.0
// The masks that are bands of visible key - query differences: what the engine runs.
#pragma once

#include <cstdint>

#include "base/tile.h"
#include "tilewise/problem.h"

namespace tilewise::detail {

// The band of local indices that the mask leaves visible, for the rules none, causal,
// causal-top-left and window. Throws InvalidArgument for any other. Offsets and lengths: see
// plan.h, Step.
[[nodiscard]] Band band_of(const Mask& mask, int64_t query_length, int64_t kv_length,
                           int64_t query_offset, int64_t key_offset);
// Pairs (query, key) visible inside [0, query_length) x [0, kv_length). Closed form per row: O(N).
[[nodiscard]] int64_t visible_pairs(const Band& band, int64_t query_length, int64_t kv_length);

}  // namespace tilewise::detail
