// SPDX-License-Identifier: Apache-2.0
// Attention in one call: plans, schedules and workspaces are made on demand and kept in a
// thread-safe cache. For control over them use plan.h.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tilewise/plan.h"

namespace tilewise {

struct AttentionOptions {
  Mask mask = {};
  Score score = {};
  std::optional<double> scale = {};
  int64_t query_offset = 0;
  int64_t key_offset = 0;
  SequenceStarts query_starts = {};  // of a ragged batch; see Step
  SequenceStarts key_starts = {};
  double dropout = 0;                     // with tensors.dropout_seed
  std::vector<IntegerTable> tables = {};  // of mask and score; see Step
  std::vector<NamedScalar> scalars = {};
  bool same_bits_as_prefill = false;  // see Problem
  PlanOptions plan = {};
};

// Shapes and meaning: plan.h. Heads, lengths, dims and dtype come from the tensors; a bias or
// a sink is used when its data is not null.
TILEWISE_API void attention(const ForwardTensors& tensors, const AttentionOptions& options = {});
TILEWISE_API void attention_backward(const BackwardTensors& tensors,
                                     const AttentionOptions& options = {});

// Instruction sets that this build has and this CPU runs, best first: "amx", "avx512bf16",
// "avx512", "avx2", "scalar".
[[nodiscard]] TILEWISE_API std::vector<std::string> available_isas();

}  // namespace tilewise
