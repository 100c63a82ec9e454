// SPDX-License-Identifier: Apache-2.0
#include "engine/score_tables.h"

#include <algorithm>

#include "base/dtype.h"
#include "problem/memory_overlap.h"
#include "problem/reject.h"

namespace tilewise {
namespace {

// A tensor of the call as messages name it: output, or table "slope".
struct Argument {
  const char* kind;
  const Tensor* tensor;
  const std::string* name = nullptr;
  [[nodiscard]] std::string text() const {
    return name == nullptr ? kind : std::string(kind) + " \"" + *name + "\"";
  }
};

Argument table(const NamedTensor& given) { return {"table", &given.tensor, &given.name}; }
Argument grad_table(const NamedTensor& given) { return {"grad_table", &given.tensor, &given.name}; }

const NamedTensor* find(const std::vector<NamedTensor>& list, const std::string& name) {
  const auto found = std::find_if(list.begin(), list.end(),
                                  [&name](const NamedTensor& given) { return given.name == name; });
  return found == list.end() ? nullptr : &*found;
}

// Names of `given` that the score does not have, or has twice.
template <class ArgumentOf>
void require_known(const std::vector<ScoreTable>& tables, const std::vector<NamedTensor>& given,
                   const ArgumentOf& argument_of, const char* operation) {
  for (const NamedTensor& one : given) {
    const bool is_known =
        std::any_of(tables.begin(), tables.end(),
                    [&one](const ScoreTable& known) { return known.name == one.name; });
    if (!is_known) {
      reject(operation, argument_of(one).text(), "given",
             "names of real tables that the score uses", "integer tables are given with the step");
    }
    if (find(given, one.name) != &one)
      reject(operation, argument_of(one).text(), "given twice", "one of that name");
  }
}

void validate_memory(const Argument& argument, const char* operation) {
  const Tensor& tensor = *argument.tensor;
  const auto code = static_cast<int32_t>(tensor.dtype);
  if (code < 0 || code > 3) {
    reject(operation, argument.text() + ".dtype", "code " + std::to_string(code),
           "fp32, bf16, fp16 or fp64");
  }
  if (tensor.data == nullptr)
    reject(operation, argument.text() + ".data", "null", "the address of the first element");
  const int64_t size = dtype_bytes(tensor.dtype);
  if (reinterpret_cast<uintptr_t>(tensor.data) % static_cast<uintptr_t>(size) != 0) {
    reject(operation, argument.text() + ".data", "not aligned",
           "a multiple of " + text_of(size) + " bytes");
  }
  ByteRange range;
  if (!is_empty(tensor) && !byte_range(tensor, range)) {
    reject(operation, argument.text() + ".strides", text_of(tensor.strides),
           "offsets inside the address space for shape " + text_of(tensor.shape));
  }
}

void validate_shape(const ScoreTable& known, const Argument& argument, const char* operation) {
  const int first = 4 - known.rank;
  for (int axis = 0; axis < 4; ++axis) {
    const int64_t got = argument.tensor->shape[axis], least = known.extent[axis];
    if (axis < first && got != 1) {
      reject(operation, argument.text() + ".shape", text_of(argument.tensor->shape),
             "extent 1 in the first " + text_of(int64_t{first}) + " axes",
             "a table of n indices is the last n axes");
    }
    if (axis >= first && got < least) {
      reject(operation, argument.text() + ".shape", text_of(argument.tensor->shape),
             "at least " + text_of(least) + " in axis " + text_of(int64_t{axis}),
             "the score looks it up there");
    }
  }
}

void validate_inputs(const std::vector<ScoreTable>& tables, const std::vector<NamedTensor>& given,
                     const char* operation) {
  require_known(tables, given, table, operation);
  for (const ScoreTable& known : tables) {
    const NamedTensor* found = find(given, known.name);
    if (found == nullptr) {
      reject(operation, Argument{"table", nullptr, &known.name}.text(), "missing",
             "a tensor of real numbers with " + text_of(int64_t{known.rank}) +
                 (known.rank == 1 ? " axis" : " axes"),
             "the score uses it");
    }
    validate_shape(known, table(*found), operation);
    validate_memory(table(*found), operation);
  }
}

void validate_gradient(const Argument& grad, const Tensor& of, DType real, const char* operation) {
  const Tensor& tensor = *grad.tensor;
  if (tensor.dtype != real)
    reject(operation, grad.text() + ".dtype", dtype_name(tensor.dtype), dtype_name(real));
  if (!std::equal(tensor.shape, tensor.shape + 4, of.shape))
    reject(operation, grad.text() + ".shape", text_of(tensor.shape), text_of(of.shape),
           "as the table");
  validate_memory(grad, operation);
  if (aliases_itself(tensor))
    reject(operation, grad.text() + ".strides", text_of(tensor.strides),
           "an own address for every element");
}

// What is written shares no memory with anything else that the run reads or writes.
void require_apart(const Argument& written, const Argument& other, const char* operation) {
  if (other.tensor->data == nullptr || is_empty(*other.tensor) || is_empty(*written.tensor)) return;
  if (share_memory(*written.tensor, *other.tensor))
    reject(operation, written.text(), "in the memory of " + other.text(), "memory of its own");
}

}  // namespace

void validate_tables(const std::vector<ScoreTable>& tables, const ForwardTensors& tensors,
                     const char* operation) {
  validate_inputs(tables, tensors.tables, operation);
  for (const NamedTensor& one : tensors.tables) {
    for (const Argument& written :
         {Argument{"output", &tensors.output}, Argument{"logsumexp", &tensors.logsumexp}})
      require_apart(written, table(one), operation);
  }
}

void validate_tables(const std::vector<ScoreTable>& tables, const BackwardTensors& tensors,
                     const char* operation) {
  const Argument written[] = {{"grad_query", &tensors.grad_query},
                              {"grad_key", &tensors.grad_key},
                              {"grad_value", &tensors.grad_value},
                              {"grad_bias", &tensors.grad_bias}};
  const Argument read[] = {{"query", &tensors.query},
                           {"key", &tensors.key},
                           {"value", &tensors.value},
                           {"bias", &tensors.bias},
                           {"output", &tensors.output},
                           {"logsumexp", &tensors.logsumexp},
                           {"grad_output", &tensors.grad_output},
                           {"grad_logsumexp", &tensors.grad_logsumexp}};
  validate_inputs(tables, tensors.tables, operation);
  for (const NamedTensor& one : tensors.tables) {
    for (const Argument& other : written) require_apart(other, table(one), operation);
  }
  require_known(tables, tensors.grad_tables, grad_table, operation);
  const DType real = tensors.query.dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  for (const NamedTensor& one : tensors.grad_tables) {
    const Argument grad = grad_table(one);
    validate_gradient(grad, find(tensors.tables, one.name)->tensor, real, operation);
    for (const Argument& other : read) require_apart(grad, other, operation);
    for (const Argument& other : written) require_apart(grad, other, operation);
    for (const NamedTensor& other : tensors.tables) require_apart(grad, table(other), operation);
    for (const NamedTensor& other : tensors.grad_tables) {
      if (&other == &one) break;
      require_apart(grad, grad_table(other), operation);
    }
  }
}

RealTables::RealTables(const std::vector<ScoreTable>& tables,
                       const std::vector<NamedTensor>& given) {
  for (const ScoreTable& known : tables) {
    const NamedTensor* found = find(given, known.name);
    if (found != nullptr) by_symbol[known.symbol] = found->tensor;
  }
}

}  // namespace tilewise
