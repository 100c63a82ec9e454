// SPDX-License-Identifier: Apache-2.0
// WHAT to compute: O = softmax(scale * Q K^T + bias, restricted to the mask) V, per batch and head
// (paper section 2.2). No data, no machine.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "tilewise/export.h"
#include "tilewise/tensor.h"

namespace tilewise {

namespace detail {
struct MaskRule;  // src/problem/mask.h
}

// May query q see key k? An opaque, immutable, cheaply copied value. Default: every key is visible.
class TILEWISE_API Mask {
 public:
  Mask() = default;
  explicit Mask(std::shared_ptr<const detail::MaskRule> rule) : rule_(std::move(rule)) {}
  // One line that means the mask: "none", "causal", "causal-top-left", "window:4,0".
  [[nodiscard]] std::string text() const;
  [[nodiscard]] const detail::MaskRule* rule() const noexcept { return rule_.get(); }

 private:
  std::shared_ptr<const detail::MaskRule> rule_;  // null: none
};

// Bottom right: the last query is aligned with the last key, whatever the offsets are:
// key k is visible iff k - q - (kv_length - query_length) <= 0, with k and q counted from the
// first key and query given.
[[nodiscard]] TILEWISE_API Mask causal();
// Top left: global positions are compared, (key_offset + k) <= (query_offset + q).
[[nodiscard]] TILEWISE_API Mask causal_top_left();
// Bottom right aligned: visible iff -left <= k - q - (kv_length - query_length) <= right.
// left and right are >= 0.
[[nodiscard]] TILEWISE_API Mask window(int64_t left, int64_t right);
// The inverse of Mask::text(). Throws InvalidArgument.
[[nodiscard]] TILEWISE_API Mask mask_from_text(const std::string& text);

struct Problem {
  int64_t query_heads = 1;
  int64_t kv_heads = 0;  // 0: as many as query_heads; must divide query_heads
  int64_t max_batch = 1;
  int64_t max_query_length = 0;  // upper bounds; a Schedule states the lengths of a step
  int64_t max_kv_length = 0;
  int64_t head_dim = 0;           // 1 to 512
  int64_t value_dim = 0;          // 0: head_dim; 1 to 512
  DType dtype = DType::kFloat32;  // of query, key, value, output and their gradients
  Mask mask = {};
  std::optional<double> scale = {};  // default 1/sqrt(head_dim); positive and finite
  bool has_bias = false;  // an additive bias [batch, heads, queries, keys] is given at run time
  // Steps of up to 16 queries take keys in chunks of 1024 that are merged in order, so that many
  // threads share one head; from 1025 keys on, rows then differ in their last bits from the same
  // rows of a longer step. True forbids it: at most batch * kv_heads threads are of use to them.
  bool same_bits_as_prefill = false;
};

}  // namespace tilewise
