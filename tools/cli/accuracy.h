// SPDX-License-Identifier: Apache-2.0
// How far results are from float64, beside how far naive attention in the same dtype is. Small
// problems are compared whole; of long ones some rows of some heads, and then the gradient of the
// output must be zero in every other row (keep_sampled_rows()).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/reference/reference.h"
#include "tilewise/plan.h"

namespace tilewise::cli {

struct Accuracy {
  std::string tensor;  // "o", "dq", "dk", "dv"
  double max_error = 0;
  double naive_error = 0;
  double rms_error = 0;
  double naive_rms_error = 0;
  double max_bound = 0;  // verify/tolerance.h
  double rms_bound = 0;
  bool is_finite = true;  // NaN and infinity only where the reference has them
  [[nodiscard]] bool within_bound() const noexcept {
    return is_finite && max_error <= max_bound && rms_error <= rms_bound;
  }
  // The part of the bound that is used up: the larger of both.
  [[nodiscard]] double bound_used() const noexcept;
};

// The query heads of one key head, and the rows of them that are compared.
struct Slice {
  int64_t batch = 0;
  int64_t kv_head = 0;
  std::vector<reference::Row> rows;  // within the slice: batch 0, head within the group
};

class AccuracyCheck {
 public:
  static constexpr int64_t kSampledRows = 64;  // at least, where there are as many

  // problem: normalized, without bias.
  AccuracyCheck(const Problem& problem, const Step& step, uint64_t seed);

  [[nodiscard]] bool is_whole() const noexcept { return is_whole_; }
  [[nodiscard]] int64_t rows() const noexcept;
  // Sets grad_output to zero in the rows that are not compared. Nothing if is_whole().
  void keep_sampled_rows(const Tensor& grad_output) const;

  // After a forward, and after a backward with the grad_output of keep_sampled_rows().
  [[nodiscard]] std::vector<Accuracy> forward(const ForwardTensors& tensors) const;
  [[nodiscard]] std::vector<Accuracy> backward(const BackwardTensors& tensors) const;

 private:
  Problem problem_;
  Step step_;
  bool is_whole_ = true;
  std::vector<Slice> slices_;
};

}  // namespace tilewise::cli
