// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_data.h"

#include <algorithm>
#include <utility>

#include "base/dtype.h"
#include "base/random.h"
#include "cli/problem_options.h"
#include "engine/head_tiles.h"
#include "engine/work.h"
#include "schedule/io_model.h"
#include "tilewise/executor.h"

namespace tilewise::cli {
namespace {

using Shape = std::vector<int64_t>;

// The streams of different tensors never meet: a tensor has fewer heads than this.
constexpr uint64_t kStreamsPerTensor = uint64_t{1} << 40;

Shape query_shape(const Problem& p, int64_t dim) {
  return {p.max_batch, p.query_heads, p.max_query_length, dim};
}

Shape key_shape(const Problem& p, int64_t dim) {
  return {p.max_batch, p.kv_heads, p.max_kv_length, dim};
}

// Every head has a stream of its own, so that threads can share the work.
io::Array normal_array(DType dtype, const Shape& shape, uint64_t seed, uint64_t tensor) {
  io::Array array(dtype, shape);
  const int64_t heads = shape[0] * shape[1], size = shape[2] * shape[3];
  Executor& executor = default_executor();
  int64_t counter = 0;
  run_items(executor, executor.max_workers(), heads, &counter, [&](int64_t head, int) {
    Random random(seed, tensor * kStreamsPerTensor + static_cast<uint64_t>(head));
    for (int64_t i = 0; i < size; ++i) {
      store_element(array.data(), dtype, head * size + i, random.normal());
    }
  });
  return array;
}

DType real_dtype(DType dtype) {
  return dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
}

io_model::Sizes sizes_of(const Problem& p) {
  return {p.max_batch,     p.query_heads, p.kv_heads, p.max_query_length,
          p.max_kv_length, p.head_dim,    p.value_dim};
}

}  // namespace

int64_t visible_pairs(const Problem& problem, const Step& step) {
  return count_visible_pairs(problem.mask, step, problem.query_heads);
}

double forward_flops(const Problem& problem, const Step& step) {
  return static_cast<double>(
      io_model::forward_flops(sizes_of(problem), visible_pairs(problem, step)));
}

double backward_flops(const Problem& problem, const Step& step) {
  return static_cast<double>(
      io_model::backward_flops(sizes_of(problem), visible_pairs(problem, step)));
}

double forward_flops(const Problem& problem) { return forward_flops(problem, step_of(problem)); }
double backward_flops(const Problem& problem) { return backward_flops(problem, step_of(problem)); }

BenchData::BenchData(const Problem& problem, uint64_t seed, bool with_backward,
                     const std::vector<NamedTensor>& tables) {
  tensors_.tables = tables;
  if (problem.dropout > 0) tensors_.dropout_seed = seed;
  const Problem& p = problem;
  const auto draw = [&](const Shape& shape, uint64_t tensor) {
    return keep(normal_array(p.dtype, shape, seed, tensor), tensor_bytes_);
  };
  tensors_.query = draw(query_shape(p, p.head_dim), 0);
  tensors_.key = draw(key_shape(p, p.head_dim), 1);
  tensors_.value = draw(key_shape(p, p.value_dim), 2);
  if (with_backward) tensors_.grad_output = draw(query_shape(p, p.value_dim), 3);
  add_results(p, with_backward);
}

BenchData::BenchData(const Problem& problem, io::Array query, io::Array key, io::Array value,
                     std::optional<io::Array> grad_output, uint64_t seed) {
  const Problem& p = problem;
  tensors_.query = keep(std::move(query), tensor_bytes_);
  tensors_.key = keep(std::move(key), tensor_bytes_);
  tensors_.value = keep(std::move(value), tensor_bytes_);
  if (!grad_output) grad_output = normal_array(p.dtype, query_shape(p, p.value_dim), seed, 3);
  tensors_.grad_output = keep(std::move(*grad_output), tensor_bytes_);
  add_results(p, true);
}

Tensor BenchData::keep(io::Array array, int64_t& bytes) {
  bytes += array.bytes();
  arrays_.push_back(std::move(array));
  return arrays_.back().tensor();
}

void BenchData::add_results(const Problem& p, bool with_backward) {
  const auto sink = [&p] {
    return io::Array(real_dtype(p.dtype), Shape{1, p.query_heads, 1, 1});  // zeros
  };
  if (p.has_sink) tensors_.sink = keep(sink(), tensor_bytes_);
  if (p.has_sink && with_backward) tensors_.grad_sink = keep(sink(), tensor_bytes_);
  tensors_.output = keep(io::Array(p.dtype, query_shape(p, p.value_dim)), tensor_bytes_);
  tensors_.logsumexp = keep(io::Array(real_dtype(p.dtype), query_shape(p, 1)), logsumexp_bytes_);
  if (!with_backward) return;
  tensors_.grad_query = keep(io::Array(p.dtype, query_shape(p, p.head_dim)), tensor_bytes_);
  tensors_.grad_key = keep(io::Array(p.dtype, key_shape(p, p.head_dim)), tensor_bytes_);
  tensors_.grad_value = keep(io::Array(p.dtype, key_shape(p, p.value_dim)), tensor_bytes_);
}

ForwardTensors BenchData::forward_tensors() const {
  return {.query = tensors_.query,
          .key = tensors_.key,
          .value = tensors_.value,
          .bias = {},
          .output = tensors_.output,
          .logsumexp = tensors_.logsumexp,
          .tables = tensors_.tables,
          .sink = tensors_.sink,
          .dropout_seed = tensors_.dropout_seed};
}

}  // namespace tilewise::cli
