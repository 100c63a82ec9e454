// SPDX-License-Identifier: Apache-2.0
// Results of a case, put together from those of its parts (case_memory.h): rows behind the last
// sequence of a ragged batch are 0 (logsumexp: -infinity), and gradients of what sequences share
// are sums over them.
#pragma once

#include "verify/case_memory.h"

namespace tilewise::verify {

struct CaseResults {
  reference::Outputs outputs;
  reference::Gradients gradients;
};

[[nodiscard]] CaseResults exact_results(const CaseMemory& memory);
// Of naive attention; sums over sequences are rounded as its results are. start: naive.h.
[[nodiscard]] CaseResults naive_results(const CaseMemory& memory, double start);

}  // namespace tilewise::verify
