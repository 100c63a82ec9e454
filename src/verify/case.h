// SPDX-License-Identifier: Apache-2.0
// One problem with its data, as a line of text:
//   b=2 hq=6 hkv=3 n=37 m=101 d=40 e=72 dtype=bf16 mask=window:7,0 bias=hk k=bshd~s seed=9
// A ragged batch lists queries:keys of its sequences: lengths=37:101,0:5,12:0. Then n and m are the
// lengths of the tensors, and what is longer than the sequences together is a tail.
// An expression stands in quotes: mask="k <= q and doc[q % 97] == doc[k % 97]".
// What is left out has its default; the line says everything, so that a failure can be repeated.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "tilewise/tensor.h"
#include "verify/guarded_memory.h"
#include "verify/layout.h"

namespace tilewise::verify {

enum class Values {
  kNormal,    // N(0, 1)
  kLarge,     // scores a hundred times as large
  kHuge,      // scores up to ten million
  kGrowing,   // scores that grow along the keys: every key tile brings a new maximum
  kFalling,   // the largest score comes first
  kConstant,  // all keys are equal
  kTiny,      // numbers below the smallest normal one
};

enum class NotANumber {
  kNone,
  kKey,     // in one key
  kValue,   // in one value
  kQuery,   // in one query
  kUnseen,  // in every key and value that no query sees, every query and gradient that sees no key
};

enum class Sinks {
  kNone,
  kNormal,         // N(0, 1)
  kLarge,          // above most scores
  kSmall,          // below most scores
  kMinusInfinity,  // as without one
  kMixed,          // another kind for every head, +-2e6 among them
};

struct Case {
  int64_t batch = 1, query_heads = 1, kv_heads = 1;
  int64_t query_length = 1, kv_length = 1;
  // Of a ragged batch, queries and keys of every sequence; batch is their number.
  std::vector<std::pair<int64_t, int64_t>> lengths = {};
  int64_t head_dim = 1, value_dim = 1;
  DType dtype = DType::kFloat32;
  std::string mask = "none";
  std::string score = "s";
  double scale = 0;  // 0: the default of Problem
  int64_t query_offset = 0, key_offset = 0, batch_offset = 0, head_offset = 0;
  std::string bias = "none";  // axes that it has, the rest broadcasts: "k", "hk", "bhnk", ...
  DType bias_dtype = DType::kFloat32;
  double bias_minus_infinity = 0;  // part of the entries
  Sinks sink = Sinks::kNone;
  bool has_grad_logsumexp = false;
  double dropout = 0;  // see dropout_seed
  bool same_bits_as_prefill = false;
  bool has_wide_output = false;  // o in fp32 whatever the dtype
  bool is_packed =
      false;  // q, k, v in one tensor [b, s, hq + 2 hkv, d], and so are their gradients
  Layout query, key, value, output, gradient;
  Values values = Values::kNormal;
  NotANumber not_a_number = NotANumber::kNone;
  Flush flush = Flush::kRight;
  uint64_t seed = 0;
};

[[nodiscard]] std::string case_text(const Case& c);
// Throws InvalidArgument for a line that is not one of case_text().
[[nodiscard]] Case case_from_text(const std::string& text);

// Of the run: derived from the seed of the case. None without dropout.
[[nodiscard]] std::optional<uint64_t> dropout_seed(const Case& c);

[[nodiscard]] Case random_case(uint64_t seed, uint64_t index);

// What is special about it, as (feature, value): to count what was drawn.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> features(const Case& c);

}  // namespace tilewise::verify
