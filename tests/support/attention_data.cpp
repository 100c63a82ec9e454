// SPDX-License-Identifier: Apache-2.0
#include "support/attention_data.h"

#include <algorithm>
#include <cstring>

#include "base/dtype.h"
#include "base/random.h"
#include "tilewise/problem.h"

namespace tilewise::test {
namespace {

DType wide(DType dtype) { return dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32; }

}  // namespace

Buffer::Buffer(DType dtype, const verify::Layout& layout, int64_t batch, int64_t heads,
               int64_t length, int64_t dim, uint8_t fill)
    : shape{batch, heads, length, dim}, dtype_(dtype), placement_(verify::place(layout, shape)) {
  memory_.assign(placement_.elements * dtype_bytes(dtype) + 8, fill);
}

Tensor Buffer::tensor() const {
  if (memory_.empty()) return {};
  Tensor t = Tensor::bhsd(nullptr, dtype_, shape[0], shape[1], shape[2], shape[3]);
  t.data = const_cast<uint8_t*>(memory_.data()) + placement_.origin * dtype_bytes(dtype_);
  std::copy(placement_.strides, placement_.strides + 4, t.strides);
  return t;
}

int64_t Buffer::index(int64_t b, int64_t h, int64_t i, int64_t c) const {
  return placement_.origin + b * placement_.strides[0] + h * placement_.strides[1] +
         i * placement_.strides[2] + c * placement_.strides[3];
}

double Buffer::get(int64_t b, int64_t h, int64_t i, int64_t c) const {
  return load_element(memory_.data(), dtype_, index(b, h, i, c));
}

void Buffer::set(int64_t b, int64_t h, int64_t i, int64_t c, double value) {
  store_element(memory_.data(), dtype_, index(b, h, i, c), value);
}

void Buffer::set_row(int64_t b, int64_t h, int64_t i, double value) {
  for (int64_t c = 0; c < shape[3]; ++c) set(b, h, i, c, value);
}

void Buffer::fill_normal(uint64_t seed, double size) {
  Random random(seed);
  for (int64_t b = 0; b < shape[0]; ++b)
    for (int64_t h = 0; h < shape[1]; ++h)
      for (int64_t i = 0; i < shape[2]; ++i)
        for (int64_t c = 0; c < shape[3]; ++c) set(b, h, i, c, size * random.normal());
}

void Buffer::fill_bytes(uint8_t value) { std::fill(memory_.begin(), memory_.end(), value); }

void Buffer::copy_from(const Buffer& other) {
  for (int64_t b = 0; b < shape[0]; ++b)
    for (int64_t h = 0; h < shape[1]; ++h)
      for (int64_t i = 0; i < shape[2]; ++i)
        for (int64_t c = 0; c < shape[3]; ++c) set(b, h, i, c, other.get(b, h, i, c));
}

void Buffer::append_row(int64_t b, int64_t h, int64_t i, std::vector<uint8_t>& bytes) const {
  const int64_t size = dtype_bytes(dtype_);
  for (int64_t c = 0; c < shape[3]; ++c) {
    const uint8_t* element = memory_.data() + index(b, h, i, c) * size;
    bytes.insert(bytes.end(), element, element + size);
  }
}

std::vector<uint8_t> Buffer::row_bits(int64_t b, int64_t h, int64_t i) const {
  std::vector<uint8_t> bytes;
  append_row(b, h, i, bytes);
  return bytes;
}

std::vector<uint8_t> Buffer::bits() const {
  std::vector<uint8_t> bytes;
  for (int64_t b = 0; b < shape[0]; ++b)
    for (int64_t h = 0; h < shape[1]; ++h)
      for (int64_t i = 0; i < shape[2]; ++i) append_row(b, h, i, bytes);
  return bytes;
}

std::vector<double> Buffer::values() const {
  std::vector<double> result;
  for (int64_t b = 0; b < shape[0]; ++b)
    for (int64_t h = 0; h < shape[1]; ++h)
      for (int64_t i = 0; i < shape[2]; ++i)
        for (int64_t c = 0; c < shape[3]; ++c) result.push_back(get(b, h, i, c));
  return result;
}

AttentionData::AttentionData(const std::string& line) : c(verify::case_from_text(line)) {
  const int64_t n = c.query_length, m = c.kv_length;
  q = Buffer(c.dtype, c.query, c.batch, c.query_heads, n, c.head_dim);
  k = Buffer(c.dtype, c.key, c.batch, c.kv_heads, m, c.head_dim);
  v = Buffer(c.dtype, c.value, c.batch, c.kv_heads, m, c.value_dim);
  grad_o = Buffer(c.dtype, c.output, c.batch, c.query_heads, n, c.value_dim);
  o = Buffer(c.dtype, c.output, c.batch, c.query_heads, n, c.value_dim);
  lse = Buffer(wide(c.dtype), {}, c.batch, c.query_heads, n, 1);
  dq = Buffer(c.dtype, c.gradient, c.batch, c.query_heads, n, c.head_dim);
  dk = Buffer(c.dtype, c.gradient, c.batch, c.kv_heads, m, c.head_dim);
  dv = Buffer(c.dtype, c.gradient, c.batch, c.kv_heads, m, c.value_dim);
  if (c.has_grad_logsumexp) {
    grad_lse = Buffer(wide(c.dtype), {}, c.batch, c.query_heads, n, 1);
    grad_lse.fill_normal(c.seed + 5);
  }
  if (c.bias != "none") {
    const auto extent = [&](char axis, int64_t size) {
      return c.bias.find(axis) == std::string::npos ? 1 : size;
    };
    const int64_t shape[] = {extent('b', c.batch), extent('h', c.query_heads), extent('n', n)};
    bias = Buffer(wide(c.dtype), {}, shape[0], shape[1], shape[2], m);
    dbias = Buffer(wide(c.dtype), {}, shape[0], shape[1], shape[2], m);
    bias.fill_normal(c.seed + 4);
  }
  if (c.sink != verify::Sinks::kNone) {
    sink = Buffer(wide(c.dtype), {}, 1, c.query_heads, 1, 1);
    dsink = Buffer(wide(c.dtype), {}, 1, c.query_heads, 1, 1);
    sink.fill_normal(c.seed + 6);
  }
  q.fill_normal(c.seed);
  k.fill_normal(c.seed + 1);
  v.fill_normal(c.seed + 2);
  grad_o.fill_normal(c.seed + 3);
}

void AttentionData::run(const std::string& isa, int threads, uint8_t poison) {
  run(isa, threads, poison, true);
}

void AttentionData::run_forward(const std::string& isa, int threads, uint8_t poison) {
  run(isa, threads, poison, false);
}

void AttentionData::run(const std::string& isa, int threads, uint8_t poison, bool with_backward) {
  Problem problem;
  problem.query_heads = c.query_heads, problem.kv_heads = c.kv_heads;
  problem.max_batch = c.batch;
  problem.max_query_length = c.query_length, problem.max_kv_length = c.kv_length;
  problem.head_dim = c.head_dim, problem.value_dim = c.value_dim;
  problem.dtype = c.dtype;
  problem.mask = mask_from_text(c.mask);
  if (c.scale > 0) problem.scale = c.scale;
  problem.has_bias = c.bias != "none";
  problem.has_sink = c.sink != verify::Sinks::kNone;
  problem.dropout = c.dropout;
  problem.same_bits_as_prefill = c.same_bits_as_prefill;
  PlanOptions options;
  options.isa = isa;
  options.threads = threads;
  const Plan plan = make_plan(problem, options);
  const Schedule schedule = plan.schedule({.batch = c.batch,
                                           .query_length = c.query_length,
                                           .kv_length = c.kv_length,
                                           .query_offset = c.query_offset,
                                           .key_offset = c.key_offset,
                                           .batch_offset = c.batch_offset,
                                           .head_offset = c.head_offset});
  Workspace workspace(plan);
  if (workspace.bytes() > 0) std::memset(workspace.data(), poison, workspace.bytes());
  for (Buffer* output : {&o, &lse, &dq, &dk, &dv, &dbias, &dsink}) output->fill_bytes(poison);
  BackwardTensors t;
  t.query = q.tensor(), t.key = k.tensor(), t.value = v.tensor(), t.bias = bias.tensor();
  t.output = o.tensor(), t.logsumexp = lse.tensor();
  t.grad_output = grad_o.tensor(), t.grad_logsumexp = grad_lse.tensor();
  t.grad_query = dq.tensor(), t.grad_key = dk.tensor(), t.grad_value = dv.tensor();
  t.grad_bias = dbias.tensor();
  t.sink = sink.tensor(), t.grad_sink = dsink.tensor();
  t.dropout_seed = verify::dropout_seed(c);
  plan.forward(schedule,
               {t.query, t.key, t.value, t.bias, t.output, t.logsumexp, {}, t.sink, t.dropout_seed},
               workspace);
  if (with_backward) plan.backward(schedule, t, workspace);
}

std::string differences(const AttentionData& a, const AttentionData& b) {
  std::string names;
  const auto compare = [&](const char* name, const Buffer& x, const Buffer& y) {
    if (x.bits() != y.bits()) names += std::string(names.empty() ? "" : " ") + name;
  };
  compare("output", a.o, b.o);
  compare("logsumexp", a.lse, b.lse);
  compare("grad_query", a.dq, b.dq);
  compare("grad_key", a.dk, b.dk);
  compare("grad_value", a.dv, b.dv);
  compare("grad_bias", a.dbias, b.dbias);
  compare("grad_sink", a.dsink, b.dsink);
  return names;
}

}  // namespace tilewise::test
