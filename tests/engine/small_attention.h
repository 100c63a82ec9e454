// SPDX-License-Identifier: Apache-2.0
// A small attention problem with its tensors, and what comes out of three plain float64 loops. It
// shares nothing with the library: not its masks, not its reference.
#pragma once

#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/random.h"
#include "tilewise/plan.h"

namespace tilewise::testing {

// A tensor that owns its memory; values are kept in float64 as well.
struct Array {
  Tensor tensor;
  std::vector<std::byte> bytes;

  Array(DType dtype, int64_t batch, int64_t heads, int64_t length, int64_t dim,
        bool is_bshd = false)
      : tensor(is_bshd ? Tensor::bshd(nullptr, dtype, batch, length, heads, dim)
                       : Tensor::bhsd(nullptr, dtype, batch, heads, length, dim)),
        bytes(static_cast<size_t>(batch * heads * length * dim * dtype_bytes(dtype)),
              std::byte{0x7b}) {
    tensor.data = bytes.data();
  }
  [[nodiscard]] int64_t index(int64_t b, int64_t h, int64_t n, int64_t i) const {
    const int64_t* s = tensor.strides;
    const int64_t* e = tensor.shape;  // axes of extent 1 broadcast
    return (e[0] == 1 ? 0 : b * s[0]) + (e[1] == 1 ? 0 : h * s[1]) + (e[2] == 1 ? 0 : n * s[2]) +
           i * s[3];
  }
  [[nodiscard]] double at(int64_t b, int64_t h, int64_t n, int64_t i) const {
    return load_element(bytes.data(), tensor.dtype, index(b, h, n, i));
  }
  void fill_normal(Random& random) {
    const int64_t count = static_cast<int64_t>(bytes.size()) / dtype_bytes(tensor.dtype);
    for (int64_t i = 0; i < count; ++i) {
      store_element(bytes.data(), tensor.dtype, i, random.normal());
    }
  }
};

// All values of an array, converted once.
class Values {
 public:
  explicit Values(const Array& array) : array_(array) {
    const int64_t count =
        static_cast<int64_t>(array.bytes.size()) / dtype_bytes(array.tensor.dtype);
    for (int64_t i = 0; i < count; ++i) {
      values_.push_back(load_element(array.bytes.data(), array.tensor.dtype, i));
    }
  }
  double operator()(int64_t b, int64_t h, int64_t n, int64_t i) const {
    return values_[static_cast<size_t>(array_.index(b, h, n, i))];
  }

 private:
  const Array& array_;
  std::vector<double> values_;
};

// Rows of float64 in BHSD order.
struct Expected {
  std::vector<double> output, logsumexp, grad_query, grad_key, grad_value, grad_bias;
};

struct SmallAttention {
  Problem problem;
  Step step;
  int64_t bias_batch = 1, bias_heads = 1, bias_queries = 1;
  std::function<bool(int64_t q, int64_t k)> sees;  // local indices
  Array query, key, value, bias, output, logsumexp;
  Array grad_output, grad_logsumexp, grad_query, grad_key, grad_value, grad_bias;

  static Problem complete(Problem problem) {
    if (problem.kv_heads == 0) problem.kv_heads = problem.query_heads;
    if (problem.value_dim == 0) problem.value_dim = problem.head_dim;
    return problem;
  }
  static DType real(DType dtype) {
    return dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  }

  // problem: heads, dims, dtype, mask, has_bias, maxima; the bias has the extents given.
  SmallAttention(const Problem& p, const Step& s, std::function<bool(int64_t, int64_t)> visible,
                 int64_t bias_b = 1, int64_t bias_h = 1, int64_t bias_n = 1)
      : problem(complete(p)),
        step(s),
        bias_batch(bias_b),
        bias_heads(bias_h),
        bias_queries(bias_n),
        sees(std::move(visible)),
        query(p.dtype, s.batch, p.query_heads, s.query_length, p.head_dim),
        key(p.dtype, s.batch, problem.kv_heads, s.kv_length, p.head_dim, true),
        value(p.dtype, s.batch, problem.kv_heads, s.kv_length, problem.value_dim),
        bias(p.dtype, bias_b, bias_h, bias_n, s.kv_length),
        output(p.dtype, s.batch, p.query_heads, s.query_length, problem.value_dim, true),
        logsumexp(real(p.dtype), s.batch, p.query_heads, s.query_length, 1),
        grad_output(p.dtype, s.batch, p.query_heads, s.query_length, problem.value_dim),
        grad_logsumexp(real(p.dtype), s.batch, p.query_heads, s.query_length, 1),
        grad_query(p.dtype, s.batch, p.query_heads, s.query_length, p.head_dim),
        grad_key(p.dtype, s.batch, problem.kv_heads, s.kv_length, p.head_dim),
        grad_value(p.dtype, s.batch, problem.kv_heads, s.kv_length, problem.value_dim, true),
        grad_bias(real(p.dtype), bias_b, bias_h, bias_n, s.kv_length) {
    Random random(20261124, static_cast<uint64_t>(s.query_length * 1000 + s.kv_length));
    for (Array* array : {&query, &key, &value, &bias, &grad_output, &grad_logsumexp}) {
      array->fill_normal(random);
    }
  }

