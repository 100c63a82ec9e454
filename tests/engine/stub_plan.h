// SPDX-License-Identifier: Apache-2.0
// A plan around a kernel of the test's own, to see what the engine asks of kernels.
#pragma once

#include <memory>

#include "engine/plan_data.h"
#include "problem/validate.h"

namespace tilewise::testing {

inline constexpr Geometry kStubTiles = {64, 32, 16, 16};
inline TileBytes stub_tile_bytes(int64_t head_dim, int64_t value_dim) {
  const int64_t row = 4 * (head_dim + value_dim);
  return {.query = row,
          .key = row,
          .backward_query = 2 * row,
          .backward_key = 2 * row,
          .backward_scores = 32};
}
inline int64_t stub_scratch(const AttentionShape&, const Geometry&, const ProgramSizes&) {
  return 100;
}

inline int64_t stub_decode_scratch(const AttentionShape&, const ProgramSizes&) { return 100; }

inline Kernel stub_kernel() {
  Kernel kernel{};
  kernel.arithmetic = "stub";
  kernel.limits = {.unit = {8, 8, 8, 8}, .max = {512, 256, 256, 512}};
  kernel.tile_bytes = stub_tile_bytes;
  kernel.forward_scratch_bytes = stub_scratch;
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
  plan->tiles.geometry = kStubTiles;
  set_workspace_maxima(*plan);
  return plan;
}

}  // namespace tilewise::testing
