// SPDX-License-Identifier: Apache-2.0
// The tensors of one run against the problem and the step. Allocates nothing unless it throws.
#pragma once

#include <cstddef>
#include <vector>

#include "tilewise/merge.h"
#include "tilewise/plan.h"

namespace tilewise {

// problem is normalized and step valid. Checks dtypes, shapes, offsets, alignment, null pointers,
// and that nothing written overlaps anything else.
void validate_forward(const Problem& problem, const Step& step, const ForwardTensors& tensors,
                      const char* operation = "forward");
void validate_backward(const Problem& problem, const Step& step, const BackwardTensors& tensors,
                       const char* operation = "backward");

// The tensors of merge().
void validate_merge(const std::vector<PartialResult>& parts, const Tensor& output,
                    const Tensor& logsumexp, const Tensor& sink, const char* operation = "merge");

// The workspace [data, data + bytes) overlaps no tensor.
void validate_apart(const void* data, size_t bytes, const ForwardTensors& tensors,
                    const char* operation = "forward");
void validate_apart(const void* data, size_t bytes, const BackwardTensors& tensors,
                    const char* operation = "backward");

}  // namespace tilewise
