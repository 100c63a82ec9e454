// SPDX-License-Identifier: Apache-2.0
// The implementations that are measured against each other, behind one interface.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tilewise/plan.h"

namespace tilewise::cli {

enum class Implementation {
  kTilewise,
  kStandard,   // S and P in memory, mask and softmax in separate passes
  kMegatron,   // S becomes P in place: scale, mask and softmax in one pass
  kReference,  // float64, plain loops, one thread
};

[[nodiscard]] const char* implementation_name(Implementation implementation) noexcept;
[[nodiscard]] Implementation implementation_from_name(const std::string& name);  // InvalidArgument

// One implementation prepared for one problem, with all the memory that its runs use.
class Contestant {
 public:
  virtual ~Contestant() = default;
  virtual void forward(const ForwardTensors& tensors) = 0;
  // After forward() on the same inputs.
  virtual void backward(const BackwardTensors& tensors) = 0;
  // Memory besides the tensors it is given.
  [[nodiscard]] virtual int64_t own_bytes() const noexcept = 0;
  [[nodiscard]] virtual bool needs_logsumexp() const noexcept = 0;
  [[nodiscard]] virtual std::string isa() const = 0;
  [[nodiscard]] virtual int threads() const noexcept = 0;
};

// What standard attention needs for forward and backward besides the tensors.
[[nodiscard]] int64_t matrix_bytes(const Problem& problem);

// problem: normalized. with_backward: memory for the backward is kept.
[[nodiscard]] std::unique_ptr<Contestant> make_contestant(Implementation implementation,
                                                          const Problem& problem, const Step& step,
                                                          bool with_backward,
                                                          const PlanOptions& options);
// The same for the problem's maxima and a mask without data.
[[nodiscard]] std::unique_ptr<Contestant> make_contestant(Implementation implementation,
                                                          const Problem& problem,
                                                          bool with_backward,
                                                          const PlanOptions& options);

}  // namespace tilewise::cli
