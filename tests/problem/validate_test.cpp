// SPDX-License-Identifier: Apache-2.0
// Every way to call the library wrongly, and the exact words of its answer. Each row breaks a valid
// call in one place; nothing may be written before the error.
#include "problem/validate.h"

#include <gtest/gtest.h>

#include <limits>

#include "problem/valid_call.h"
#include "tilewise/error.h"

namespace tilewise {
namespace {

using testing::ValidCall;
constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

enum class Run { kForward, kBackward };

struct InvalidCase {
  Run run;
  void (*break_it)(ValidCall&);
  const char* message;
};

std::byte* element(const Tensor& tensor, int64_t index) {
  return static_cast<std::byte*>(tensor.data) + index * dtype_bytes(tensor.dtype);
}

const InvalidCase kCases[] = {
    {Run::kForward, [](ValidCall& s) { s.problem.dtype = static_cast<DType>(4); },
     "make_plan: dtype is 4, expected 0 (fp32), 1 (bf16), 2 (fp16) or 3 (fp64)"},
    {Run::kForward, [](ValidCall& s) { s.problem.dtype = static_cast<DType>(-1); },
     "make_plan: dtype is -1, expected 0 (fp32), 1 (bf16), 2 (fp16) or 3 (fp64)"},
    {Run::kForward, [](ValidCall& s) { s.problem.query_heads = 0; },
     "make_plan: query_heads is 0, expected 1 to 2147483647"},
    {Run::kForward, [](ValidCall& s) { s.problem.query_heads = -4; },
     "make_plan: query_heads is -4, expected 1 to 2147483647"},
    {Run::kForward, [](ValidCall& s) { s.problem.query_heads = int64_t{1} << 31; },
     "make_plan: query_heads is 2147483648, expected 1 to 2147483647"},
    {Run::kForward, [](ValidCall& s) { s.problem.kv_heads = -1; },
     "make_plan: kv_heads is -1, expected 1 to 2147483647; 0 means as many as query_heads"},
    {Run::kForward, [](ValidCall& s) { s.problem.kv_heads = 3; },
     "make_plan: kv_heads is 3, expected a divisor of query_heads (4); repeat keys or change "
     "kv_heads"},
    {Run::kForward, [](ValidCall& s) { s.problem.kv_heads = 8; },
     "make_plan: kv_heads is 8, expected a divisor of query_heads (4); repeat keys or change "
     "kv_heads"},
    {Run::kForward, [](ValidCall& s) { s.problem.head_dim = 0; },
     "make_plan: head_dim is 0, expected 1 to 512"},
    {Run::kForward, [](ValidCall& s) { s.problem.head_dim = -8; },
     "make_plan: head_dim is -8, expected 1 to 512"},
    {Run::kForward, [](ValidCall& s) { s.problem.head_dim = 513; },
     "make_plan: head_dim is 513, expected 1 to 512"},
    {Run::kForward, [](ValidCall& s) { s.problem.value_dim = 513; },
     "make_plan: value_dim is 513, expected 1 to 512; 0 means the same as head_dim"},
    {Run::kForward, [](ValidCall& s) { s.problem.value_dim = -1; },
     "make_plan: value_dim is -1, expected 1 to 512; 0 means the same as head_dim"},
    {Run::kForward, [](ValidCall& s) { s.problem.max_batch = -1; },
     "make_plan: max_batch is -1, expected 0 to 2147483647"},
    {Run::kForward, [](ValidCall& s) { s.problem.max_query_length = -1; },
     "make_plan: max_query_length is -1, expected 0 to 2147483647"},
    {Run::kForward, [](ValidCall& s) { s.problem.max_query_length = int64_t{1} << 31; },
     "make_plan: max_query_length is 2147483648, expected 0 to 2147483647"},
    {Run::kForward, [](ValidCall& s) { s.problem.max_kv_length = kHuge; },
     "make_plan: max_kv_length is 9223372036854775807, expected 0 to 2147483647"},
    {Run::kForward, [](ValidCall& s) { s.problem.max_kv_length = -1; },
     "make_plan: max_kv_length is -1, expected 0 to 2147483647"},
    {Run::kForward,
     [](ValidCall& s) {
       s.problem.max_batch = (int64_t{1} << 31) - 1,
       s.problem.max_query_length = (int64_t{1} << 31) - 1;
     },
     "make_plan: query is [2147483647, 4, 2147483647, 8], expected a tensor of less than 2^61 "
     "bytes; lower max_batch or the largest length"},
    {Run::kForward,
     [](ValidCall& s) {
       s.problem.max_batch = (int64_t{1} << 31) - 1,
       s.problem.max_kv_length = (int64_t{1} << 31) - 1;
     },
     "make_plan: key is [2147483647, 2, 2147483647, 8], expected a tensor of less than 2^61 bytes; "
     "lower max_batch or the largest length"},
    {Run::kForward, [](ValidCall& s) { s.problem.scale = kNaN; },
     "make_plan: scale is NaN, expected a positive, finite float32 number; leave it empty for "
     "1/sqrt(head_dim)"},
    {Run::kForward, [](ValidCall& s) { s.problem.scale = kInfinity; },
     "make_plan: scale is infinity, expected a positive, finite float32 number; leave it empty for "
     "1/sqrt(head_dim)"},
    {Run::kForward, [](ValidCall& s) { s.problem.scale = -kInfinity; },
     "make_plan: scale is -infinity, expected a positive, finite float32 number; leave it empty "
     "for 1/sqrt(head_dim)"},
    {Run::kForward, [](ValidCall& s) { s.problem.scale = 0.0; },
     "make_plan: scale is 0, expected a positive, finite float32 number; leave it empty for "
     "1/sqrt(head_dim)"},
    {Run::kForward, [](ValidCall& s) { s.problem.scale = -0.5; },
     "make_plan: scale is -0.5, expected a positive, finite float32 number; leave it empty for "
     "1/sqrt(head_dim)"},
    {Run::kForward, [](ValidCall& s) { s.problem.scale = 1e-60; },
     "make_plan: scale is 1e-60, expected a positive, finite float32 number; leave it empty for "
     "1/sqrt(head_dim)"},
    {Run::kForward, [](ValidCall& s) { s.problem.dropout = -0.1; },
     "make_plan: dropout is -0.1, expected a probability in [0, 1 - 2^-16]; it is rounded to a "
     "multiple of 2^-16; 0 drops nothing"},
    {Run::kForward, [](ValidCall& s) { s.problem.dropout = 1; },
     "make_plan: dropout is 1, expected a probability in [0, 1 - 2^-16]; it is rounded to a "
     "multiple of 2^-16; 0 drops nothing"},
    {Run::kForward, [](ValidCall& s) { s.problem.dropout = kNaN; },
     "make_plan: dropout is NaN, expected a probability in [0, 1 - 2^-16]; it is rounded to a "
     "multiple of 2^-16; 0 drops nothing"},
    {Run::kForward, [](ValidCall& s) { s.problem.dropout = 0.1; },
     "forward: dropout_seed is absent, expected a number, as the problem has dropout; take another "
     "one for every step, and the same in forward and backward"},
    {Run::kForward, [](ValidCall& s) { s.tensors.dropout_seed = 1; },
     "forward: dropout_seed is given, expected none, as the problem has no dropout; set "
     "problem.dropout, to 2^-17 or more"},
    {Run::kBackward, [](ValidCall& s) { s.problem.dropout = 0.1; },
     "backward: dropout_seed is absent, expected a number, as the problem has dropout; take "
     "another one for every step, and the same in forward and backward"},
    {Run::kBackward, [](ValidCall& s) { s.tensors.dropout_seed = 1; },
     "backward: dropout_seed is given, expected none, as the problem has no dropout; set "
     "problem.dropout, to 2^-17 or more"},
    {Run::kForward, [](ValidCall& s) { s.problem.mask = window(-1, 0); },
     "window: left is -1, expected 0 or more"},
    {Run::kForward, [](ValidCall& s) { s.problem.mask = window(0, -3); },
     "window: right is -3, expected 0 or more"},
    {Run::kForward, [](ValidCall& s) { s.problem.mask = mask_from_text("window:4"); },
     "mask_from_text: text is \"window:4\", expected window:left,right; right must be given"},
    {Run::kForward, [](ValidCall& s) { s.problem.mask = mask_from_text("Causal"); },
     "mask_from_text: text is \"Causal\", expected a rule such as causal or window:128,0, or an "
     "expression such as k <= q; docs/rules.md lists the rules"},
    {Run::kForward,
     [](ValidCall& s) { s.problem.mask = mask_from_text("window:4,99999999999999999999"); },
     "mask_from_text: text is \"window:4,99999999999999999999\", expected window:left,right; right "
     "must be a number"},
    {Run::kForward, [](ValidCall& s) { s.options.threads = -1; },
     "make_plan: threads is -1, expected 0 to 4096; 0 means all of the executor"},
    {Run::kForward, [](ValidCall& s) { s.options.threads = 4097; },
     "make_plan: threads is 4097, expected 0 to 4096; 0 means all of the executor"},
    {Run::kForward, [](ValidCall& s) { s.step.batch = -1; },
     "schedule: batch is -1, expected 0 to 2; the upper bound is the plan's max_batch"},
    {Run::kForward, [](ValidCall& s) { s.step.batch = 3; },
     "schedule: batch is 3, expected 0 to 2; the upper bound is the plan's max_batch"},
    {Run::kForward, [](ValidCall& s) { s.step.query_length = 7; },
     "schedule: query_length is 7, expected 0 to 6; the upper bound is the plan's "
     "max_query_length"},
    {Run::kForward, [](ValidCall& s) { s.step.kv_length = 6; },
     "schedule: kv_length is 6, expected 0 to 5; the upper bound is the plan's max_kv_length"},
    {Run::kForward, [](ValidCall& s) { s.step.query_length = -1; },
     "schedule: query_length is -1, expected 0 to 6; the upper bound is the plan's "
     "max_query_length"},
    {Run::kForward, [](ValidCall& s) { s.step.kv_length = std::numeric_limits<int64_t>::min(); },
     "schedule: kv_length is -9223372036854775808, expected 0 to 5; the upper bound is the plan's "
     "max_kv_length"},
    {Run::kForward, [](ValidCall& s) { s.step.query_offset = -1; },
     "schedule: query_offset is -1, expected 0 to 9223372036854775801; offsets are the global "
     "position of the first index, and the last one must fit in 64 bits"},
    {Run::kForward, [](ValidCall& s) { s.step.key_offset = kHuge; },
     "schedule: key_offset is 9223372036854775807, expected 0 to 9223372036854775802; offsets are "
     "the global position of the first index, and the last one must fit in 64 bits"},
    {Run::kForward, [](ValidCall& s) { s.step.batch_offset = kHuge - 1; },
     "schedule: batch_offset is 9223372036854775806, expected 0 to 9223372036854775805; offsets "
     "are the global position of the first index, and the last one must fit in 64 bits"},
    {Run::kForward, [](ValidCall& s) { s.step.head_offset = -2; },
     "schedule: head_offset is -2, expected 0 to 9223372036854775803; offsets are the global "
     "position of the first index, and the last one must fit in 64 bits"},
    {Run::kForward, [](ValidCall& s) { s.uses_other_plan = true; },
     "forward: schedule is of another plan, expected one made by this plan's schedule()"},
    {Run::kForward, [](ValidCall& s) { s.tensors.query.data = nullptr; },
     "forward: query.data is null, expected the address of the first element"},
    {Run::kForward, [](ValidCall& s) { s.tensors.key.data = nullptr; },
     "forward: key.data is null, expected the address of the first element"},
    {Run::kForward, [](ValidCall& s) { s.tensors.value.data = nullptr; },
     "forward: value.data is null, expected the address of the first element"},
    {Run::kForward, [](ValidCall& s) { s.tensors.output.data = nullptr; },
     "forward: output.data is null, expected the address of the first element"},
    {Run::kForward, [](ValidCall& s) { s.tensors.bias.data = nullptr; },
     "forward: bias.data is null, expected the address of the first element"},
    {Run::kForward, [](ValidCall& s) { s.tensors.query.dtype = DType::kBFloat16; },
     "forward: query.dtype is bf16, expected fp32"},
    {Run::kForward, [](ValidCall& s) { s.tensors.key.dtype = static_cast<DType>(9); },
     "forward: key.dtype is code 9, expected fp32"},
    {Run::kForward, [](ValidCall& s) { s.tensors.bias.dtype = DType::kFloat16; },
     "forward: bias.dtype is fp16, expected fp32"},
    {Run::kForward, [](ValidCall& s) { s.tensors.logsumexp.dtype = DType::kFloat64; },
     "forward: logsumexp.dtype is fp64, expected fp32"},
    {Run::kForward, [](ValidCall& s) { s.tensors.output.dtype = DType::kFloat64; },
     "forward: output.dtype is fp64, expected fp32"},
    {Run::kForward, [](ValidCall& s) { s.tensors.query.shape[0] = 1; },
     "forward: query.shape[0] is 1, expected 2 (batch)"},
    {Run::kForward, [](ValidCall& s) { s.tensors.query.shape[1] = 2; },
     "forward: query.shape[1] is 2, expected 4 (query_heads)"},
    {Run::kForward, [](ValidCall& s) { s.tensors.query.shape[2] = 5; },
     "forward: query.shape[2] is 5, expected 6 (query_length)"},
    {Run::kForward, [](ValidCall& s) { s.tensors.query.shape[3] = 4; },
     "forward: query.shape[3] is 4, expected 8 (head_dim)"},
    {Run::kForward, [](ValidCall& s) { s.tensors.key.shape[0] = 3; },
     "forward: key.shape[0] is 3, expected 2 (batch)"},
    {Run::kForward, [](ValidCall& s) { s.tensors.key.shape[1] = 4; },
     "forward: key.shape[1] is 4, expected 2 (kv_heads)"},
    {Run::kForward, [](ValidCall& s) { s.tensors.key.shape[2] = -5; },
     "forward: key.shape[2] is -5, expected 5 (kv_length)"},
    {Run::kForward, [](ValidCall& s) { s.tensors.key.shape[3] = 9; },
     "forward: key.shape[3] is 9, expected 8 (head_dim)"},
    {Run::kForward, [](ValidCall& s) { s.tensors.value.shape[1] = 1; },
     "forward: value.shape[1] is 1, expected 2 (kv_heads)"},
    {Run::kForward, [](ValidCall& s) { s.tensors.value.shape[2] = 6; },
     "forward: value.shape[2] is 6, expected 5 (kv_length)"},
    {Run::kForward, [](ValidCall& s) { s.tensors.value.shape[3] = 8; },
     "forward: value.shape[3] is 8, expected 4 (value_dim)"},
    {Run::kForward, [](ValidCall& s) { s.tensors.output.shape[1] = 2; },
     "forward: output.shape[1] is 2, expected 4 (query_heads)"},
    {Run::kForward, [](ValidCall& s) { s.tensors.output.shape[3] = 8; },
     "forward: output.shape[3] is 8, expected 4 (value_dim)"},
    {Run::kForward, [](ValidCall& s) { s.tensors.logsumexp.shape[3] = 4; },
     "forward: logsumexp.shape[3] is 4, expected 1 (one number per row)"},
    {Run::kForward, [](ValidCall& s) { s.tensors.bias.shape[0] = 3; },
     "forward: bias.shape[0] is 3, expected 1 or 2 (batch)"},
    {Run::kForward, [](ValidCall& s) { s.tensors.bias.shape[1] = 2; },
     "forward: bias.shape[1] is 2, expected 1 or 4 (query_heads)"},
    {Run::kForward, [](ValidCall& s) { s.tensors.bias.shape[2] = 5; },
     "forward: bias.shape[2] is 5, expected 1 or 6 (query_length)"},
    {Run::kForward, [](ValidCall& s) { s.tensors.bias.shape[3] = 1; },
     "forward: bias.shape[3] is 1, expected 5 (kv_length)"},
    {Run::kForward, [](ValidCall& s) { s.problem.has_bias = false; },
     "forward: bias.data is given, expected null, as the problem has no bias; set "
     "problem.has_bias"},
    {Run::kForward, [](ValidCall& s) { s.tensors.query.data = element(s.tensors.query, 0) + 2; },
     "forward: query.data is 2 bytes past an aligned address, expected a multiple of 4 bytes "
     "(fp32)"},
    {Run::kForward, [](ValidCall& s) { s.tensors.output.data = element(s.tensors.output, 0) + 1; },
     "forward: output.data is 1 bytes past an aligned address, expected a multiple of 4 bytes "
     "(fp32)"},
    {Run::kForward, [](ValidCall& s) { s.tensors.query.strides[0] = kHuge; },
     "forward: query.strides is [9223372036854775807, 48, 8, 1], expected offsets inside the "
     "address space for shape [2, 4, 6, 8]"},
    {Run::kForward, [](ValidCall& s) { s.tensors.query.strides[2] = kHuge / 4; },
     "forward: query.strides is [192, 48, 2305843009213693951, 1], expected offsets inside the "
     "address space for shape [2, 4, 6, 8]"},
    {Run::kForward, [](ValidCall& s) { s.tensors.key.strides[2] = -(int64_t{1} << 60); },
     "forward: key.strides is [80, 40, -1152921504606846976, 1], expected offsets inside the "
     "address space for shape [2, 2, 5, 8]"},
    {Run::kForward, [](ValidCall& s) { s.tensors.value.strides[1] = -(int64_t{1} << 59); },
     "forward: value.strides is [40, -576460752303423488, 4, 1], expected offsets inside the "
     "address space for shape [2, 2, 5, 4]"},
    {Run::kForward, [](ValidCall& s) { s.tensors.output.strides[0] = 0; },
     "forward: output.strides is [0, 24, 4, 1], expected an own address for every element of shape "
     "[2, 4, 6, 4]; only inputs may broadcast"},
    {Run::kForward, [](ValidCall& s) { s.tensors.output.strides[3] = 0; },
     "forward: output.strides is [96, 24, 4, 0], expected an own address for every element of "
     "shape [2, 4, 6, 4]; only inputs may broadcast"},
    {Run::kForward, [](ValidCall& s) { s.tensors.output.strides[2] = 3; },
     "forward: output.strides is [96, 24, 3, 1], expected an own address for every element of "
     "shape [2, 4, 6, 4]; only inputs may broadcast"},
    {Run::kForward,
     [](ValidCall& s) { s.tensors.logsumexp.strides[1] = s.tensors.logsumexp.strides[2]; },
     "forward: logsumexp.strides is [24, 1, 1, 1], expected an own address for every element of "
     "shape [2, 4, 6, 1]; only inputs may broadcast"},
    {Run::kForward, [](ValidCall& s) { s.tensors.output.data = s.tensors.query.data; },
     "forward: output is in the memory of query, expected memory of its own; nothing is computed "
     "in place"},
    {Run::kForward, [](ValidCall& s) { s.tensors.output.data = element(s.tensors.value, 39); },
     "forward: output is in the memory of value, expected memory of its own; nothing is computed "
     "in place"},
    {Run::kForward, [](ValidCall& s) { s.tensors.logsumexp.data = element(s.tensors.output, 3); },
     "forward: output is in the memory of logsumexp, expected memory of its own; nothing is "
     "computed in place"},
    {Run::kForward, [](ValidCall& s) { s.tensors.logsumexp.data = element(s.tensors.bias, 1); },
     "forward: logsumexp is in the memory of bias, expected memory of its own; nothing is computed "
     "in place"},
    {Run::kForward, [](ValidCall& s) { s.problem.has_sink = false; },
     "forward: sink.data is given, expected null, as the problem has no sink; set "
     "problem.has_sink"},
    {Run::kForward, [](ValidCall& s) { s.tensors.sink = {}; },
     "forward: sink.data is null, expected [1, query_heads, 1, 1], as the problem has a sink"},
    {Run::kForward, [](ValidCall& s) { s.tensors.sink.dtype = DType::kBFloat16; },
     "forward: sink.dtype is bf16, expected fp32"},
    {Run::kForward, [](ValidCall& s) { s.tensors.sink.shape[0] = 2; },
     "forward: sink.shape[0] is 2, expected 1 (shared by all batch entries)"},
    {Run::kForward, [](ValidCall& s) { s.tensors.sink.shape[1] = 2; },
     "forward: sink.shape[1] is 2, expected 4 (query_heads)"},
    {Run::kForward, [](ValidCall& s) { s.tensors.sink.shape[2] = 6; },
     "forward: sink.shape[2] is 6, expected 1 (one number per head)"},
    {Run::kForward, [](ValidCall& s) { s.tensors.output.data = s.tensors.sink.data; },
     "forward: output is in the memory of sink, expected memory of its own; nothing is computed "
     "in place"},
    {Run::kBackward, [](ValidCall& s) { s.problem.has_sink = false, s.tensors.sink = {}; },
     "backward: grad_sink.data is given, expected null, as the problem has no sink; set "
     "problem.has_sink"},
    {Run::kBackward, [](ValidCall& s) { s.tensors.grad_sink.dtype = DType::kFloat64; },
     "backward: grad_sink.dtype is fp64, expected fp32"},
    {Run::kBackward, [](ValidCall& s) { s.tensors.grad_sink.strides[1] = 0; },
     "backward: grad_sink.strides is [4, 0, 1, 1], expected an own address for every element of "
     "shape [1, 4, 1, 1]; only inputs may broadcast"},
    {Run::kBackward, [](ValidCall& s) { s.tensors.grad_sink.data = s.tensors.sink.data; },
     "backward: grad_sink is in the memory of sink, expected memory of its own; nothing is "
     "computed in place"},
    {Run::kBackward, [](ValidCall& s) { s.tensors.grad_sink.data = s.tensors.grad_key.data; },
     "backward: grad_key is in the memory of grad_sink, expected memory of its own; nothing is "
     "computed in place"},
    {Run::kBackward,
     [](ValidCall& s) { s.workspace_memory = s.base + 4096 * 13, s.workspace_shift = 0; },
     "backward: workspace is in the memory of grad_sink, expected memory of its own"},
    {Run::kForward, [](ValidCall& s) { s.has_workspace = false; },
     "forward: workspace.data is null, expected memory of plan.workspace_bytes(); use Workspace "
     "workspace(plan)"},
    {Run::kForward, [](ValidCall& s) { s.workspace_less = 1; },
     "forward: workspace.bytes is <needed - 1>, expected at least <needed> "
     "(plan.workspace_bytes())"},
    {Run::kForward, [](ValidCall& s) { s.workspace_shift = 32; },
     "forward: workspace.data is aligned to 32 bytes, expected an alignment of 64 bytes"},
    {Run::kForward, [](ValidCall& s) { s.workspace_memory = s.base, s.workspace_shift = 0; },
     "forward: workspace is in the memory of query, expected memory of its own"},
    {Run::kBackward, [](ValidCall& s) { s.tensors.logsumexp.data = nullptr; },
     "backward: logsumexp.data is null, expected the address of the first element"},
    {Run::kBackward, [](ValidCall& s) { s.tensors.output.data = nullptr; },
     "backward: output.data is null, expected the address of the first element"},
    {Run::kBackward, [](ValidCall& s) { s.tensors.grad_output.data = nullptr; },
     "backward: grad_output.data is null, expected the address of the first element"},
    {Run::kBackward, [](ValidCall& s) { s.tensors.grad_query.data = nullptr; },
     "backward: grad_query.data is null, expected the address of the first element"},
    {Run::kBackward, [](ValidCall& s) { s.tensors.grad_key.data = nullptr; },
     "backward: grad_key.data is null, expected the address of the first element"},
    {Run::kBackward, [](ValidCall& s) { s.tensors.grad_value.data = nullptr; },
     "backward: grad_value.data is null, expected the address of the first element"},
    {Run::kBackward, [](ValidCall& s) { s.tensors.grad_logsumexp.dtype = DType::kFloat16; },
     "backward: grad_logsumexp.dtype is fp16, expected fp32"},
    {Run::kBackward, [](ValidCall& s) { s.tensors.grad_logsumexp.shape[2] = 1; },
     "backward: grad_logsumexp.shape[2] is 1, expected 6 (query_length)"},
    {Run::kBackward, [](ValidCall& s) { s.tensors.grad_output.shape[3] = 8; },
     "backward: grad_output.shape[3] is 8, expected 4 (value_dim)"},
    {Run::kBackward, [](ValidCall& s) { s.tensors.grad_query.shape[3] = 4; },
     "backward: grad_query.shape[3] is 4, expected 8 (head_dim)"},
    {Run::kBackward, [](ValidCall& s) { s.tensors.grad_key.shape[1] = 4; },
     "backward: grad_key.shape[1] is 4, expected 2 (kv_heads)"},
    {Run::kBackward, [](ValidCall& s) { s.tensors.grad_value.dtype = DType::kBFloat16; },
     "backward: grad_value.dtype is bf16, expected fp32"},
    {Run::kBackward, [](ValidCall& s) { s.tensors.grad_bias.dtype = DType::kBFloat16; },
     "backward: grad_bias.dtype is bf16, expected fp32"},
    {Run::kBackward, [](ValidCall& s) { s.tensors.grad_bias.shape[0] = 1; },
     "backward: grad_bias.shape[0] is 1, expected 2 (as bias)"},
    {Run::kBackward, [](ValidCall& s) { s.tensors.bias.shape[1] = 1; },
     "backward: grad_bias.shape[1] is 4, expected 1 (as bias)"},
    {Run::kBackward,
     [](ValidCall& s) { s.problem.has_bias = false, s.tensors.bias.data = nullptr; },
     "backward: grad_bias.data is given, expected null, as the problem has no bias; set "
     "problem.has_bias"},
    {Run::kBackward, [](ValidCall& s) { s.tensors.grad_query.strides[1] = 0; },
     "backward: grad_query.strides is [192, 0, 8, 1], expected an own address for every element of "
     "shape [2, 4, 6, 8]; only inputs may broadcast"},
    {Run::kBackward, [](ValidCall& s) { s.tensors.grad_key.data = s.tensors.key.data; },
     "backward: grad_key is in the memory of key, expected memory of its own; nothing is computed "
     "in place"},
    {Run::kBackward, [](ValidCall& s) { s.tensors.grad_key.data = s.tensors.grad_query.data; },
     "backward: grad_query is in the memory of grad_key, expected memory of its own; nothing is "
     "computed in place"},
    {Run::kBackward,
     [](ValidCall& s) { s.tensors.grad_value.data = element(s.tensors.grad_bias, 2); },
     "backward: grad_value is in the memory of grad_bias, expected memory of its own; nothing is "
     "computed in place"},
    {Run::kBackward, [](ValidCall& s) { s.tensors.grad_bias.data = s.tensors.bias.data; },
     "backward: grad_bias is in the memory of bias, expected memory of its own; nothing is "
     "computed in place"},
    {Run::kBackward, [](ValidCall& s) { s.tensors.grad_query.data = s.tensors.grad_output.data; },
     "backward: grad_query is in the memory of grad_output, expected memory of its own; nothing is "
     "computed in place"},
    {Run::kBackward, [](ValidCall& s) { s.tensors.grad_bias.strides[2] = 0; },
     "backward: grad_bias.strides is [120, 30, 0, 1], expected an own address for every element of "
     "shape [2, 4, 6, 5]; only inputs may broadcast"},
    {Run::kBackward, [](ValidCall& s) { s.workspace_less = 1; },
     "backward: workspace.bytes is <needed - 1>, expected at least <needed> "
     "(plan.workspace_bytes())"},
    {Run::kBackward,
     [](ValidCall& s) { s.workspace_memory = s.base + 4096 * 12, s.workspace_shift = 0; },
     "backward: workspace is in the memory of grad_bias, expected memory of its own"},
};

// The size of a workspace depends on the machine.
void replace(std::string& text, const std::string& what, size_t number) {
  const size_t at = text.find(what);
  if (at != std::string::npos) text.replace(at, what.size(), std::to_string(number));
}

void PrintTo(const InvalidCase& invalid, std::ostream* out) { *out << invalid.message; }

class InvalidCall : public ::testing::TestWithParam<InvalidCase> {};

TEST_P(InvalidCall, IsRefusedInItsOwnWordsBeforeAnythingIsWritten) {
  ValidCall call;
  const std::vector<std::byte> before = call.arena;
  try {
    GetParam().break_it(call);
    call.run(GetParam().run == Run::kBackward);
    ADD_FAILURE() << "accepted; expected: " << GetParam().message;
  } catch (const InvalidArgument& error) {
    std::string expected = GetParam().message;
    replace(expected, "<needed>", call.needed);
    replace(expected, "<needed - 1>", call.needed - 1);
    EXPECT_EQ(error.what(), expected);
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  }
  EXPECT_EQ(call.arena, before);
}

INSTANTIATE_TEST_SUITE_P(Validate, InvalidCall, ::testing::ValuesIn(kCases));

TEST(Validate, TheTableIsLongEnough) { EXPECT_GE(std::size(kCases), 60U); }

TEST(Validate, TheUnbrokenCallIsAccepted) {
  ValidCall call;
  EXPECT_NO_THROW(call.run(false));
}

TEST(Validate, NormalizedFillsInDefaults) {
  Problem problem;
  problem.query_heads = 6;
  problem.head_dim = 16;
  const Problem result = normalized(problem);
  EXPECT_EQ(result.kv_heads, 6);
  EXPECT_EQ(result.value_dim, 16);
  EXPECT_EQ(*result.scale, 0.25);
}

TEST(Validate, NormalizedRoundsDropout) {
  Problem problem;
  problem.head_dim = 8;
  problem.dropout = 0.1;
  EXPECT_EQ(normalized(problem).dropout, 6554 / 65536.0);
  problem.dropout = 65535 / 65536.0;
  EXPECT_EQ(normalized(problem).dropout, 65535 / 65536.0);
}

TEST(Validate, ZeroIsAValidLength) {
  Problem problem;
  problem.head_dim = 1;
  problem.max_batch = 0;
  const Problem result = normalized(problem);
  Step step;
  step.batch = 0;
  EXPECT_NO_THROW(validate_step(result, step));
}

TEST(Validate, AnIsaThatDoesNotExist) {
  ValidCall call;
  call.options.isa = "avx9";
  EXPECT_THROW(call.run(false), InvalidArgument);
}

}  // namespace
}  // namespace tilewise
