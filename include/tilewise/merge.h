// SPDX-License-Identifier: Apache-2.0
// Attention over several disjoint sets of keys, put together: O = sum_i exp(LSE_i - LSE) O_i, LSE =
// log sum_i exp(LSE_i). What ring attention, split caches and shared prefixes need.
//
// The backward needs no merge: Plan::backward() of every part with the merged output and
// logsumexp, and with grad_output (and grad_logsumexp) of these, gives the gradients of that part's
// keys and values; grad_query is the sum over parts, grad_sink is complete after any one of them,
// whose plan has_sink while the plan of its forward has not.
#pragma once

#include <vector>

#include "tilewise/executor.h"
#include "tilewise/export.h"
#include "tilewise/tensor.h"

namespace tilewise {

// What a forward without a sink wrote, both float32 (or both float64): problems of less precision
// may write a float32 output (plan.h). Where logsumexp is -infinity, output is not read.
struct PartialResult {
  Tensor output;     // [batch, query_heads, queries, value_dim]
  Tensor logsumexp;  // [batch, query_heads, queries, 1]
};

struct MergeOptions {
  int threads = 0;               // 0: all workers of the executor
  Executor* executor = nullptr;  // nullptr: default_executor()
};

// output: of any dtype up to 32 bits (float64 for parts of float64); logsumexp: as those of the
// parts, optional (data == nullptr). sink [1, query_heads, 1, 1]: added once, none if its data is
// null. Where every part is empty, output is 0 and logsumexp the sink or -infinity. The parts are
// added in their order. Throws InvalidArgument before anything is written.
TILEWISE_API void merge(const std::vector<PartialResult>& parts, const Tensor& output,
                        const Tensor& logsumexp, const Tensor& sink = {},
                        const MergeOptions& options = {});

}  // namespace tilewise
