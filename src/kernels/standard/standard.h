// SPDX-License-Identifier: Apache-2.0
// The opponent: attention that stores S and P [batch, query_heads, N, M], [Dao22] Algorithm 0 and,
// for the gradients, Algorithm 3. Products, exponentials and threads are those of our own kernels,
// so that what is compared is the order of work and nothing else. It reads and writes N M elements
// per head in each of these passes (a pass over a whole head after another):
//
//   forward    S = scale Q K^T (product); S += bias and -infinity where masked (only where there is
//              a bias or a mask); P = softmax(S); O = P V (product)
//   Megatron   S = Q K^T; P = softmax(scale S + bias, restricted to the mask), one pass, in place;
//              O = P V
//   backward   dP = dO V^T; dS = P (dP - rowsum(P dP) + dlse), in place; dQ = scale dS K;
//              dV = P^T dO; dK = scale dS^T Q; dbias = dS summed;
//              dsink = -exp(sink - LSE) (rowsum(dO * O) - dlse) summed
//
// With dropout the softmax pass writes one more matrix, Z o P, which takes the place of P in the
// products with V and dO, and which the pass of dS reads beside P.
//
// Words moved: io_model's standard_forward with 1 separate pass where there is a bias or mask, else
// 0; megatron_forward; standard_backward. Stored matrices, in the problem's dtype: S and P; in
// Megatron's form one for both, and dP where gradients are wanted (elsewhere it takes the place of
// S). As in other frameworks, masks save neither work nor memory, S beyond the range of fp16 is
// infinite, and NaN in a masked value spreads.
//
// Results do not depend on the number of threads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "expr/bytecode.h"
#include "kernels/cpu/kernel_table.h"
#include "tilewise/plan.h"

namespace tilewise {

enum class StandardForm {
  kStandard,  // mask and softmax in separate passes, S and P apart
  kMegatron,  // scale, mask and softmax in one pass, in place
};

struct StandardOptions {
  StandardForm form = StandardForm::kStandard;
  bool with_backward = true;
  std::string isa = {};  // as in PlanOptions
  int threads = 0;
  Executor* executor = nullptr;
};

class StandardPlan {
 public:
  [[nodiscard]] const std::string& isa() const noexcept { return isa_; }
  [[nodiscard]] int threads() const noexcept { return workers_; }
  // Memory besides the tensors: the stored matrices and each worker's scratch. workspace: 64-byte
  // aligned. It keeps P from forward to backward.
  [[nodiscard]] int64_t workspace_bytes() const noexcept { return workspace_bytes_; }
  // Tensors as in plan.h, not validated here.
  void forward(const ForwardTensors& tensors, void* workspace) const;
  // After forward() with the same inputs and workspace.
  void backward(const BackwardTensors& tensors, void* workspace) const;

 private:
  friend StandardPlan make_standard(const Problem&, const Step&, const StandardOptions&);
  struct Matrices;
  void forward_rows(const ForwardTensors& t, const Matrices& m, int64_t item, int worker) const;
  void backward_rows(const BackwardTensors& t, const Matrices& m, int64_t item, int worker) const;
  void backward_keys(const BackwardTensors& t, const Matrices& m, int64_t item, int worker) const;
  void backward_sink(const BackwardTensors& t, int64_t head) const;
  void backward_bias(const BackwardTensors& t, const Matrices& m, int64_t item, int worker) const;
  [[nodiscard]] RowsLaunch rows_of(int64_t head, int64_t first_row, int64_t rows) const;

  // What one head sees: a rule, and a program if that does not say all.
  struct HeadMask {
    TileRule rule;
    expr::ProgramStorage program;
    bool is_masked = false;
  };
  void set_masks(const Mask& mask, const Step& step);

  const Kernel* kernel_ = nullptr;
  std::string isa_;
  Executor* executor_ = nullptr;
  int workers_ = 1;
  StandardForm form_ = StandardForm::kStandard;
  AttentionShape shape_ = {};
  DType dtype_ = DType::kFloat32;
  DType real_ = DType::kFloat32;  // of logsumexp and of sums
  double scale_ = 1;
  double dropout_ = 0;
  std::vector<HeadMask> masks_;
  std::vector<int32_t> mask_of_head_;  // [batch, query_heads]
  TileOrigin origin_;
  ProgramSizes program_sizes_;
  int64_t matrix_bytes_ = 0;  // of S [batch, query_heads, N, M], rounded up
  int64_t matrices_ = 2;
  int64_t p_ = 1, dropped_ = 1;  // which of them; the same where P itself is not needed
  int64_t scratch_bytes_ = 0;    // of one worker
  int64_t sums_offset_ = 0;      // in it: Real (key block, max(head_dim, value_dim))
  int64_t workspace_bytes_ = 0;
  int64_t query_blocks_ = 1, key_blocks_ = 1;  // per head
};

// problem, without a score, and step are validated by make_plan() and schedule(). Throws
// InvalidArgument for an unknown isa.
[[nodiscard]] StandardPlan make_standard(const Problem& problem, const Step& step,
                                         const StandardOptions& options = {});

}  // namespace tilewise
