// SPDX-License-Identifier: Apache-2.0
// Masks and scores by name. docs/rules.md lists all of them with their formulas and tables; here
// are the common ones as functions and the door for text.
//
// q and k are global positions: local indices plus the offsets of the step.
#pragma once

#include <cstdint>
#include <string>

#include "tilewise/export.h"
#include "tilewise/expr.h"

namespace tilewise {

// Bottom right: the last query is aligned with the last key, whatever the offsets are:
// key k is visible iff k - q - (kv_length - query_length) <= 0, with k and q counted from the
// first key and query given.
[[nodiscard]] TILEWISE_API Mask causal();
// Top left: global positions are compared, (key_offset + k) <= (query_offset + q).
[[nodiscard]] TILEWISE_API Mask causal_top_left();
// Bottom right aligned: visible iff -left <= k - q - (kv_length - query_length) <= right.
// left and right are >= 0.
[[nodiscard]] TILEWISE_API Mask window(int64_t left, int64_t right);

// The rest compares global positions, as causal_top_left does.
// k <= q or k < prefix[b]
[[nodiscard]] TILEWISE_API Mask prefix_lm();
// The first `sinks` keys and the last `window` before the query.
[[nodiscard]] TILEWISE_API Mask sink_window(int64_t sinks, int64_t window);
// doc[q] == doc[k]: several documents packed into one sequence.
[[nodiscard]] TILEWISE_API Mask document();
[[nodiscard]] TILEWISE_API Mask document_causal();
// valid[b, k] is not 0.
[[nodiscard]] TILEWISE_API Mask padding();
// Causal inside of chunks of that many positions.
[[nodiscard]] TILEWISE_API Mask chunked(int64_t chunk);
// Blocks of that many positions see themselves and all blocks before.
[[nodiscard]] TILEWISE_API Mask block_causal(int64_t block);
[[nodiscard]] TILEWISE_API Mask dilated_window(int64_t window, int64_t dilation);
[[nodiscard]] TILEWISE_API Mask longformer(int64_t window, int64_t global);
// Needs the table random[query block, key block].
[[nodiscard]] TILEWISE_API Mask bigbird(int64_t block, int64_t window, int64_t global);
// layout[h, query block, key block] is not 0.
[[nodiscard]] TILEWISE_API Mask block_sparse(int64_t block);

// cap * tanh(s / cap), cap > 0
[[nodiscard]] TILEWISE_API Score softcap(double cap);
// s - slope[h] * (q - k)
[[nodiscard]] TILEWISE_API Score alibi();
// s + bias[h, k - q + reach], with k - q clamped to -reach .. reach
[[nodiscard]] TILEWISE_API Score relative_bias(int64_t reach);

// A rule ("causal", "window:128,0", "longformer:window=512,global=16", with or without '@' before
// it), or an expression ("k <= q and doc[q] == doc[k]", docs/language.md). The inverse of
// Mask::text(). Throws InvalidArgument.
[[nodiscard]] TILEWISE_API Mask mask_from_text(const std::string& text);
// The same for scores: "softcap:cap=30", "s - slope[h] * (q - k)", "s".
[[nodiscard]] TILEWISE_API Score score_from_text(const std::string& text);

}  // namespace tilewise
