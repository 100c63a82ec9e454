// SPDX-License-Identifier: Apache-2.0
// One problem as the structs of the C ABI, and its tensors as those of C++.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "tilewise/tilewise.h"
#include "tilewise/tilewise_c.h"

namespace tilewise::capi {

template <class Struct>
[[nodiscard]] Struct sized() {
  Struct s;
  std::memset(&s, 0, sizeof s);
  s.struct_size = sizeof s;
  return s;
}

[[nodiscard]] inline tilewise_tensor view(float* data, int64_t heads, int64_t length, int64_t dim) {
  tilewise_tensor t = sized<tilewise_tensor>();
  t.data = data;
  t.dtype = TILEWISE_FLOAT32;
  const int64_t shape[] = {1, heads, length, dim},
                strides[] = {heads * length * dim, length * dim, dim, 1};
  std::memcpy(t.shape, shape, sizeof shape);
  std::memcpy(t.strides, strides, sizeof strides);
  return t;
}

// A causal problem of two heads, with everything that a run needs.
struct CSetup {
  static constexpr int64_t kHeads = 2, kLength = 170, kDim = 24,
                           kElements = kHeads * kLength * kDim;
  std::vector<float> q, k, v, o, d_o, d_q, d_k, d_v, lse;
  tilewise_problem problem = sized<tilewise_problem>();
  tilewise_step step = sized<tilewise_step>();
  tilewise_tensor tq, tk, tv, to, tdo, tdq, tdk, tdv, tl;
  tilewise_forward_tensors forward = sized<tilewise_forward_tensors>();
  tilewise_backward_tensors backward = sized<tilewise_backward_tensors>();
  tilewise_plan* plan = nullptr;
  tilewise_schedule* schedule = nullptr;
  tilewise_workspace* workspace = nullptr;

  CSetup() {
    for (auto* x : {&q, &k, &v, &o, &d_o, &d_q, &d_k, &d_v}) x->resize(kElements);
    lse.resize(kHeads * kLength);
    for (int64_t i = 0; i < kElements; ++i) {
      const auto x = static_cast<double>(i);
      q[i] = static_cast<float>(std::sin(0.7 * x));
      k[i] = static_cast<float>(std::cos(1.3 * x));
      v[i] = static_cast<float>(std::sin(0.2 * x + 1));
      d_o[i] = static_cast<float>(std::cos(0.9 * x));
    }
    tq = view(q.data(), kHeads, kLength, kDim);
    tk = view(k.data(), kHeads, kLength, kDim);
    tv = view(v.data(), kHeads, kLength, kDim);
    to = view(o.data(), kHeads, kLength, kDim);
    tdo = view(d_o.data(), kHeads, kLength, kDim);
    tdq = view(d_q.data(), kHeads, kLength, kDim);
    tdk = view(d_k.data(), kHeads, kLength, kDim);
    tdv = view(d_v.data(), kHeads, kLength, kDim);
    tl = view(lse.data(), kHeads, kLength, 1);
    problem.query_heads = kHeads;
    problem.max_query_length = problem.max_kv_length = kLength;
    problem.head_dim = kDim;
    problem.mask = "causal";
    step.batch = 1;
    step.query_length = step.kv_length = kLength;
    forward.query = backward.query = &tq;
    forward.key = backward.key = &tk;
    forward.value = backward.value = &tv;
    forward.output = backward.output = &to;
    forward.logsumexp = backward.logsumexp = &tl;
    backward.grad_output = &tdo;
    backward.grad_query = &tdq;
    backward.grad_key = &tdk;
    backward.grad_value = &tdv;
  }
  ~CSetup() {
    tilewise_workspace_destroy(workspace);
    tilewise_schedule_destroy(schedule);
    tilewise_plan_destroy(plan);
  }
  static Tensor tensor(std::vector<float>& x) {
    return Tensor::bhsd(x.data(), DType::kFloat32, 1, kHeads, kLength,
                        static_cast<int64_t>(x.size()) / (kHeads * kLength));
  }
  ForwardTensors cpp_forward() {
    return {tensor(q), tensor(k), tensor(v), {}, tensor(o), tensor(lse)};
  }
  BackwardTensors cpp_backward() {
    BackwardTensors b;
    b.query = tensor(q);
    b.key = tensor(k);
    b.value = tensor(v);
    b.output = tensor(o);
    b.logsumexp = tensor(lse);
    b.grad_output = tensor(d_o);
    b.grad_query = tensor(d_q);
    b.grad_key = tensor(d_k);
    b.grad_value = tensor(d_v);
    return b;
  }
  void make(const tilewise_plan_options* options = nullptr) {
    ASSERT_EQ(tilewise_plan_create(&problem, options, &plan), TILEWISE_OK) << tilewise_last_error();
    ASSERT_EQ(tilewise_schedule_create(plan, &step, &schedule), TILEWISE_OK)
        << tilewise_last_error();
    ASSERT_EQ(tilewise_workspace_create(plan, nullptr, 0, &workspace), TILEWISE_OK)
        << tilewise_last_error();
  }
};

}  // namespace tilewise::capi
