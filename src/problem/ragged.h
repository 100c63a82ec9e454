// SPDX-License-Identifier: Apache-2.0
// A ragged batch is a list of sequences, each a uniform step of its own on rows of the tensors.
#pragma once

#include <cstdint>

#include "tilewise/problem.h"
#include "tilewise/step.h"

namespace tilewise {

[[nodiscard]] inline bool is_ragged(const Step& step) noexcept {
  return step.query_starts.data != nullptr;
}
// starts.data[i].
[[nodiscard]] int64_t start_at(const SequenceStarts& starts, int64_t i) noexcept;
// The longest sequence; 0 if there is none.
[[nodiscard]] int64_t longest_sequence(const SequenceStarts& starts) noexcept;
// Behind the last sequence.
[[nodiscard]] inline int64_t total_length(const SequenceStarts& starts) noexcept {
  return start_at(starts, starts.size - 1);
}
[[nodiscard]] bool same_starts(const SequenceStarts& a, const SequenceStarts& b) noexcept;

// Sequence i of a ragged step as a step of its own, without tables and scalars.
[[nodiscard]] Step sequence_step(const Step& step, int64_t i);

// Rows [first, first + length) of the length axis.
[[nodiscard]] Tensor rows_of(const Tensor& tensor, int64_t first, int64_t length) noexcept;
// What sequence i adds of a bias [sequences or 1, query_heads or 1, queries or 1, keys].
[[nodiscard]] Tensor bias_of(const Tensor& bias, int64_t i, int64_t query_length,
                             int64_t kv_length) noexcept;

// The starts of a step that has some, by themselves; then against the maxima of the problem, which
// is normalized. Both throw InvalidArgument.
void validate_starts(const Step& step, const char* operation);
void validate_sequences(const Problem& problem, const Step& step, const char* operation);

}  // namespace tilewise
