// SPDX-License-Identifier: Apache-2.0
// A valid call of every public operation, to be broken in one place at a time.
#pragma once

#include <cstddef>
#include <cstring>
#include <vector>

#include "tilewise/plan.h"

namespace tilewise::testing {

// batch 2, 4 query heads over 2 kv heads, 6 queries, 5 keys, head_dim 8, value_dim 4, fp32, bias.
struct ValidCall {
  Problem problem;
  PlanOptions options;
  Step step;
  BackwardTensors tensors;  // forward uses the first six
  // Every tensor lies in this arena, 4 KiB apart; tensor number i starts at byte 4096 * i.
  std::vector<std::byte> arena;
  std::byte* base = nullptr;
  size_t workspace_less = 0;           // bytes missing at the end of the workspace
  std::ptrdiff_t workspace_shift = 0;  // bytes added to its address
  bool has_workspace = true;
  bool uses_other_plan = false;           // the schedule comes from another plan
  size_t needed = 0;                      // plan.workspace_bytes(), known after run()
  std::byte* workspace_memory = nullptr;  // instead of an own one

  ValidCall() : arena(16 * 4096 + 64, std::byte{0x5a}) {
    base = arena.data() + (64 - reinterpret_cast<uintptr_t>(arena.data()) % 64) % 64;
    problem.query_heads = 4;
    problem.kv_heads = 2;
    problem.max_batch = 2;
    problem.max_query_length = 6;
    problem.max_kv_length = 5;
    problem.head_dim = 8;
    problem.value_dim = 4;
    problem.has_bias = true;
    options.threads = 1;
    step.batch = 2;
    step.query_length = 6;
    step.kv_length = 5;
    int next = 0;
    const auto make = [&](int64_t heads, int64_t length, int64_t dim) {
      return Tensor::bhsd(base + 4096 * next++, DType::kFloat32, 2, heads, length, dim);
    };
    tensors.query = make(4, 6, 8);
    tensors.key = make(2, 5, 8);
    tensors.value = make(2, 5, 4);
    tensors.bias = make(4, 6, 5);
    tensors.output = make(4, 6, 4);
    tensors.logsumexp = make(4, 6, 1);
    tensors.grad_output = make(4, 6, 4);
    tensors.grad_logsumexp = make(4, 6, 1);
    tensors.grad_query = make(4, 6, 8);
    tensors.grad_key = make(2, 5, 8);
    tensors.grad_value = make(2, 5, 4);
    tensors.grad_bias = make(4, 6, 5);
  }
  ValidCall(const ValidCall&) = delete;
  ValidCall& operator=(const ValidCall&) = delete;

  void run(bool is_backward) {
    const Plan plan = make_plan(problem, options);
    needed = plan.workspace_bytes();
    const Plan other = make_plan(problem, options);
    const Schedule schedule = (uses_other_plan ? other : plan).schedule(step);
    std::vector<std::byte> memory(plan.workspace_bytes() + 128);
    std::byte* aligned =
        memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
    if (workspace_memory != nullptr) aligned = workspace_memory;
    Workspace workspace(has_workspace ? aligned + workspace_shift : nullptr,
                        plan.workspace_bytes() - workspace_less);
    if (is_backward) {
      plan.backward(schedule, tensors, workspace);
    } else {
      plan.forward(schedule,
                   {tensors.query,
                    tensors.key,
                    tensors.value,
                    tensors.bias,
                    tensors.output,
                    tensors.logsumexp,
                    {},
                    {},
                    tensors.dropout_seed},
                   workspace);
    }
  }
};

}  // namespace tilewise::testing
