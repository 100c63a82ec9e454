// SPDX-License-Identifier: Apache-2.0
#include "verify/case_memory.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/dtype.h"
#include "base/random.h"
#include "problem/ragged.h"

namespace tilewise::verify {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr uint8_t kPoison = 0xff;

int64_t index_of(const Tensor& t, int64_t b, int64_t h, int64_t i, int64_t c) {
  return b * t.strides[0] + h * t.strides[1] + i * t.strides[2] + c * t.strides[3];
}

// body(b, h, i, c, element index)
template <class Body>
void for_each_element(const Tensor& t, Body&& body) {
  for (int64_t b = 0; b < t.shape[0]; ++b) {
    for (int64_t h = 0; h < t.shape[1]; ++h) {
      for (int64_t i = 0; i < t.shape[2]; ++i) {
        for (int64_t c = 0; c < t.shape[3]; ++c) body(b, h, i, c, index_of(t, b, h, i, c));
      }
    }
  }
}

template <class Value>
void fill_tensor(const Tensor& t, Value&& value) {
  for_each_element(t, [&](int64_t b, int64_t h, int64_t i, int64_t c, int64_t index) {
    store_element(t.data, t.dtype, index, value(b, h, i, c));
  });
}

void fill_row(const Tensor& t, int64_t b, int64_t h, int64_t i, double value) {
  for (int64_t c = 0; c < t.shape[3]; ++c) {
    store_element(t.data, t.dtype, index_of(t, b, h, i, c), value);
  }
}

// Below the smallest normal number.
double tiny_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
      return 0x1p-20;
    case DType::kFloat64:
      return 0x1p-1040;
    default:
      return 0x1p-132;
  }
}

DType wide(DType dtype) { return dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32; }

double sink_value(Sinks kind, int64_t head, Random& random) {
  const double x = random.normal();
  switch (kind) {
    case Sinks::kNone:
    case Sinks::kNormal:
      return x;
    case Sinks::kLarge:
      return 30 * std::abs(x);
    case Sinks::kSmall:
      return -30 * std::abs(x);
    case Sinks::kMinusInfinity:
      return -kInfinity;
    case Sinks::kMixed:
      break;
  }
  if (head % 6 >= 4) return head % 6 == 4 ? 2e6 + x : -2e6 + x;
  return sink_value(static_cast<Sinks>(1 + head % 6), head, random);
}

bool has_axis(const Case& c, char axis) { return c.bias.find(axis) != std::string::npos; }

}  // namespace

std::vector<double> dense(const Tensor& tensor) {
  std::vector<double> values;
  values.reserve(tensor.shape[0] * tensor.shape[1] * tensor.shape[2] * tensor.shape[3]);
  for_each_element(tensor, [&](int64_t, int64_t, int64_t, int64_t, int64_t index) {
    values.push_back(load_element(tensor.data, tensor.dtype, index));
  });
  return values;
}

