// SPDX-License-Identifier: Apache-2.0
#include "problem/validate_tensors.h"

#include "base/dtype.h"
#include "problem/memory_overlap.h"
#include "problem/ragged.h"
#include "problem/reject.h"
#include "problem/validate.h"

namespace tilewise {
namespace {

enum class Access { kRead, kWritten };
enum class Presence { kRequired, kOptional };

struct Argument {
  const char* name;
  const Tensor* tensor;
  Access access;
};

bool is_known(DType dtype) {
  const auto code = static_cast<int32_t>(dtype);
  return code >= 0 && code <= 3;
}

std::string dtype_text(DType dtype) {
  return is_known(dtype) ? dtype_name(dtype)
                         : "code " + std::to_string(static_cast<int32_t>(dtype));
}

// Collects the arguments of one call and checks each as it comes; the pairs last.
class ArgumentChecker {
 public:
  ArgumentChecker(const char* operation, const Problem& problem, const Step& step)
      : operation_(operation), problem_(problem), step_(step) {}

  // [batch, heads, length, dim]; heads, lengths and dims are named for the message.
  struct Axis {
    int64_t extent;
    const char* name;
    bool may_broadcast = false;
    bool may_be_longer = false;
  };
  Axis batch() const {
    return is_ragged(step_) ? Axis{1, "the sequences lie one behind the other"}
                            : Axis{step_.batch, "batch"};
  }
  Axis query_heads(bool may_broadcast = false) const {
    return {problem_.query_heads, "query_heads", may_broadcast};
  }
  Axis kv_heads() const { return {problem_.kv_heads, "kv_heads"}; }
  Axis queries() const { return {step_.query_length, "query_length"}; }
  Axis keys() const { return {step_.kv_length, "kv_length"}; }
  Axis head_dim() const { return {problem_.head_dim, "head_dim"}; }
  Axis value_dim() const { return {problem_.value_dim, "value_dim"}; }
  Axis one() const { return {1, "one number per row"}; }

  DType real() const {
    return problem_.dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  }

  void query_like(const char* name, const Tensor& tensor, Access access) {
    check(name, tensor, access, problem_.dtype, {batch(), query_heads(), queries(), head_dim()});
  }
  void output(const Tensor& tensor, Access access) {
    // float64 results are what they are asked for: none of less precision.
    if (problem_.dtype == DType::kFloat64) return output_like("output", tensor, access);
    require_dtype_or_fp32("output", tensor);
    check("output", tensor, access, tensor.dtype, {batch(), query_heads(), queries(), value_dim()});
  }
  void output_like(const char* name, const Tensor& tensor, Access access) {
    check(name, tensor, access, problem_.dtype, {batch(), query_heads(), queries(), value_dim()});
  }
  void key_like(const char* name, const Tensor& tensor, Access access) {
    check(name, tensor, access, problem_.dtype, {batch(), kv_heads(), keys(), head_dim()});
  }
  void value_like(const char* name, const Tensor& tensor, Access access) {
    check(name, tensor, access, problem_.dtype, {batch(), kv_heads(), keys(), value_dim()});
  }
  void row_numbers(const char* name, const Tensor& tensor, Access access, Presence presence) {
    if (presence == Presence::kOptional && tensor.data == nullptr) return;
    check(name, tensor, access, real(), {batch(), query_heads(), queries(), one()});
  }
  void bias(const Tensor& tensor) {
    if (!problem_.has_bias) {
      if (tensor.data == nullptr) return;
      reject(operation_, "bias.data", "given", "null, as the problem has no bias",
             "set problem.has_bias");
    }
    require_dtype_or_fp32("bias", tensor);
    Axis rows = queries(), columns = keys();
    if (is_ragged(step_)) {
      rows = {longest_sequence(step_.query_starts), "the longest sequence", false, true};
      columns = {longest_sequence(step_.key_starts), "the longest sequence", false, true};
    }
    rows.may_broadcast = true;
    check("bias", tensor, Access::kRead, tensor.dtype,
          {Axis{step_.batch, "batch", true}, query_heads(true), rows, columns});
  }
  void grad_bias(const Tensor& tensor, const Tensor& bias) {
    if (tensor.data == nullptr) return;
    if (!problem_.has_bias) {
      reject(operation_, "grad_bias.data", "given", "null, as the problem has no bias",
             "set problem.has_bias");
    }
    check("grad_bias", tensor, Access::kWritten, real(),
          {Axis{bias.shape[0], "as bias"}, Axis{bias.shape[1], "as bias"},
           Axis{bias.shape[2], "as bias"}, Axis{bias.shape[3], "as bias"}});
  }

