// SPDX-License-Identifier: Apache-2.0
#include "problem/mask.h"

#include <algorithm>
#include <charconv>

#include "expr/ir.h"
#include "problem/reject.h"

namespace tilewise {
namespace detail {
namespace {

// Lengths are below 2^31, so a limit beyond kUnbounded means the same as kUnbounded; clamping keeps
// every later sum of a limit and an index inside 64 bits.
int64_t clamp_limit(int64_t limit) {
  return std::clamp(limit, -Band::kUnbounded, Band::kUnbounded);
}

// "<left>,<right>" of "window:<left>,<right>".
Band window_band(const std::string& name, int64_t diagonal) {
  const char* const last = name.data() + name.size();
  int64_t left = 0, right = 0;
  const char* const comma = std::from_chars(name.data() + name.find(':') + 1, last, left).ptr;
  std::from_chars(comma + 1, last, right);
  return {clamp_limit(diagonal - std::min(left, Band::kUnbounded)),
          clamp_limit(diagonal + std::min(right, Band::kUnbounded))};
}

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

Band band_of(const Mask& mask, int64_t query_length, int64_t kv_length, int64_t query_offset,
             int64_t key_offset) {
  if (mask.expression() == nullptr) return {};
  const std::string& name = mask.expression()->name;
  const int64_t diagonal = kv_length - query_length;  // of the last query and the last key
  if (name == "causal") return {-Band::kUnbounded, diagonal};
  if (name == "causal-top-left") return {-Band::kUnbounded, clamp_limit(query_offset - key_offset)};
  if (name.starts_with("window:")) return window_band(name, diagonal);
  reject("mask", "text", '"' + mask.text() + '"', "none, causal, causal-top-left or window",
         "other masks are not supported yet");
}

int64_t visible_pairs(const Band& band, int64_t query_length, int64_t kv_length) {
  if (band.lo > band.hi || query_length == 0 || kv_length == 0) return 0;
  return pairs_up_to(band.hi, query_length, kv_length) -
         pairs_up_to(band.lo - 1, query_length, kv_length);
}

}  // namespace detail
}  // namespace tilewise