  [[nodiscard]] ForwardTensors forward_tensors() const {
    return {query.tensor,  key.tensor,      value.tensor, problem.has_bias ? bias.tensor : Tensor{},
            output.tensor, logsumexp.tensor};
  }
  [[nodiscard]] BackwardTensors backward_tensors() const {
    return {query.tensor,       key.tensor,
            value.tensor,       problem.has_bias ? bias.tensor : Tensor{},
            output.tensor,      logsumexp.tensor,
            grad_output.tensor, grad_logsumexp.tensor,
            grad_query.tensor,  grad_key.tensor,
            grad_value.tensor,  problem.has_bias ? grad_bias.tensor : Tensor{}};
  }

  // One row at a time: probabilities, output, and all the gradients that the row feeds.
  [[nodiscard]] Expected expected() const {
    const int64_t N = step.query_length, M = step.kv_length, d = problem.head_dim;
    const int64_t e = problem.value_dim, H = problem.query_heads, G = problem.kv_heads;
    const double scale = problem.scale ? *problem.scale : 1.0 / std::sqrt(static_cast<double>(d));
    const Values Q(query), K(key), V(value), B(bias), dO(grad_output), dL(grad_logsumexp);
    Expected x;
    const auto rows = static_cast<size_t>(step.batch * H * N);
    const auto keys = static_cast<size_t>(step.batch * G * M);
    x.output.resize(rows * static_cast<size_t>(e));
    x.logsumexp.resize(rows);
    x.grad_query.resize(rows * static_cast<size_t>(d));
    x.grad_key.resize(keys * static_cast<size_t>(d));
    x.grad_value.resize(keys * static_cast<size_t>(e));
    x.grad_bias.resize(static_cast<size_t>(bias_batch * bias_heads * bias_queries * M));
    for (int64_t b = 0; b < step.batch; ++b) {
      for (int64_t h = 0; h < H; ++h) {
        for (int64_t q = 0; q < N; ++q) {
          const int64_t g = h / (H / G);
          const int64_t row = (b * H + h) * N + q;
          std::vector<double> p(static_cast<size_t>(M));
          double sum = 0;
          for (int64_t k = 0; k < M; ++k) {
            if (!sees(q, k)) continue;
            double score = problem.has_bias ? B(b, h, q, k) : 0.0;
            for (int64_t i = 0; i < d; ++i) score += scale * Q(b, h, q, i) * K(b, g, k, i);
            p[static_cast<size_t>(k)] = std::exp(score);
            sum += p[static_cast<size_t>(k)];
          }
          x.logsumexp[static_cast<size_t>(row)] =
              sum > 0 ? std::log(sum) : -std::numeric_limits<double>::infinity();
          double delta = -dL(b, h, q, 0);
          for (int64_t k = 0; k < M; ++k) {
            if (!sees(q, k)) continue;
            p[static_cast<size_t>(k)] /= sum;
            for (int64_t i = 0; i < e; ++i) {
              const double o = p[static_cast<size_t>(k)] * V(b, g, k, i);
              x.output[static_cast<size_t>(row * e + i)] += o;
              delta += o * dO(b, h, q, i);
            }
          }
          for (int64_t k = 0; k < M; ++k) {
            const double p_k = p[static_cast<size_t>(k)];
            if (!sees(q, k)) continue;
            const int64_t column = (b * G + g) * M + k;
            double dp = 0;
            for (int64_t i = 0; i < e; ++i) {
              dp += dO(b, h, q, i) * V(b, g, k, i);
              x.grad_value[static_cast<size_t>(column * e + i)] += p_k * dO(b, h, q, i);
            }
            const double ds = p_k * (dp - delta);
            for (int64_t i = 0; i < d; ++i) {
              x.grad_query[static_cast<size_t>(row * d + i)] += scale * ds * K(b, g, k, i);
              x.grad_key[static_cast<size_t>(column * d + i)] += scale * ds * Q(b, h, q, i);
            }
            const int64_t at =
                ((bias_batch == 1 ? 0 : b) * bias_heads + (bias_heads == 1 ? 0 : h)) *
                    bias_queries +
                (bias_queries == 1 ? 0 : q);
            x.grad_bias[static_cast<size_t>(at * M + k)] += ds;
          }
        }
      }
    }
    return x;
  }
};

// Largest |got - expected| over max(1, largest |expected|), infinite if an infinity or NaN differs.
inline double relative_error(const Array& got, const std::vector<double>& expected) {
  double error = 0;
  double largest = 1;
  size_t at = 0;
  const int64_t* e = got.tensor.shape;
  for (int64_t b = 0; b < e[0]; ++b) {
    for (int64_t h = 0; h < e[1]; ++h) {
      for (int64_t n = 0; n < e[2]; ++n) {
        for (int64_t i = 0; i < e[3]; ++i, ++at) {
          const double a = got.at(b, h, n, i);
          const double x = expected[at];
          if (a == x) continue;
          if (!std::isfinite(a) || !std::isfinite(x))
            return std::numeric_limits<double>::infinity();
          error = std::max(error, std::abs(a - x));
          largest = std::max(largest, std::abs(x));
        }
      }
    }
  }
  return error / largest;
}

// Enough to catch any wrong index; the library's error bound has its own test.
inline double tolerance(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return 1e-5;
    case DType::kBFloat16:
      return 3e-2;
    case DType::kFloat16:
      return 4e-3;
    case DType::kFloat64:
      return 1e-12;
  }
  return 0;
}

}  // namespace tilewise::testing