CaseMemory::CaseMemory(const Case& c)
    : case_(c),
      mask_(mask_from_text(c.mask)),
      score_(score_from_text(c.score)),
      data_(mask_, score_, c.seed) {
  const bool is_ragged = !c.lengths.empty();
  const int64_t b = is_ragged ? 1 : c.batch, n = c.query_length, m = c.kv_length;
  if (is_ragged) query_starts_ = key_starts_ = {0};
  int64_t longest_n = 0, longest_m = 0;
  for (const auto& [queries, keys] : c.lengths) {
    query_starts_.push_back(query_starts_.back() + queries);
    key_starts_.push_back(key_starts_.back() + keys);
    longest_n = std::max(longest_n, queries), longest_m = std::max(longest_m, keys);
  }
  BackwardTensors& t = tensors_;
  if (c.is_packed) {
    add_packed("qkv", inputs_, t.query, t.key, t.value);
    add_packed("grad_qkv", outputs_, t.grad_query, t.grad_key, t.grad_value);
  } else {
    t.query = add("query", inputs_, c.dtype, c.query, b, c.query_heads, n, c.head_dim);
    t.key = add("key", inputs_, c.dtype, c.key, b, c.kv_heads, m, c.head_dim);
    t.value = add("value", inputs_, c.dtype, c.value, b, c.kv_heads, m, c.value_dim);
    t.grad_query =
        add("grad_query", outputs_, c.dtype, c.gradient, b, c.query_heads, n, c.head_dim);
    t.grad_key = add("grad_key", outputs_, c.dtype, c.gradient, b, c.kv_heads, m, c.head_dim);
    t.grad_value = add("grad_value", outputs_, c.dtype, c.gradient, b, c.kv_heads, m, c.value_dim);
  }
  if (c.bias != "none") {
    const int64_t shape[] = {has_axis(c, 'b') ? c.batch : 1, has_axis(c, 'h') ? c.query_heads : 1,
                             has_axis(c, 'n') ? (is_ragged ? longest_n : n) : 1,
                             is_ragged ? longest_m : m};
    t.bias = add("bias", inputs_, c.bias_dtype, {}, shape[0], shape[1], shape[2], shape[3]);
    t.grad_bias =
        add("grad_bias", outputs_, wide(c.dtype), {}, shape[0], shape[1], shape[2], shape[3]);
  }
  if (c.sink != Sinks::kNone) {
    t.sink = add("sink", inputs_, wide(c.dtype), {}, 1, c.query_heads, 1, 1);
    t.grad_sink = add("grad_sink", outputs_, wide(c.dtype), {}, 1, c.query_heads, 1, 1);
  }
  t.grad_output = add("grad_output", inputs_, c.dtype, c.output, b, c.query_heads, n, c.value_dim);
  if (c.has_grad_logsumexp) {
    t.grad_logsumexp = add("grad_logsumexp", inputs_, wide(c.dtype), {}, b, c.query_heads, n, 1);
  }
  for (const CaseData::RealTable& table : data_.real_tables()) {
    int64_t axes[4] = {1, 1, 1, 1};
    std::copy_backward(table.shape.begin(), table.shape.end(), axes + 4);
    const auto add_table = [&](const std::string& name, std::vector<Block>& blocks) {
      return add(name, blocks, wide(c.dtype), {}, axes[0], axes[1], axes[2], axes[3]);
    };
    t.tables.push_back({table.name, add_table(table.name, inputs_)});
    t.grad_tables.push_back({table.name, add_table("grad_" + table.name, outputs_)});
  }
  t.output = add("output", outputs_, c.has_wide_output ? wide(c.dtype) : c.dtype, c.output, b,
                 c.query_heads, n, c.value_dim);
  t.logsumexp = add("logsumexp", outputs_, wide(c.dtype), {}, b, c.query_heads, n, 1);
  t.dropout_seed = dropout_seed(c);
  fill();
  place_not_a_number();
  poison_tails();
  for (Block& block : inputs_) block.memory.make_read_only();
}

Tensor CaseMemory::add(const std::string& name, std::vector<Block>& blocks, DType dtype,
                       const Layout& layout, int64_t batch, int64_t heads, int64_t length,
                       int64_t dim) {
  Tensor t = Tensor::bhsd(nullptr, dtype, batch, heads, length, dim);
  const Placement placement = place(layout, t.shape);
  std::copy(placement.strides, placement.strides + 4, t.strides);
  const int64_t size = dtype_bytes(dtype);
  blocks.push_back({name, GuardedMemory(placement.elements * size, case_.flush, kPoison), {}});
  t.data = blocks.back().memory.data() + placement.origin * size;
  blocks.back().tensors = {t};
  return t;
}

void CaseMemory::add_packed(const std::string& name, std::vector<Block>& blocks, Tensor& query,
                            Tensor& key, Tensor& value) {
  const Case& c = case_;
  Layout layout;
  layout.order = "bshd";
  const Tensor all = add(name, blocks, c.dtype, layout, c.lengths.empty() ? c.batch : 1,
                         c.query_heads + 2 * c.kv_heads, c.query_length, c.head_dim);
  const auto heads = [&](int64_t first, int64_t count) {
    Tensor t = all;
    t.data = static_cast<uint8_t*>(all.data) + first * all.strides[1] * dtype_bytes(all.dtype);
    t.shape[1] = count;
    return t;
  };
  query = heads(0, c.query_heads);
  key = heads(c.query_heads, c.kv_heads);
  value = heads(c.query_heads + c.kv_heads, c.kv_heads);
}

