// SPDX-License-Identifier: Apache-2.0
// The oracle: attention and its gradients in plain loops and float64 (80-bit long double for
// float64 inputs, so that the oracle is finer than what it judges). No tiles, no online softmax, no
// code shared with the kernels; a mask is its expression, evaluated at one pair after the other.
//
//   s_ij = score(scale * q_i . k_j) + bias_ij  for visible pairs with s_ij > -inf
//   p_ij = exp(s_ij - lse_i),  lse_i = log (sum_j exp(s_ij) + exp(sink)),
//   o_i = sum_j z_ij p_ij v_j, with z_ij of dropout: 1 without it, 0 for a dropped pair (dropout.h)
//   ds_ij = p_ij (z_ij do_i . v_j - do_i . o_i + dlse_i)
//   dv_j = sum_i z_ij p_ij do_i,  dbias = ds summed over the axes that bias broadcasts,
//   dsink = -sum_i exp(sink - lse_i) (do_i . o_i - dlse_i), over batch and rows of a head,
//   dtable = ds * d score / d table, summed over the pairs where that derivative is not 0,
//   and with dr_ij = ds_ij * d score / d s: dq_i = scale sum_j dr_ij k_j, dk_j = scale sum_i dr_ij
//   q_i
//
// A row with no such pair has o = 0, lse = sink, dq = 0 and adds dlse to dsink, nothing elsewhere.
// A sink of -inf is none. Pairs that are masked, or whose bias is -inf, are never read: NaN there
// reaches nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "expr/eval_scalar.h"
#include "kernels/reference/dropout.h"
#include "tilewise/problem.h"
#include "tilewise/step.h"

namespace tilewise::reference {

// Shapes as in plan.h; any dtypes and strides.
struct Inputs {
  Tensor query, key, value, bias;      // bias: data may be null
  Tensor sink = {};                    // data may be null
  Tensor grad_output, grad_logsumexp;  // backward only; grad_logsumexp: data may be null
  Mask mask = {};
  Score score = {};
  double scale = 1;
  Step step = {};  // offsets, tables and scalars; lengths are those of the tensors
  std::vector<NamedTensor> tables = {};  // of the score
  double dropout = 0;
  uint64_t dropout_seed = 0;

  // What P of a pair is multiplied by; local indices.
  [[nodiscard]] double dropout_of(int64_t b, int64_t h, int64_t q, int64_t k) const {
    return dropout_factor(dropout, dropout_seed, step.batch_offset + b, step.head_offset + h,
                          step.query_offset + q, step.key_offset + k);
  }
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
  std::vector<double> bias;                      // empty without a bias
  std::vector<double> sink = {};                 // empty without a sink
  std::vector<std::vector<double>> tables = {};  // as Inputs::tables
  // Elements of sink and of each table as kTerms sums, [elements, kTerms]: term n has what the rows
  // n, n + kTerms, ... of all heads add.
  std::vector<double> sink_terms = {};
  std::vector<std::vector<double>> table_terms = {};
};
inline constexpr int64_t kTerms = 64;

// Which pairs of one head are visible. Throws InvalidArgument where the mask's data is missing.
class Visibility {
 public:
  Visibility(const Inputs& inputs, int64_t batch, int64_t head);
  Visibility(const Visibility&) = delete;
  Visibility& operator=(const Visibility&) = delete;
  // May query q see key k? Both are local: counted from the first query and key given.
  [[nodiscard]] bool operator()(int64_t q, int64_t k);

 private:
  Mask mask_;
  expr::Point point_;
  expr::Values values_;
  std::optional<expr::ScalarEvaluator> evaluator_;  // none: every key is visible
};

// The data of an expression; bind.h throws where some is missing.
[[nodiscard]] expr::Values bind_to(const expr::Expression& expression, const Inputs& inputs);

[[nodiscard]] std::vector<Row> all_rows(const Tensor& query);

[[nodiscard]] Outputs forward(const Inputs& inputs);
[[nodiscard]] Gradients backward(const Inputs& inputs);

// For long sequences. Forward of the given rows only; backward as if grad_output and grad_logsumexp
// were zero in every other row. Gradients still have their whole shapes.
[[nodiscard]] Outputs forward_rows(const Inputs& inputs, const std::vector<Row>& rows);
[[nodiscard]] Gradients backward_rows(const Inputs& inputs, const std::vector<Row>& rows);

}  // namespace tilewise::reference
