// SPDX-License-Identifier: Apache-2.0
// Attention with a function of the score, in plain loops: exact in long double, and naive in float
// or double with S, P, dP and dS stored in the dtype, which gives the tolerance.
#pragma once

#include <cmath>
#include <vector>

#include "kernels/cpu/backward_case.h"

namespace tilewise::backward_test {

struct ScoredResults {
  std::vector<double> output, logsumexp, dq, dk, dv, dbias;
};

// score(s, h, q, k) and its derivative by s; visible(q, k). Reads data.bias if the case has one.
template <class Real, class Score, class Derivative, class Visible>
ScoredResults scored_attention(const Data& data, const Score& score, const Derivative& derivative,
                               const Visible& visible) {
  const Case& c = data.c;
  constexpr bool kIsExact = sizeof(Real) > 8;
  const auto stored = [&](Real x) {
    if (kIsExact) return x;
    double memory;
    store_element(&memory, data.dtype, 0, static_cast<double>(x));
    return static_cast<Real>(load_element(&memory, data.dtype, 0));
  };
  const auto at = [](const Array& a, int64_t b, int64_t h, int64_t n, int64_t d) {
    return static_cast<Real>(load_element(a.view.data, a.view.dtype, a.offset(b, h, n, d)));
  };
  // As the launch has it.
  const auto scale = static_cast<Real>(1 / std::sqrt(static_cast<double>(c.head_dim)));
  const int64_t group = c.query_heads / c.kv_heads;
  ScoredResults result;
  result.dk.resize(static_cast<size_t>(c.batch * c.kv_heads * c.keys * c.head_dim));
  result.dv.resize(static_cast<size_t>(c.batch * c.kv_heads * c.keys * c.value_dim));
  std::vector<Real> dk(result.dk.size()), dv(result.dv.size());
  for (int64_t b = 0; b < c.batch; ++b)
    for (int64_t h = 0; h < c.query_heads; ++h)
      for (int64_t q = 0; q < c.queries; ++q) {
        const int64_t kv = h / group;
        std::vector<Real> raw(static_cast<size_t>(c.keys)), s(raw.size()), p(raw.size());
        std::vector<int64_t> keys;
        Real m = -std::numeric_limits<Real>::infinity();
        for (int64_t k = 0; k < c.keys; ++k) {
          if (!visible(q, k)) continue;
          Real dot = 0;
          for (int64_t d = 0; d < c.head_dim; ++d)
            dot += at(data.q, b, h, q, d) * at(data.k, b, kv, k, d);
          const auto i = static_cast<size_t>(k);
          raw[i] = scale * dot;
          Real x = score(raw[i], h, q, k);
          if (c.bias) x += at(data.bias, b, h, q, k);
          s[i] = stored(x);
          if (s[i] == -std::numeric_limits<Real>::infinity()) continue;
          keys.push_back(k);
          m = std::max(m, s[i]);
        }
        Real sum = 0;
        for (const int64_t k : keys) sum += std::exp(s[static_cast<size_t>(k)] - m);
        const Real lse = keys.empty() ? m : m + std::log(sum);
        result.logsumexp.push_back(static_cast<double>(lse));
        for (const int64_t k : keys) {
          const auto i = static_cast<size_t>(k);
          p[i] = stored(std::exp(s[i] - lse));
        }
        for (int64_t d = 0; d < c.value_dim; ++d) {
          Real o = 0;
          for (const int64_t k : keys) o += p[static_cast<size_t>(k)] * at(data.v, b, kv, k, d);
          result.output.push_back(static_cast<double>(stored(o)));
        }
        Real delta = 0;
        std::vector<Real> dp(raw.size()), dq(static_cast<size_t>(c.head_dim));
        for (const int64_t k : keys) {
          const auto i = static_cast<size_t>(k);
          Real dot = 0;
          for (int64_t d = 0; d < c.value_dim; ++d)
            dot += at(data.g, b, h, q, d) * at(data.v, b, kv, k, d);
          dp[i] = stored(dot);
          delta += p[i] * dp[i];
        }
        if (c.dlse) delta -= at(data.dlse, b, h, q, 0);
        result.dbias.resize(result.dbias.size() + raw.size());
        for (const int64_t k : keys) {
          const auto i = static_cast<size_t>(k);
          const Real ds_bias = p[i] * (dp[i] - delta);
          const Real ds = stored(ds_bias * derivative(raw[i], h, q, k));
          result.dbias[result.dbias.size() - raw.size() + i] = static_cast<double>(stored(ds_bias));
          const auto row = static_cast<size_t>((b * c.kv_heads + kv) * c.keys + k);
          for (size_t d = 0; d < dq.size(); ++d) {
            dq[d] += ds * at(data.k, b, kv, k, static_cast<int64_t>(d));
            dk[row * dq.size() + d] += ds * at(data.q, b, h, q, static_cast<int64_t>(d));
          }
          for (int64_t d = 0; d < c.value_dim; ++d)
            dv[row * static_cast<size_t>(c.value_dim) + static_cast<size_t>(d)] +=
                p[i] * at(data.g, b, h, q, d);
        }
        for (const Real x : dq) result.dq.push_back(static_cast<double>(stored(scale * x)));
      }
  for (size_t i = 0; i < dk.size(); ++i) result.dk[i] = static_cast<double>(stored(scale * dk[i]));
  for (size_t i = 0; i < dv.size(); ++i) result.dv[i] = static_cast<double>(stored(dv[i]));
  return result;
}

}  // namespace tilewise::backward_test