void CaseMemory::fill() {
  const Case& c = case_;
  const BackwardTensors& t = tensors_;
  Random random(c.seed);
  const auto normal = [&](double size) {
    return [&random, size](auto...) { return size * random.normal(); };
  };
  std::vector<double> direction(c.head_dim);  // what growing keys and their queries share
  for (double& x : direction) x = random.normal();
  const auto ramp = [&](int64_t j) {
    const double part = c.kv_length > 1 ? double(j) / double(c.kv_length - 1) : 0;
    return 4 * (c.values == Values::kFalling ? 1 - part : part);
  };
  const double tiny = tiny_of(c.dtype);
  switch (c.values) {
    case Values::kNormal:
    case Values::kConstant:
      fill_tensor(t.query, normal(1));
      break;
    case Values::kLarge:
      fill_tensor(t.query, normal(10));
      break;
    case Values::kHuge:
      fill_tensor(t.query, normal(c.dtype == DType::kFloat16 ? 1e3 : 1e4));
      break;
    case Values::kTiny:
      fill_tensor(t.query, normal(tiny));
      break;
    case Values::kGrowing:
    case Values::kFalling:
      fill_tensor(t.query, [&](int64_t, int64_t, int64_t, int64_t d) {
        return direction[d] + 0.3 * random.normal();
      });
  }
  switch (c.values) {
    case Values::kNormal:
      fill_tensor(t.key, normal(1));
      break;
    case Values::kLarge:
      fill_tensor(t.key, normal(10));
      break;
    case Values::kHuge:
      fill_tensor(t.key, normal(1e2));
      break;
    case Values::kTiny:
      fill_tensor(t.key, normal(tiny));
      break;
    case Values::kConstant:
      fill_tensor(t.key, [&](int64_t, int64_t, int64_t, int64_t d) { return direction[d]; });
      break;
    case Values::kGrowing:
    case Values::kFalling:
      fill_tensor(t.key, [&](int64_t, int64_t, int64_t j, int64_t d) {
        return ramp(j) * direction[d] + 0.3 * random.normal();
      });
  }
  fill_tensor(t.value, normal(c.values == Values::kTiny ? tiny : 1));
  fill_tensor(t.grad_output, normal(1));
  if (c.has_grad_logsumexp) fill_tensor(t.grad_logsumexp, normal(1));
  if (c.sink != Sinks::kNone) {
    Random sinks(c.seed, 2);
    const auto first = c.sink == Sinks::kMixed ? sinks.between(0, 5) : 0;
    fill_tensor(t.sink, [&](int64_t, int64_t h, int64_t, int64_t) {
      return sink_value(c.sink, first + h, sinks);
    });
  }
  for (size_t i = 0; i < t.tables.size(); ++i) {
    const bool is_at_least_zero = data_.real_tables()[i].is_at_least_zero;
    fill_tensor(t.tables[i].tensor, [&](auto...) {
      const double value = random.normal();
      return is_at_least_zero ? std::abs(value) : value;
    });
  }
  if (c.bias != "none") {
    fill_tensor(t.bias, [&](auto...) {
      const double value = random.normal();
      return random.uniform() < c.bias_minus_infinity ? -kInfinity : value;
    });
  }
}

void CaseMemory::place_not_a_number() {
  const BackwardTensors& t = tensors_;
  Random random(case_.seed, 1);
  const auto poison_one = [&](const Tensor& x) {
    if (std::count(x.shape, x.shape + 4, 0) > 0) return;
    int64_t at[4];
    for (int axis = 0; axis < 4; ++axis) at[axis] = random.between(0, x.shape[axis] - 1);
    store_element(x.data, x.dtype, index_of(x, at[0], at[1], at[2], at[3]), kNaN);
  };
  switch (case_.not_a_number) {
    case NotANumber::kNone:
      return;
    case NotANumber::kKey:
      return poison_one(t.key);
    case NotANumber::kValue:
      return poison_one(t.value);
    case NotANumber::kQuery:
      return poison_one(t.query);
    case NotANumber::kUnseen:
      break;
  }
  for (const Part& part : parts()) place_unseen(part);
}

void CaseMemory::place_unseen(const Part& part) {
  const reference::Inputs& in = part.inputs;
  const int64_t group = case_.query_heads / case_.kv_heads;
  const int64_t batch = in.key.shape[0], keys = in.key.shape[2];
  std::vector<char> is_seen(batch * case_.kv_heads * keys, 0);
  for (const reference::Row& row : reference::all_rows(in.query)) {
    reference::Visibility is_visible(in, row.batch, row.head);
    bool sees = false;
    for (int64_t j = 0; j < keys; ++j) {
      if (!is_visible(row.query, j)) continue;
      if (in.bias.data != nullptr &&
          load_element(in.bias.data, in.bias.dtype,
                       index_of(in.bias, in.bias.shape[0] == 1 ? 0 : row.batch,
                                in.bias.shape[1] == 1 ? 0 : row.head,
                                in.bias.shape[2] == 1 ? 0 : row.query, j)) == -kInfinity) {
        continue;
      }
      sees = true;
      is_seen[(row.batch * case_.kv_heads + row.head / group) * keys + j] = 1;
    }
    if (sees) continue;
    fill_row(in.query, row.batch, row.head, row.query, kNaN);
    fill_row(in.grad_output, row.batch, row.head, row.query, kNaN);
    // With a sink LSE is that of the sink, and its gradient belongs to it.
    if (case_.has_grad_logsumexp && case_.sink == Sinks::kNone)
      fill_row(in.grad_logsumexp, row.batch, row.head, row.query, kNaN);
  }
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t h = 0; h < case_.kv_heads; ++h) {
      for (int64_t j = 0; j < keys; ++j) {
        if (is_seen[(b * case_.kv_heads + h) * keys + j]) continue;
        fill_row(in.key, b, h, j, kNaN);
        fill_row(in.value, b, h, j, kNaN);
      }
    }
  }
}

