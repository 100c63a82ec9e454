// SPDX-License-Identifier: Apache-2.0
// WHAT to compute: O = softmax(scale * Q K^T + bias, restricted to the mask) V, per batch and head
// (paper section 2.2). No data, no machine.
#pragma once

#include <cstdint>
#include <optional>

#include "tilewise/rules.h"
#include "tilewise/tensor.h"

namespace tilewise {

struct Problem {
  int64_t query_heads = 1;
  int64_t kv_heads = 0;  // 0: as many as query_heads; must divide query_heads
  int64_t max_batch = 1;
  int64_t max_query_length = 0;  // upper bounds; a Schedule states the lengths of a step
  int64_t max_kv_length = 0;
  // Of all sequences of a step together; 0: max_batch * max_query_length. Less saves memory of the
  // workspace.
  int64_t max_total_queries = 0;
  int64_t head_dim = 0;           // 1 to 512
  int64_t value_dim = 0;          // 0: head_dim; 1 to 512
  DType dtype = DType::kFloat32;  // of query, key, value, output and their gradients
  Mask mask = {};
  Score score = {};  // what the softmax sees instead of the scaled product; before the bias
  std::optional<double> scale = {};  // default 1/sqrt(head_dim); positive and finite
  bool has_bias = false;  // an additive bias [batch, heads, queries, keys] is given at run time
  // A number for each query head joins the softmax of its rows as one more score, whose value is 0;
  // it is given at run time.
  bool has_sink = false;
  // Probability with which a pair is dropped after the softmax; what stays is divided by 1 -
  // dropout ([Dao22] Algorithm 2). In [0, 1), rounded to a multiple of 2^-16. Which pairs are
  // dropped is a function of the seed, given at run time, and of the global b, h, q, k
  // (docs/notation.md).
  double dropout = 0;
  // Steps of up to 16 queries take keys in chunks of 1024 that are merged in order, so that many
  // threads share one head; from 1025 keys on, rows then differ in their last bits from the same
  // rows of a longer step. True forbids it: at most batch * kv_heads threads are of use to them.
  bool same_bits_as_prefill = false;
  // Elements of all real tables of the score together, up to the largest index that a step reads,
  // where their gradients are wanted: the workspace holds sums for so many.
  int64_t max_table_elements = 16384;
};

}  // namespace tilewise
