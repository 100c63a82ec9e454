// SPDX-License-Identifier: Apache-2.0
// The tensors of one measured problem: inputs N(0, 1), or a user's own, and room for every result.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "io/array.h"
#include "tilewise/plan.h"

namespace tilewise::cli {

// A measured problem is normalized; the lengths of its one step are the maxima.
[[nodiscard]] int64_t visible_pairs(const Problem& problem, const Step& step);  // of all heads
// Multiply-adds count twice: 2 pairs (d + e), and 2.5 times that backward.
[[nodiscard]] double forward_flops(const Problem& problem, const Step& step);
[[nodiscard]] double backward_flops(const Problem& problem, const Step& step);
// Of masks without data.
[[nodiscard]] double forward_flops(const Problem& problem);
[[nodiscard]] double backward_flops(const Problem& problem);

class BenchData {
 public:
  // N(0, 1), a function of the seed and the shapes only. `problem` is normalized, without bias.
  // Gradients are absent unless with_backward. tables: of the score.
  BenchData(const Problem& problem, uint64_t seed, bool with_backward,
            const std::vector<NamedTensor>& tables = {});
  // A user's own, in the problem's dtype; a missing grad_output is drawn. With the backward.
  BenchData(const Problem& problem, io::Array query, io::Array key, io::Array value,
            std::optional<io::Array> grad_output, uint64_t seed);

  // `mask` of the problem is not in the tensors: the same data serves every mask.
  [[nodiscard]] ForwardTensors forward_tensors() const;
  [[nodiscard]] BackwardTensors backward_tensors() const noexcept { return tensors_; }
  // Inputs and outputs of the forward; with the gradients of both. Not logsumexp.
  [[nodiscard]] int64_t tensor_bytes() const noexcept { return tensor_bytes_; }
  [[nodiscard]] int64_t logsumexp_bytes() const noexcept { return logsumexp_bytes_; }

 private:
  Tensor keep(io::Array array, int64_t& bytes);
  void add_results(const Problem& problem, bool with_backward);

  std::vector<io::Array> arrays_;
  BackwardTensors tensors_;
  int64_t tensor_bytes_ = 0;
  int64_t logsumexp_bytes_ = 0;
};

}  // namespace tilewise::cli
