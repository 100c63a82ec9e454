// SPDX-License-Identifier: Apache-2.0
// The oracle: attention and its gradients in plain loops and float64 (80-bit long double for
// float64 inputs, so that the oracle is finer than what it judges). No tiles, no online softmax, no
// code shared with the kernels; the meaning of a mask is written here a second time, from
// problem.h.
//
//   s_ij = scale * q_i . k_j + bias_ij         for visible pairs with bias_ij > -inf
//   p_ij = exp(s_ij - lse_i),  lse_i = log sum_j exp(s_ij),  o_i = sum_j p_ij v_j
//   ds_ij = p_ij (do_i . v_j - do_i . o_i + dlse_i)
//   dv_j = sum_i p_ij do_i,  dq_i = scale sum_j ds_ij k_j,  dk_j = scale sum_i ds_ij q_i,
//   dbias = ds summed over the axes that bias broadcasts
//
// A row with no such pair has o = 0, lse = -inf, dq = 0 and adds nothing. Pairs that are masked, or
// whose bias is -inf, are never read: NaN there reaches nothing.
#pragma once

#include <cstdint>
#include <vector>

#include "tilewise/problem.h"
#include "tilewise/tensor.h"

namespace tilewise::reference {

// Shapes as in plan.h; any dtypes and strides.
struct Inputs {
  Tensor query, key, value, bias;      // bias: data may be null
  Tensor grad_output, grad_logsumexp;  // backward only; grad_logsumexp: data may be null
  Mask mask = {};
  double scale = 1;
  int64_t query_offset = 0;
  int64_t key_offset = 0;
};

struct Row {
  int64_t batch;
  int64_t head;
  int64_t query;
};

// Dense, row-major.
struct Outputs {
  std::vector<double> output;     // [batch, heads, queries, value_dim], or [rows, value_dim]
  std::vector<double> logsumexp;  // [batch, heads, queries], or [rows]
};

// Dense, row-major, in the shape of what they are gradients of.
struct Gradients {
  std::vector<double> query, key, value;
  std::vector<double> bias;  // empty without a bias
};

// May query q see key k? Both are local: counted from the first query and key given.
[[nodiscard]] bool is_visible(const Mask& mask, int64_t query_length, int64_t kv_length,
                              int64_t query_offset, int64_t key_offset, int64_t q, int64_t k);

[[nodiscard]] std::vector<Row> all_rows(const Tensor& query);

[[nodiscard]] Outputs forward(const Inputs& inputs);
[[nodiscard]] Gradients backward(const Inputs& inputs);

// For long sequences. Forward of the given rows only; backward as if grad_output and grad_logsumexp
// were zero in every other row. Gradients still have their whole shapes.
[[nodiscard]] Outputs forward_rows(const Inputs& inputs, const std::vector<Row>& rows);
[[nodiscard]] Gradients backward_rows(const Inputs& inputs, const std::vector<Row>& rows);

}  // namespace tilewise::reference
