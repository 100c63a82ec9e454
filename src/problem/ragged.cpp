// SPDX-License-Identifier: Apache-2.0
#include "problem/ragged.h"

#include <algorithm>
#include <cstddef>

#include "problem/reject.h"

namespace tilewise {
namespace {

void require_form(const SequenceStarts& starts, const char* name, int64_t batch,
                  const char* operation) {
  const std::string prefix = std::string("step.") + name;
  if (starts.data == nullptr) {
    reject(operation, prefix, "missing", "given together with the other starts",
           "a ragged batch has starts of queries and of keys, which may be the same");
  }
  if (starts.type != IntegerType::kInt32 && starts.type != IntegerType::kInt64) {
    reject(operation, prefix + ".type", text_of(static_cast<int64_t>(starts.type)),
           "0 (int32) or 1 (int64)");
  }
  if (starts.size != batch + 1) {
    reject(operation, prefix + ".size", text_of(starts.size), text_of(batch + 1) + " (batch + 1)",
           "the last start is the end of the last sequence");
  }
}

std::string element(const char* name, int64_t i) {
  return std::string("step.") + name + "[" + text_of(i) + "]";
}

// length_name: of the axis.
void require_ascending(const SequenceStarts& starts, const char* name, int64_t length,
                       const char* length_name, const char* operation) {
  int64_t before = start_at(starts, 0);
  if (before != 0) reject(operation, element(name, 0), text_of(before), "0");
  for (int64_t i = 1; i < starts.size; ++i) {
    const int64_t start = start_at(starts, i);
    if (start < before || start > length) {
      reject(operation, element(name, i), text_of(start),
             text_of(before) + " to " + text_of(length),
             std::string("starts ascend, and the last is at most ") + length_name);
    }
    before = start;
  }
}

void require_at_most(const SequenceStarts& starts, const char* name, int64_t most,
                     const char* max_name, const char* operation) {
  for (int64_t i = 1; i < starts.size; ++i) {
    const int64_t length = start_at(starts, i) - start_at(starts, i - 1);
    if (length <= most) continue;
    reject(operation, element(name, i), "the end of a sequence of length " + text_of(length),
           "at most " + text_of(most), std::string("raise the plan's ") + max_name);
  }
}

}  // namespace

int64_t start_at(const SequenceStarts& starts, int64_t i) noexcept {
  return starts.type == IntegerType::kInt32 ? static_cast<const int32_t*>(starts.data)[i]
                                            : static_cast<const int64_t*>(starts.data)[i];
}

int64_t longest_sequence(const SequenceStarts& starts) noexcept {
  int64_t longest = 0;
  for (int64_t i = 1; i < starts.size; ++i)
    longest = std::max(longest, start_at(starts, i) - start_at(starts, i - 1));
  return longest;
}

bool same_starts(const SequenceStarts& a, const SequenceStarts& b) noexcept {
  if (a.data == nullptr || b.data == nullptr) return a.data == b.data;
  if (a.size != b.size) return false;
  for (int64_t i = 0; i < a.size; ++i)
    if (start_at(a, i) != start_at(b, i)) return false;
  return true;
}

Step sequence_step(const Step& step, int64_t i) {
  Step one;
  one.batch = 1;
  one.query_length = start_at(step.query_starts, i + 1) - start_at(step.query_starts, i);
  one.kv_length = start_at(step.key_starts, i + 1) - start_at(step.key_starts, i);
  one.query_offset = step.query_offset;
  one.key_offset = step.key_offset;
  one.batch_offset = step.batch_offset + i;
  one.head_offset = step.head_offset;
  return one;
}

Tensor rows_of(const Tensor& tensor, int64_t first, int64_t length) noexcept {
  Tensor rows = tensor;
  rows.shape[2] = length;
  if (tensor.data != nullptr && length > 0) {
    rows.data = static_cast<std::byte*>(tensor.data) +
                first * tensor.strides[2] * dtype_bytes(tensor.dtype);
  }
  return rows;
}

Tensor bias_of(const Tensor& bias, int64_t i, int64_t query_length, int64_t kv_length) noexcept {
  Tensor one = bias;
  if (bias.data == nullptr) return one;
  if (bias.shape[0] > 1) {
    one.data = static_cast<std::byte*>(bias.data) + i * bias.strides[0] * dtype_bytes(bias.dtype);
    one.shape[0] = 1;
  }
  if (bias.shape[2] > 1) one.shape[2] = query_length;
  one.shape[3] = kv_length;
  return one;
}

void validate_starts(const Step& step, const char* operation) {
  require_form(step.query_starts, "query_starts", step.batch, operation);
  require_form(step.key_starts, "key_starts", step.batch, operation);
  require_ascending(step.query_starts, "query_starts", step.query_length, "query_length",
                    operation);
  require_ascending(step.key_starts, "key_starts", step.kv_length, "kv_length", operation);
}

void validate_sequences(const Problem& problem, const Step& step, const char* operation) {
  require_at_most(step.query_starts, "query_starts", problem.max_query_length, "max_query_length",
                  operation);
  require_at_most(step.key_starts, "key_starts", problem.max_kv_length, "max_kv_length", operation);
  const int64_t total = total_length(step.query_starts);
  if (total <= problem.max_total_queries) return;
  reject(operation, element("query_starts", step.batch), text_of(total),
         "at most " + text_of(problem.max_total_queries) + " queries in all sequences",
         "raise the plan's max_total_queries");
}

}  // namespace tilewise