  void dropout_seed(const std::optional<uint64_t>& seed) const {
    if (seed.has_value() == (problem_.dropout > 0)) return;
    if (seed.has_value())
      reject(operation_, "dropout_seed", "given", "none, as the problem has no dropout",
             "set problem.dropout, to 2^-17 or more");
    reject(operation_, "dropout_seed", "absent", "a number, as the problem has dropout",
           "take another one for every step, and the same in forward and backward");
  }
  void sink(const char* name, const Tensor& tensor, Access access) {
    check(name, tensor, access, real(),
          {Axis{1, "shared by all batch entries"}, query_heads(), Axis{1, "one number per head"},
           Axis{1, "one number per head"}});
  }
  void sink(const Tensor& tensor) {
    if (problem_.has_sink && tensor.data == nullptr) {
      reject(operation_, "sink.data", "null", "[1, query_heads, 1, 1], as the problem has a sink");
    }
    if (tensor.data != nullptr) {
      require_sink("sink.data");
      sink("sink", tensor, Access::kRead);
    }
  }
  void grad_sink(const Tensor& tensor) {
    if (tensor.data == nullptr) return;
    require_sink("grad_sink.data");
    sink("grad_sink", tensor, Access::kWritten);
  }

  // Every written tensor against every other one.
  void check_overlaps() const {
    for (int i = 0; i < count_; ++i) {
      if (arguments_[i].access != Access::kWritten) continue;
      for (int j = 0; j < count_; ++j) {
        if (j == i || (j < i && arguments_[j].access == Access::kWritten)) continue;
        if (!share_memory(*arguments_[i].tensor, *arguments_[j].tensor)) continue;
        reject(operation_, arguments_[i].name,
               std::string("in the memory of ") + arguments_[j].name, "memory of its own",
               "nothing is computed in place");
      }
    }
  }

  // In any precision up to that of the parts.
  void merged_output(const Tensor& tensor) {
    const bool is_wide = problem_.dtype == DType::kFloat64;
    if (!is_known(tensor.dtype) || (tensor.dtype == DType::kFloat64) != is_wide) {
      reject_part("output", ".dtype", dtype_text(tensor.dtype),
                  is_wide ? "fp64, as the parts" : "fp32, bf16 or fp16");
    }
    check("output", tensor, Access::kWritten, tensor.dtype,
          {batch(), query_heads(), queries(), value_dim()});
  }

 private:
  void require_dtype_or_fp32(const char* name, const Tensor& tensor) const {
    if (tensor.dtype == DType::kFloat32 || tensor.dtype == problem_.dtype) return;
    const std::string also = problem_.dtype == DType::kFloat32 ? "" : " or fp32";
    reject_part(name, ".dtype", dtype_text(tensor.dtype), dtype_name(problem_.dtype) + also);
  }
  void require_sink(const char* argument) const {
    if (problem_.has_sink) return;
    reject(operation_, argument, "given", "null, as the problem has no sink",
           "set problem.has_sink");
  }

  [[noreturn]] void reject_part(const char* name, const std::string& part, const std::string& got,
                                const std::string& expected, const std::string& hint = "") const {
    reject(operation_, name + part, got, expected, hint);
  }

  void check(const char* name, const Tensor& tensor, Access access, DType dtype,
             const Axis (&axes)[4]) {
    if (tensor.dtype != dtype) {
      reject_part(name, ".dtype", dtype_text(tensor.dtype), dtype_name(dtype));
    }
    for (int axis = 0; axis < 4; ++axis) check_axis(name, tensor, axis, axes[axis]);
    if (is_empty(tensor)) return;
    check_memory(name, tensor, access);
    arguments_[count_++] = {name, &tensor, access};
  }

