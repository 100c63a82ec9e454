// SPDX-License-Identifier: Apache-2.0
// Attention in float64 from its definition, for small shapes, forward and backward. Shares nothing
// with the library.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

namespace tilewise::cli {

struct PlainShape {
  int64_t batch, heads, kv_heads, length, kv_length, dim, value_dim;
};

struct PlainAttention {
  PlainShape shape;
  std::function<bool(int64_t q, int64_t k)> visible;
  double scale;
  std::vector<double> q, k, v, bias, grad_o,
      grad_lse;  // bias [1, heads, 1, kv_length]; may be empty
  std::vector<double> o, lse, dq, dk, dv, dbias;

  void run() {
    const auto& s = shape;
    const auto rows = static_cast<size_t>(s.batch * s.heads * s.length);
    o.assign(rows * static_cast<size_t>(s.value_dim), 0);
    lse.assign(rows, -std::numeric_limits<double>::infinity());
    dq.assign(q.size(), 0);
    dk.assign(k.size(), 0);
    dv.assign(v.size(), 0);
    dbias.assign(bias.size(), 0);
    for (int64_t b = 0; b < s.batch; ++b) {
      for (int64_t h = 0; h < s.heads; ++h) {
        for (int64_t i = 0; i < s.length; ++i) run_row(b, h, i);
      }
    }
  }

 private:
  void run_row(int64_t b, int64_t h, int64_t i) {
    const auto& s = shape;
    const int64_t row = (b * s.heads + h) * s.length + i;
    const int64_t kv = (b * s.kv_heads + h / (s.heads / s.kv_heads)) * s.kv_length;
    const double* q_i = &q[row * s.dim];
    std::vector<double> p(static_cast<size_t>(s.kv_length), 0);
    double sum = 0;
    for (int64_t j = 0; j < s.kv_length; ++j) {
      if (!visible(i, j)) continue;
      double score = 0;
      for (int64_t d = 0; d < s.dim; ++d) score += q_i[d] * k[(kv + j) * s.dim + d];
      p[j] = std::exp(scale * score + (bias.empty() ? 0 : bias[h * s.kv_length + j]));
      sum += p[j];
    }
    if (sum == 0) return;
    lse[row] = std::log(sum);
    double delta = 0;
    for (int64_t j = 0; j < s.kv_length; ++j) p[j] /= sum;
    for (int64_t e = 0; e < s.value_dim; ++e) {
      double& o_e = o[row * s.value_dim + e];
      for (int64_t j = 0; j < s.kv_length; ++j) o_e += p[j] * v[(kv + j) * s.value_dim + e];
      if (!grad_o.empty()) delta += o_e * grad_o[row * s.value_dim + e];
    }
    if (grad_o.empty()) return;
    if (!grad_lse.empty()) delta -= grad_lse[row];
    for (int64_t j = 0; j < s.kv_length; ++j) {
      double dp = 0;
      for (int64_t e = 0; e < s.value_dim; ++e) {
        dp += grad_o[row * s.value_dim + e] * v[(kv + j) * s.value_dim + e];
        dv[(kv + j) * s.value_dim + e] += p[j] * grad_o[row * s.value_dim + e];
      }
      const double ds = p[j] * (dp - delta);
      if (!bias.empty()) dbias[h * s.kv_length + j] += ds;
      for (int64_t d = 0; d < s.dim; ++d) {
        dq[row * s.dim + d] += scale * ds * k[(kv + j) * s.dim + d];
        dk[(kv + j) * s.dim + d] += scale * ds * q_i[d];
      }
    }
  }
};

}  // namespace tilewise::cli
