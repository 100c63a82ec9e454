// SPDX-License-Identifier: Apache-2.0
#include "problem/mask.h"

#include <algorithm>
#include <charconv>

#include "problem/reject.h"

namespace tilewise {
namespace {

Mask make_mask(detail::MaskKind kind, int64_t left = 0, int64_t right = 0) {
  return Mask(std::make_shared<const detail::MaskRule>(detail::MaskRule{kind, left, right}));
}

// Lengths are below 2^31, so a limit beyond kUnbounded means the same as kUnbounded; clamping keeps
// every later sum of a limit and an index inside 64 bits.
int64_t clamp_limit(int64_t limit) {
  return std::clamp(limit, -Band::kUnbounded, Band::kUnbounded);
}

// "<number>" at the start of [first, last); returns what follows, or nullptr.
const char* parse_number(const char* first, const char* last, int64_t& value) {
  const auto [end, error] = std::from_chars(first, last, value);
  return error == std::errc() ? end : nullptr;
}

}  // namespace

std::string Mask::text() const {
  if (rule_ == nullptr) return "none";
  switch (rule_->kind) {
    case detail::MaskKind::kCausal:
      return "causal";
    case detail::MaskKind::kCausalTopLeft:
      return "causal-top-left";
    case detail::MaskKind::kWindow:
      break;
  }
  return "window:" + std::to_string(rule_->left) + "," + std::to_string(rule_->right);
}

Mask causal() { return make_mask(detail::MaskKind::kCausal); }

Mask causal_top_left() { return make_mask(detail::MaskKind::kCausalTopLeft); }

Mask window(int64_t left, int64_t right) {
  if (left < 0) reject("window", "left", text_of(left), "0 or more");
  if (right < 0) reject("window", "right", text_of(right), "0 or more");
  return make_mask(detail::MaskKind::kWindow, left, right);
}

Mask mask_from_text(const std::string& text) {
  if (text == "none") return {};
  if (text == "causal") return causal();
  if (text == "causal-top-left") return causal_top_left();
  const std::string prefix = "window:";
  if (text.compare(0, prefix.size(), prefix) == 0) {
    const char* const last = text.data() + text.size();
    int64_t left = 0;
    int64_t right = 0;
    const char* next = parse_number(text.data() + prefix.size(), last, left);
    if (next != nullptr && next != last && *next == ',') {
      next = parse_number(next + 1, last, right);
      if (next == last) return window(left, right);
    }
  }
  reject("mask_from_text", "text", "\"" + text + "\"",
         "none, causal, causal-top-left or window:LEFT,RIGHT", "for example window:128,0");
}

namespace detail {

Band band_of(const Mask& mask, int64_t query_length, int64_t kv_length, int64_t query_offset,
             int64_t key_offset) {
  const MaskRule* rule = mask.rule();
  if (rule == nullptr) return {};
  const int64_t diagonal = kv_length - query_length;  // of the last query and the last key
  switch (rule->kind) {
    case MaskKind::kCausal:
      return {-Band::kUnbounded, diagonal};
    case MaskKind::kCausalTopLeft:
      return {-Band::kUnbounded, clamp_limit(query_offset - key_offset)};
    case MaskKind::kWindow:
      break;
  }
  return {clamp_limit(diagonal - std::min(rule->left, Band::kUnbounded)),
          clamp_limit(diagonal + std::min(rule->right, Band::kUnbounded))};
}

namespace {

// Pairs with j - i <= limit. Row i holds clamp(i + limit + 1, 0, keys) of them: nothing before
// row `first`, every key from row `full` on, an arithmetic series between.
int64_t pairs_up_to(int64_t limit, int64_t queries, int64_t keys) {
  const int64_t first = std::clamp<int64_t>(-limit, 0, queries);
  const int64_t full = std::clamp<int64_t>(keys - limit - 1, first, queries);
  const int64_t rising =
      (full - first) == 0 ? 0 : (first + full + 2 * limit + 1) * (full - first) / 2;
  return rising + keys * (queries - full);
}

}  // namespace

int64_t visible_pairs(const Band& band, int64_t query_length, int64_t kv_length) {
  if (band.lo > band.hi || query_length == 0 || kv_length == 0) return 0;
  return pairs_up_to(band.hi, query_length, kv_length) -
         pairs_up_to(band.lo - 1, query_length, kv_length);
}

}  // namespace detail
}  // namespace tilewise
