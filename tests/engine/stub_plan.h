// SPDX-License-Identifier: Apache-2.0
// A plan around a kernel of the test's own, to see what the engine asks of kernels.
#pragma once

#include <memory>

#include "engine/plan_data.h"
#include "problem/validate.h"

namespace tilewise::testing {

inline Geometry stub_geometry(int64_t, int64_t) { return {64, 32, 16, 16}; }
inline int64_t stub_scratch(const AttentionShape&, const Geometry&) { return 100; }

inline int64_t stub_decode_scratch(const AttentionShape&) { return 100; }

inline Kernel stub_kernel() {
  Kernel kernel{};
  kernel.arithmetic = "stub";
  kernel.geometry = stub_geometry;
  kernel.query_unit = 8;
  kernel.row_unit = 8;
  kernel.forward_scratch_bytes = stub_scratch;
  kernel.decode_unit = 8;
  kernel.decode_is_forward = true;
  kernel.decode_scratch_bytes = stub_decode_scratch;
  kernel.backward_scratch_bytes = stub_scratch;
  return kernel;
}

// Without make_plan(), so that no real kernel is chosen; workers run on the executor given.
inline std::shared_ptr<Plan::Data> stub_plan(const Problem& problem, const Kernel& kernel,
                                             Executor& executor, int threads) {
  auto plan = std::make_shared<Plan::Data>();
  plan->id = 1;
  plan->problem = normalized(problem);
  plan->isa = "stub";
  plan->kernel = &kernel;
  plan->executor = &executor;
  plan->threads = threads;
  set_workspace_maxima(*plan);
  return plan;
}

}  // namespace tilewise::testing