  void check_axis(const char* name, const Tensor& tensor, int axis, const Axis& expected) const {
    const int64_t got = tensor.shape[axis];
    if (got == expected.extent || (expected.may_broadcast && got == 1) ||
        (expected.may_be_longer && got > expected.extent))
      return;
    reject_part(name, ".shape[" + std::to_string(axis) + "]", text_of(got),
                (expected.may_broadcast ? "1 or " : "") + text_of(expected.extent) +
                    (expected.may_be_longer ? " or more (" : " (") + expected.name + ")");
  }

  void check_memory(const char* name, const Tensor& tensor, Access access) const {
    if (tensor.data == nullptr) {
      reject_part(name, ".data", "null", "the address of the first element");
    }
    const auto address = reinterpret_cast<uintptr_t>(tensor.data);
    const int64_t size = dtype_bytes(tensor.dtype);
    if (address % static_cast<uintptr_t>(size) != 0) {
      reject_part(
          name, ".data",
          std::to_string(address % static_cast<uintptr_t>(size)) + " bytes past an aligned address",
          "a multiple of " + text_of(size) + " bytes (" + dtype_name(tensor.dtype) + ")");
    }
    ByteRange range;
    if (!byte_range(tensor, range)) {
      reject_part(name, ".strides", text_of(tensor.strides),
                  "offsets inside the address space for shape " + text_of(tensor.shape));
    }
    if (access == Access::kWritten && aliases_itself(tensor)) {
      reject_part(name, ".strides", text_of(tensor.strides),
                  "an own address for every element of shape " + text_of(tensor.shape),
                  "only inputs may broadcast");
    }
  }

  const char* operation_;
  const Problem& problem_;
  const Step& step_;
  Argument arguments_[14] = {};
  int count_ = 0;
};

void require_apart(const char* operation, const void* data, size_t bytes, const char* name,
                   const Tensor& tensor) {
  if (tensor.data == nullptr || is_empty(tensor)) return;
  const auto begin = static_cast<int64_t>(reinterpret_cast<uintptr_t>(data));
  const int64_t end = begin + static_cast<int64_t>(bytes);
  // Interleaving a workspace with a tensor has no use: ranges are precise enough here.
  ByteRange range;
  if (byte_range(tensor, range) && (range.end <= begin || end <= range.begin)) return;
  reject(operation, "workspace", std::string("in the memory of ") + name, "memory of its own");
}

}  // namespace

void validate_forward(const Problem& problem, const Step& step, const ForwardTensors& tensors,
                      const char* operation) {
  ArgumentChecker checker(operation, problem, step);
  checker.query_like("query", tensors.query, Access::kRead);
  checker.key_like("key", tensors.key, Access::kRead);
  checker.value_like("value", tensors.value, Access::kRead);
  checker.bias(tensors.bias);
  checker.dropout_seed(tensors.dropout_seed);
  checker.sink(tensors.sink);
  checker.output(tensors.output, Access::kWritten);
  checker.row_numbers("logsumexp", tensors.logsumexp, Access::kWritten, Presence::kOptional);
  checker.check_overlaps();
}

void validate_backward(const Problem& problem, const Step& step, const BackwardTensors& tensors,
                       const char* operation) {
  ArgumentChecker checker(operation, problem, step);
  checker.query_like("query", tensors.query, Access::kRead);
  checker.key_like("key", tensors.key, Access::kRead);
  checker.value_like("value", tensors.value, Access::kRead);
  checker.bias(tensors.bias);
  checker.dropout_seed(tensors.dropout_seed);
  checker.sink(tensors.sink);
  checker.output(tensors.output, Access::kRead);
  checker.row_numbers("logsumexp", tensors.logsumexp, Access::kRead, Presence::kRequired);
  checker.output_like("grad_output", tensors.grad_output, Access::kRead);
  checker.row_numbers("grad_logsumexp", tensors.grad_logsumexp, Access::kRead, Presence::kOptional);
  checker.query_like("grad_query", tensors.grad_query, Access::kWritten);
  checker.key_like("grad_key", tensors.grad_key, Access::kWritten);
  checker.value_like("grad_value", tensors.grad_value, Access::kWritten);
  checker.grad_bias(tensors.grad_bias, tensors.bias);
  checker.grad_sink(tensors.grad_sink);
  checker.check_overlaps();
}

void validate_merge(const std::vector<PartialResult>& parts, const Tensor& output,
                    const Tensor& logsumexp, const Tensor& sink, const char* operation) {
  if (parts.empty()) reject(operation, "parts", "empty", "at least one");
  const Tensor& first = parts.front().output;
  if (first.dtype != DType::kFloat32 && first.dtype != DType::kFloat64)
    reject(operation, "parts[0].output.dtype", dtype_text(first.dtype), "fp32 or fp64",
           "a forward of less precision may write an fp32 output");
  constexpr int64_t kLeast[] = {0, 1, 0, 1};
  constexpr int64_t kMost[] = {kMaxExtent, kMaxExtent, kMaxExtent, kMaxHeadDim};
  for (int axis = 0; axis < 4; ++axis) {
    const std::string name = "parts[0].output.shape[" + std::to_string(axis) + "]";
    require_between(operation, name.c_str(), first.shape[axis], kLeast[axis], kMost[axis]);
  }
  Problem problem;
  problem.query_heads = first.shape[1];
  problem.value_dim = first.shape[3];
  problem.dtype = first.dtype;
  problem.has_sink = sink.data != nullptr;
  Step step;
  step.batch = first.shape[0];
  step.query_length = first.shape[2];
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string name = "parts[" + std::to_string(i) + "].";
    const std::string output_name = name + "output", logsumexp_name = name + "logsumexp";
    ArgumentChecker checker(operation, problem, step);
    checker.output_like(output_name.c_str(), parts[i].output, Access::kRead);
    checker.row_numbers(logsumexp_name.c_str(), parts[i].logsumexp, Access::kRead,
                        Presence::kRequired);
    checker.sink(sink);
    checker.merged_output(output);
    checker.row_numbers("logsumexp", logsumexp, Access::kWritten, Presence::kOptional);
    checker.check_overlaps();
  }
}

