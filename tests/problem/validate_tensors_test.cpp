// SPDX-License-Identifier: Apache-2.0
// What must be accepted; what must be refused is the table in validate_test.cpp.
#include "problem/validate_tensors.h"

#include <gtest/gtest.h>

#include <vector>

#include "problem/valid_call.h"
#include "problem/validate.h"
#include "support/error_of.h"
#include "tilewise/error.h"

namespace tilewise {
namespace {

using testing::ValidCall;

void accept_backward(const ValidCall& call) {
  EXPECT_NO_THROW(validate_backward(normalized(call.problem), call.step, call.tensors));
}

TEST(ValidateTensors, PlainCall) { accept_backward(ValidCall()); }

TEST(ValidateTensors, InputsMayBroadcastReverseAndShareMemory) {
  ValidCall call;
  call.tensors.query.strides[0] = 0;
  call.tensors.key.strides[1] = 0;
  call.tensors.value = call.tensors.key;
  call.tensors.value.shape[3] = 4;
  call.tensors.bias.strides[2] = -5;
  call.tensors.bias.data = static_cast<float*>(call.tensors.bias.data) + 25;
  call.tensors.grad_output.strides[2] = 0;
  accept_backward(call);
}

TEST(ValidateTensors, GradientsPackedInOneBuffer) {
  ValidCall call;
  // Rows of [dq: 4 heads x 8 | dk: 2 x 8 | dv: 2 x 4], batch 2; 6 queries and 5 keys share rows.
  auto* base = static_cast<float*>(call.tensors.grad_query.data);
  const int64_t row = 4 * 8 + 2 * 8 + 2 * 4;
  const auto packed = [&](int64_t start, int64_t heads, int64_t length, int64_t dim) {
    return Tensor{base + start, DType::kFloat32, {2, heads, length, dim}, {6 * row, dim, row, 1}};
  };
  call.tensors.grad_query = packed(0, 4, 6, 8);
  call.tensors.grad_key = packed(32, 2, 5, 8);
  call.tensors.grad_value = packed(48, 2, 5, 4);
  call.tensors.grad_bias = {};
  accept_backward(call);
  call.tensors.grad_value = packed(47, 2, 5, 4);
  EXPECT_THROW(validate_backward(normalized(call.problem), call.step, call.tensors),
               InvalidArgument);
}

TEST(ValidateTensors, OptionalTensors) {
  ValidCall call;
  call.tensors.grad_logsumexp = {};
  call.tensors.grad_bias = {};
  call.tensors.grad_sink = {};
  accept_backward(call);
  ForwardTensors forward = {call.tensors.query,
                            call.tensors.key,
                            call.tensors.value,
                            call.tensors.bias,
                            call.tensors.output,
                            {},
                            {},
                            call.tensors.sink};
  EXPECT_NO_THROW(validate_forward(normalized(call.problem), call.step, forward));
}

TEST(ValidateTensors, BiasAndOutputOfFloat32InABFloat16Problem) {
  ValidCall call;
  call.problem.dtype = DType::kBFloat16;
  for (Tensor* tensor : {&call.tensors.query, &call.tensors.key, &call.tensors.value,
                         &call.tensors.output, &call.tensors.grad_output, &call.tensors.grad_query,
                         &call.tensors.grad_key, &call.tensors.grad_value}) {
    tensor->dtype = DType::kBFloat16;
  }
  accept_backward(call);
  call.tensors.bias.dtype = DType::kBFloat16;
  accept_backward(call);
  call.tensors.output.dtype = DType::kFloat32;  // and an output
  accept_backward(call);
}

TEST(ValidateTensors, EmptyTensorsNeedNoMemory) {
  ValidCall call;
  call.step.kv_length = 0;
  for (Tensor* tensor :
       {&call.tensors.key, &call.tensors.value, &call.tensors.grad_key, &call.tensors.grad_value}) {
    tensor->shape[2] = 0;
    tensor->data = nullptr;
  }
  call.tensors.bias.shape[3] = 0;
  call.tensors.bias.data = nullptr;
  call.tensors.grad_bias = {};
  accept_backward(call);
}

TEST(ValidateTensors, RaggedBatch) {
  ValidCall call;
  static const int32_t queries[] = {0, 2, 6}, keys[] = {0, 3, 5};
  call.step.query_starts = {queries, IntegerType::kInt32, 3};
  call.step.key_starts = {keys, IntegerType::kInt32, 3};
  for (Tensor* tensor :
       {&call.tensors.query, &call.tensors.key, &call.tensors.value, &call.tensors.output,
        &call.tensors.logsumexp, &call.tensors.grad_output, &call.tensors.grad_logsumexp,
        &call.tensors.grad_query, &call.tensors.grad_key, &call.tensors.grad_value})
    tensor->shape[0] = 1;
  accept_backward(call);  // the bias may be longer than the longest sequence
  for (Tensor* tensor : {&call.tensors.bias, &call.tensors.grad_bias})
    tensor->shape[2] = 4, tensor->shape[3] = 3;
  accept_backward(call);
  const auto error = [&] {
    return test::error_of(
        [&] { validate_backward(normalized(call.problem), call.step, call.tensors); });
  };
  call.tensors.bias.shape[2] = 3;
  EXPECT_EQ(error(),
            "backward: bias.shape[2] is 3, expected 1 or 4 or more (the longest sequence)");
  call.tensors.bias.shape[2] = 4, call.tensors.bias.shape[3] = 2;
  EXPECT_EQ(error(), "backward: bias.shape[3] is 2, expected 3 or more (the longest sequence)");
  call.tensors.bias.shape[3] = 3, call.tensors.bias.shape[0] = 3;
  EXPECT_EQ(error(), "backward: bias.shape[0] is 3, expected 1 or 2 (batch)");
  call.tensors.query.shape[0] = 2;
  EXPECT_EQ(error(),
            "backward: query.shape[0] is 2, expected 1 (the sequences lie one behind the other)");
}

}  // namespace
}  // namespace tilewise
