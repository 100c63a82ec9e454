// SPDX-License-Identifier: Apache-2.0
// The border: everything a caller can get wrong is found here, before anything is written, and
// reported as InvalidArgument. Below it nothing is checked again. `operation` starts the message.
#pragma once

#include <cstddef>

#include "tilewise/plan.h"
#include "tilewise/problem.h"

namespace tilewise {

// Heads, batch and lengths: tiles are counted in 32 bits.
constexpr int64_t kMaxExtent = (int64_t{1} << 31) - 1;
constexpr int64_t kMaxHeadDim = 512;
constexpr int kMaxThreads = 4096;

// The problem with kv_heads, value_dim and scale filled in and dropout rounded.
[[nodiscard]] Problem normalized(const Problem& problem, const char* operation = "make_plan");

// problem is normalized, here and below.
void validate_step(const Problem& problem, const Step& step, const char* operation = "schedule");

void validate_threads(int threads, const char* operation = "make_plan");

// Memory of a run: present, 64-byte aligned, at least needed bytes.
void validate_workspace(const void* data, size_t bytes, size_t needed, const char* operation);

}  // namespace tilewise