void validate_apart(const void* data, size_t bytes, const ForwardTensors& tensors,
                    const char* operation) {
  require_apart(operation, data, bytes, "query", tensors.query);
  require_apart(operation, data, bytes, "key", tensors.key);
  require_apart(operation, data, bytes, "value", tensors.value);
  require_apart(operation, data, bytes, "bias", tensors.bias);
  require_apart(operation, data, bytes, "output", tensors.output);
  require_apart(operation, data, bytes, "logsumexp", tensors.logsumexp);
  require_apart(operation, data, bytes, "sink", tensors.sink);
  for (const NamedTensor& table : tensors.tables)
    require_apart(operation, data, bytes, table.name.c_str(), table.tensor);
}

void validate_apart(const void* data, size_t bytes, const BackwardTensors& tensors,
                    const char* operation) {
  const ForwardTensors forward = {
      tensors.query,     tensors.key, tensors.value, tensors.bias, tensors.output,
      tensors.logsumexp, {},          tensors.sink};
  validate_apart(data, bytes, forward, operation);
  require_apart(operation, data, bytes, "grad_output", tensors.grad_output);
  require_apart(operation, data, bytes, "grad_logsumexp", tensors.grad_logsumexp);
  require_apart(operation, data, bytes, "grad_query", tensors.grad_query);
  require_apart(operation, data, bytes, "grad_key", tensors.grad_key);
  require_apart(operation, data, bytes, "grad_value", tensors.grad_value);
  require_apart(operation, data, bytes, "grad_bias", tensors.grad_bias);
  require_apart(operation, data, bytes, "grad_sink", tensors.grad_sink);
  for (const auto* tables : {&tensors.tables, &tensors.grad_tables}) {
    for (const NamedTensor& table : *tables)
      require_apart(operation, data, bytes, table.name.c_str(), table.tensor);
  }
}

}  // namespace tilewise
