// SPDX-License-Identifier: Apache-2.0
// HOW it is computed. make_plan() validates a Problem and chooses kernel and tiles; a Schedule adds
// the lengths of one step; a Workspace is the memory of one run. Plan and Schedule are immutable,
// but for Plan::update(), and may be shared between threads; a Workspace serves one run at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tilewise/executor.h"
#include "tilewise/export.h"
#include "tilewise/problem.h"
#include "tilewise/step.h"
#include "tilewise/tensor.h"

namespace tilewise {

struct PlanOptions {
  std::string isa = {};          // "": best of this CPU, or TILEWISE_ISA; see available_isas()
  int threads = 0;               // 0: all workers of the executor
  Executor* executor = nullptr;  // nullptr: default_executor(); must outlive the plan
};

class Schedule;

// Shapes; B, N, M = batch, query_length, kv_length of the schedule:
//   query [B, query_heads, N, head_dim]   key [B, kv_heads, M, head_dim]   value [B, kv_heads, M,
//   value_dim] bias [B or 1, query_heads or 1, N or 1, M], of the problem's dtype or float32;
//   absent unless has_bias
//   output [B, query_heads, N, value_dim], of the problem's dtype or, where that has 16 bits,
//   float32
//   logsumexp [B, query_heads, N, 1], float32 (float64 in a float64 problem), natural logarithm;
//     optional in forward (data == nullptr)
// A row that sees no key has output 0 and logsumexp -infinity, or the sink.
//   sink: [1, query_heads, 1, 1], float32 (float64 in a float64 problem); absent unless has_sink.
//   dropout_seed: given if and only if the problem has dropout; the same forward and backward.
//   A ragged batch (step.h): B is 1, N and M count the rows of all sequences; bias is [sequences or
//   1, query_heads or 1, queries or 1, keys], at least as long as the longest sequence.
//   tables: one for every real table of the score, of any dtype; a table of n indices is the last n
//   axes, those before have extent 1.
struct ForwardTensors {
  Tensor query, key, value, bias, output, logsumexp;
  std::vector<NamedTensor> tables = {};
  Tensor sink = {};
  std::optional<uint64_t> dropout_seed = {};
};

// Gradients have the shapes of what they are gradients of, and the problem's dtype, except:
//   grad_logsumexp: optional input, as logsumexp;
//   grad_bias: optional output, shape of bias, float32 (float64 in a float64 problem): it sums
//     over every axis that bias broadcasts.
//   grad_sink: optional output, in the shape and dtype of sink.
//   grad_tables: optional outputs, by the names of tables and in their shapes, float32 (float64 in
//     a float64 problem).
// output and logsumexp are those of forward. Every element of every gradient is written.
struct BackwardTensors {
  Tensor query, key, value, bias, output, logsumexp;
  Tensor grad_output, grad_logsumexp;
  Tensor grad_query, grad_key, grad_value, grad_bias;
  std::vector<NamedTensor> tables = {};
  std::vector<NamedTensor> grad_tables = {};
  Tensor sink = {};
  Tensor grad_sink = {};
  std::optional<uint64_t> dropout_seed = {};
};

// The memory of one run; 64-byte aligned.
class TILEWISE_API Workspace {
 public:
  explicit Workspace(const class Plan& plan);
  Workspace(void* memory, size_t bytes) noexcept;  // the caller's; aligned to 64 bytes
  ~Workspace();
  Workspace(Workspace&& other) noexcept;
  Workspace& operator=(Workspace&& other) noexcept;
  [[nodiscard]] void* data() const noexcept { return data_; }
  [[nodiscard]] size_t bytes() const noexcept { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
  bool owned_ = false;
};

class TILEWISE_API Plan {
 public:
  struct Data;
  explicit Plan(std::shared_ptr<const Data> data) : data_(std::move(data)) {}

  // The last few are kept, so the same step again costs next to nothing.
  [[nodiscard]] Schedule schedule(const Step& step) const;
  // Makes a schedule of this plan one of another step. schedule() is for steps that come again, in
  // every layer or iteration; update() for those that do not, as when each token makes the keys one
  // longer: it keeps nothing, and from the second time on builds at the same address (data())
  // unless a copy of the schedule is alive, which stays as it was. No run may be using this one. If
  // it throws, the schedule is as before.
  void update(Schedule& schedule, const Step& step) const;
  // Enough for every schedule of this plan, forward and backward.
  [[nodiscard]] size_t workspace_bytes() const noexcept;
  // [Dao22] Algorithm 1, Algorithm 2 with dropout. Throws InvalidArgument before anything is
  // written.
  void forward(const Schedule& schedule, const ForwardTensors& tensors, Workspace& workspace) const;
  // [Dao22] Algorithm 4.
  void backward(const Schedule& schedule, const BackwardTensors& tensors,
                Workspace& workspace) const;
  // Tiles, words moved, memory, and why: for people.
  [[nodiscard]] std::string explain(const Schedule& schedule) const;
  [[nodiscard]] const Problem& problem() const noexcept;  // with every default filled in
  [[nodiscard]] const std::string& isa() const noexcept;
  [[nodiscard]] int threads() const noexcept;
  [[nodiscard]] const Data& data() const noexcept { return *data_; }

 private:
  std::shared_ptr<const Data> data_;
};

class TILEWISE_API Schedule {
 public:
  struct Data;
  explicit Schedule(std::shared_ptr<const Data> data) : data_(std::move(data)) {}
  [[nodiscard]] const Step& step() const noexcept;
  [[nodiscard]] const Data& data() const noexcept { return *data_; }

 private:
  friend class Plan;
  std::shared_ptr<const Data> data_;
};

[[nodiscard]] TILEWISE_API Plan make_plan(const Problem& problem, const PlanOptions& options = {});

}  // namespace tilewise
