// SPDX-License-Identifier: Apache-2.0
// The tensors of a case, in guarded memory. What is not an element is poisoned (0xff: NaN in every
// dtype); inputs are read-only; outputs are poisoned as a whole before each run.
#pragma once

#include <string>
#include <vector>

#include "kernels/reference/reference.h"
#include "tilewise/plan.h"
#include "verify/case.h"
#include "verify/case_data.h"
#include "verify/guarded_memory.h"

namespace tilewise::verify {

class CaseMemory {
 public:
  explicit CaseMemory(const Case& c);

  // Inputs and outputs, of forward and backward; absent ones have no data.
  [[nodiscard]] const BackwardTensors& tensors() const noexcept { return tensors_; }
  [[nodiscard]] ForwardTensors forward_tensors() const;
  [[nodiscard]] Step step() const;
  // The whole case, or a sequence of a ragged batch: what the reference takes at a time.
  struct Part {
    reference::Inputs inputs;
    int64_t entry = 0;  // of the batch
    int64_t first_query = 0, first_key = 0;
  };
  [[nodiscard]] std::vector<Part> parts() const;
  // Of a case that is not ragged.
  [[nodiscard]] reference::Inputs reference_inputs() const;

  void poison_outputs();
  // Name of an output whose memory changed outside its elements; "" if there is none.
  [[nodiscard]] std::string output_with_damaged_gap() const;

 private:
  struct Block {
    std::string name;
    GuardedMemory memory;
    std::vector<Tensor> tensors;
  };
  // The block stays where it is until all of its tensors are made.
  Tensor add(const std::string& name, std::vector<Block>& blocks, DType dtype, const Layout& layout,
             int64_t batch, int64_t heads, int64_t length, int64_t dim);
  void add_packed(const std::string& name, std::vector<Block>& blocks, Tensor& query, Tensor& key,
                  Tensor& value);
  void fill();
  void place_not_a_number();
  void place_unseen(const Part& part);
  void poison_tails();

  Case case_;
  std::vector<int64_t> query_starts_, key_starts_;  // of a ragged batch
  Mask mask_;
  Score score_;
  CaseData data_;
  std::vector<Block> inputs_, outputs_;
  BackwardTensors tensors_;
};

// Elements in the order of the axes, as the reference returns them.
[[nodiscard]] std::vector<double> dense(const Tensor& tensor);

}  // namespace tilewise::verify
