// SPDX-License-Identifier: Apache-2.0
#include "problem/validate.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/checked.h"
#include "problem/ragged.h"
#include "problem/reject.h"

namespace tilewise {
namespace {

void require_size(const char* operation, const char* name, int64_t batch, int64_t heads,
                  int64_t length, int64_t dim) {
  int64_t bytes = static_cast<int64_t>(sizeof(double));
  const bool fits = checked_multiply(bytes, batch, bytes) &&
                    checked_multiply(bytes, heads, bytes) &&
                    checked_multiply(bytes, length, bytes) && checked_multiply(bytes, dim, bytes) &&
                    bytes < (int64_t{1} << 61);
  if (fits) return;
  reject(operation, name, text_of({batch, heads, length, dim}), "a tensor of less than 2^61 bytes",
         "lower max_batch or the largest length");
}

void require_offset(const char* operation, const char* name, int64_t offset, int64_t extent) {
  const int64_t most = std::numeric_limits<int64_t>::max() - extent;
  if (offset >= 0 && offset <= most) return;
  reject(
      operation, name, text_of(offset), "0 to " + text_of(most),
      "offsets are the global position of the first index, and the last one must fit in 64 bits");
}

// Of a uniform step.
void validate_lengths(const Problem& problem, const Step& step, const char* operation) {
  require_between(operation, "query_length", step.query_length, 0, problem.max_query_length,
                  "the upper bound is the plan's max_query_length");
  require_between(operation, "kv_length", step.kv_length, 0, problem.max_kv_length,
                  "the upper bound is the plan's max_kv_length");
  if (step.batch * step.query_length > problem.max_total_queries) {
    reject(operation, "query_length", text_of(step.query_length),
           "at most " + text_of(problem.max_total_queries) + " queries in all batch entries",
           "raise the plan's max_total_queries");
  }
}

}  // namespace

Problem normalized(const Problem& problem, const char* operation) {
  Problem result = problem;
  if (result.kv_heads == 0) result.kv_heads = result.query_heads;
  if (result.value_dim == 0) result.value_dim = result.head_dim;
  const auto code = static_cast<int32_t>(problem.dtype);
  if (code < 0 || code > 3) {
    reject(operation, "dtype", text_of(int64_t{code}), "0 (fp32), 1 (bf16), 2 (fp16) or 3 (fp64)");
  }
  require_between(operation, "query_heads", result.query_heads, 1, kMaxExtent);
  require_between(operation, "kv_heads", result.kv_heads, 1, kMaxExtent,
                  "0 means as many as query_heads");
  if (result.query_heads % result.kv_heads != 0) {
    reject(operation, "kv_heads", text_of(result.kv_heads),
           "a divisor of query_heads (" + text_of(result.query_heads) + ")",
           "repeat keys or change kv_heads");
  }
  require_between(operation, "head_dim", result.head_dim, 1, kMaxHeadDim);
  require_between(operation, "value_dim", result.value_dim, 1, kMaxHeadDim,
                  "0 means the same as head_dim");
  require_between(operation, "max_batch", result.max_batch, 0, kMaxExtent);
  require_between(operation, "max_query_length", result.max_query_length, 0, kMaxExtent);
  require_between(operation, "max_kv_length", result.max_kv_length, 0, kMaxExtent);
  require_between(operation, "max_total_queries", result.max_total_queries, 0, kMaxExtent,
                  "0 means max_batch * max_query_length");
  require_between(operation, "max_table_elements", result.max_table_elements, 0, kMaxExtent);
  if (!result.scale) result.scale = 1.0 / std::sqrt(static_cast<double>(result.head_dim));
  // Kernels multiply by a float32 scale: it must stay positive and finite there too.
  const float narrowed = static_cast<float>(*result.scale);
  if (!(*result.scale > 0) || !(narrowed > 0) || !std::isfinite(narrowed)) {
    reject(operation, "scale", text_of(*result.scale), "a positive, finite float32 number",
           "leave it empty for 1/sqrt(head_dim)");
  }
  result.dropout = std::round(problem.dropout * 65536) / 65536;
  if (!(problem.dropout >= 0 && result.dropout < 1)) {
    reject(operation, "dropout", text_of(problem.dropout), "a probability in [0, 1 - 2^-16]",
           "it is rounded to a multiple of 2^-16; 0 drops nothing");
  }
  const int64_t dim = std::max(result.head_dim, result.value_dim);
  require_size(operation, "query", result.max_batch, result.query_heads, result.max_query_length,
               dim);
  require_size(operation, "key", result.max_batch, result.kv_heads, result.max_kv_length, dim);
  const int64_t most_queries = result.max_batch * result.max_query_length;
  result.max_total_queries = result.max_total_queries == 0
                                 ? most_queries
                                 : std::min(result.max_total_queries, most_queries);
  return result;
}

void validate_step(const Problem& problem, const Step& step, const char* operation) {
  require_between(operation, "batch", step.batch, 0, problem.max_batch,
                  "the upper bound is the plan's max_batch");
  if (step.query_starts.data != nullptr || step.key_starts.data != nullptr) {
    require_between(operation, "query_length", step.query_length, 0, kMaxExtent);
    require_between(operation, "kv_length", step.kv_length, 0, kMaxExtent);
    validate_starts(step, operation);
    validate_sequences(problem, step, operation);
  } else {
    validate_lengths(problem, step, operation);
  }
  require_offset(operation, "query_offset", step.query_offset, step.query_length);
  require_offset(operation, "key_offset", step.key_offset, step.kv_length);
  require_offset(operation, "batch_offset", step.batch_offset, step.batch);
  require_offset(operation, "head_offset", step.head_offset, problem.query_heads);
}

void validate_threads(int threads, const char* operation) {
  require_between(operation, "threads", threads, 0, kMaxThreads, "0 means all of the executor");
}

void validate_workspace(const void* data, size_t bytes, size_t needed, const char* operation) {
  if (data == nullptr) {
    reject(operation, "workspace.data", "null", "memory of plan.workspace_bytes()",
           "use Workspace workspace(plan)");
  }
  if (reinterpret_cast<uintptr_t>(data) % 64 != 0) {
    reject(operation, "workspace.data",
           "aligned to " +
               text_of(static_cast<int64_t>(reinterpret_cast<uintptr_t>(data) &
                                            (~reinterpret_cast<uintptr_t>(data) + 1))) +
               " bytes",
           "an alignment of 64 bytes");
  }
  if (bytes < needed) {
    reject(operation, "workspace.bytes", std::to_string(bytes),
           "at least " + std::to_string(needed) + " (plan.workspace_bytes())");
  }
}

}  // namespace tilewise