// What stands behind the last sequence is never read.
void CaseMemory::poison_tails() {
  if (case_.lengths.empty()) return;
  const BackwardTensors& t = tensors_;
  const auto poison = [](const Tensor& x, int64_t first) {
    for (int64_t h = 0; x.data != nullptr && h < x.shape[1]; ++h)
      for (int64_t i = first; i < x.shape[2]; ++i) fill_row(x, 0, h, i, kNaN);
  };
  for (const Tensor& x : {t.query, t.grad_output, t.grad_logsumexp})
    poison(x, query_starts_.back());
  for (const Tensor& x : {t.key, t.value}) poison(x, key_starts_.back());
}

ForwardTensors CaseMemory::forward_tensors() const {
  const BackwardTensors& t = tensors_;
  return {t.query, t.key, t.value, t.bias, t.output, t.logsumexp, t.tables, t.sink, t.dropout_seed};
}

Step CaseMemory::step() const {
  Step step{.batch = case_.batch,
            .query_length = case_.query_length,
            .kv_length = case_.kv_length,
            .query_offset = case_.query_offset,
            .key_offset = case_.key_offset,
            .batch_offset = case_.batch_offset,
            .head_offset = case_.head_offset};
  if (!case_.lengths.empty()) {
    step.query_starts = {query_starts_.data(), IntegerType::kInt64, case_.batch + 1};
    step.key_starts = {key_starts_.data(), IntegerType::kInt64, case_.batch + 1};
  }
  data_.add_to(step);
  return step;
}

reference::Inputs CaseMemory::reference_inputs() const {
  reference::Inputs in;
  in.query = tensors_.query, in.key = tensors_.key, in.value = tensors_.value;
  in.bias = tensors_.bias;
  in.sink = tensors_.sink;
  in.grad_output = tensors_.grad_output, in.grad_logsumexp = tensors_.grad_logsumexp;
  in.mask = mask_;
  in.score = score_;
  in.step = step();
  in.tables = tensors_.tables;
  in.dropout = case_.dropout;
  in.dropout_seed = tensors_.dropout_seed.value_or(0);
  in.scale = case_.scale > 0 ? case_.scale : 1 / std::sqrt(double(case_.head_dim));
  return in;
}

std::vector<CaseMemory::Part> CaseMemory::parts() const {
  const reference::Inputs whole = reference_inputs();
  if (case_.lengths.empty()) return {{whole}};
  std::vector<Part> parts;
  for (int64_t i = 0; i < case_.batch; ++i) {
    const auto [n, m] = case_.lengths[i];
    Part part{whole, i, query_starts_[i], key_starts_[i]};
    reference::Inputs& in = part.inputs;
    for (Tensor* x : {&in.query, &in.grad_output, &in.grad_logsumexp})
      *x = rows_of(*x, part.first_query, n);
    for (Tensor* x : {&in.key, &in.value}) *x = rows_of(*x, part.first_key, m);
    in.bias = bias_of(in.bias, i, n, m);
    in.step = sequence_step(whole.step, i);
    data_.add_to(in.step);
    parts.push_back(std::move(part));
  }
  return parts;
}

void CaseMemory::poison_outputs() {
  for (Block& block : outputs_) {
    if (block.memory.bytes() > 0) std::memset(block.memory.data(), kPoison, block.memory.bytes());
  }
}

std::string CaseMemory::output_with_damaged_gap() const {
  for (const Block& block : outputs_) {
    const uint8_t* data = block.memory.data();
    std::vector<uint8_t> expected(block.memory.bytes(), kPoison);
    for (const Tensor& t : block.tensors) {
      const int64_t size = dtype_bytes(t.dtype);
      const int64_t first = static_cast<const uint8_t*>(t.data) - data;
      for_each_element(t, [&](int64_t, int64_t, int64_t, int64_t, int64_t index) {
        const int64_t byte = first + index * size;  // of an element: anything
        std::memcpy(&expected[byte], data + byte, size);
      });
    }
    if (!std::equal(expected.begin(), expected.end(), data)) return block.name;
  }
  return "";
}

}  // namespace tilewise::verify
