// SPDX-License-Identifier: Apache-2.0
#include "kernels/reference/reference.h"

#include <cmath>
#include <limits>

#include "base/dtype.h"
#include "base/message.h"
#include "kernels/reference/pair_score.h"
#include "problem/bind.h"
#include "tilewise/error.h"

namespace tilewise::reference {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double element(const Tensor& t, int64_t b, int64_t h, int64_t i, int64_t c) {
  const int64_t offset = b * t.strides[0] + h * t.strides[1] + i * t.strides[2] + c * t.strides[3];
  return load_element(t.data, t.dtype, offset);
}

// Index along an axis that may be broadcast (extent 1).
int64_t broadcast(int64_t index, int64_t extent) { return extent == 1 ? 0 : index; }

template <class Real>
std::vector<Real> row_of(const Tensor& t, int64_t b, int64_t h, int64_t i) {
  std::vector<Real> row(t.shape[3]);  // (dim)
  for (int64_t c = 0; c < t.shape[3]; ++c) row[c] = element(t, b, h, i, c);
  return row;
}

template <class Real>
std::vector<Real> head_of(const Tensor& t, int64_t b, int64_t h) {
  std::vector<Real> rows(t.shape[2] * t.shape[3]);  // (length, dim)
  for (int64_t i = 0; i < t.shape[2]; ++i) {
    for (int64_t c = 0; c < t.shape[3]; ++c) rows[i * t.shape[3] + c] = element(t, b, h, i, c);
  }
  return rows;
}

// Four partial sums, only so that additions do not wait for each other.
template <class Real>
Real dot(const Real* a, const Real* b, int64_t size) {
  Real sum[4] = {0, 0, 0, 0};
  int64_t c = 0;
  for (; c + 4 <= size; c += 4) {
    for (int part = 0; part < 4; ++part) sum[part] += a[c + part] * b[c + part];
  }
  for (; c < size; ++c) sum[0] += a[c] * b[c];
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

template <class Real>
void add_scaled(Real factor, const Real* a, int64_t size, Real* sum) {
  for (int64_t c = 0; c < size; ++c) sum[c] += factor * a[c];
}

// Keys and values that one query head reads.
template <class Real>
struct Head {
  Head(const Inputs& in, int64_t b, int64_t h)
      : batch(b),
        head(h),
        kv_head(h / (in.query.shape[1] / in.key.shape[1])),
        k(head_of<Real>(in.key, b, kv_head)),
        v(head_of<Real>(in.value, b, kv_head)),
        sink(in.sink.data != nullptr ? Real(element(in.sink, 0, h, 0, 0)) : Real(-kInfinity)),
        is_visible(in, b, h),
        score(in, b, h) {}

  int64_t batch, head, kv_head;
  std::vector<Real> k;  // (kv_length, head_dim)
  std::vector<Real> v;  // (kv_length, value_dim)
  Real sink;            // -inf: none
  mutable Visibility is_visible;
  mutable PairScore<Real> score;
};

// The softmax of one row: visible keys and their probabilities.
template <class Real>
struct SoftmaxRow {
  std::vector<int64_t> keys;
  std::vector<Real> products;  // scale * q.k
  std::vector<Real> p;
  Real p_sink = 0;
  Real lse = -std::numeric_limits<Real>::infinity();
  std::vector<Real> o;  // (value_dim)
};

template <class Real>
SoftmaxRow<Real> softmax_row(const Inputs& in, const Head<Real>& head, const Real* q_i, int64_t i) {
  const int64_t kv_length = in.key.shape[2];
  const int64_t head_dim = in.query.shape[3], value_dim = in.value.shape[3];
  SoftmaxRow<Real> row;
  row.o.assign(value_dim, 0);
  row.lse = head.sink;
  Real m = head.sink;
  for (int64_t j = 0; j < kv_length; ++j) {
    if (!head.is_visible(i, j)) continue;
    Real bias = 0;
    if (in.bias.data != nullptr) {
      bias = element(in.bias, broadcast(head.batch, in.bias.shape[0]),
                     broadcast(head.head, in.bias.shape[1]), broadcast(i, in.bias.shape[2]), j);
      if (bias == -kInfinity) continue;
    }
    const Real product = Real(in.scale) * dot(q_i, head.k.data() + j * head_dim, head_dim);
    const Real s = head.score.value(i, j, product) + bias;
    if (s == -kInfinity) continue;
    row.keys.push_back(j);
    row.products.push_back(product);
    row.p.push_back(s);
    m = std::max(m, s);
  }
  const bool has_sink = head.sink != Real(-kInfinity);
  if (has_sink) row.p_sink = row.keys.empty() ? Real(1) : std::exp(head.sink - m);
  if (row.keys.empty()) return row;
  Real sum = row.p_sink;
  for (Real& s : row.p) sum += s = std::exp(s - m);
  for (Real& p : row.p) p /= sum;
  row.p_sink /= sum;
  row.lse = m + std::log(sum);
  for (size_t n = 0; n < row.keys.size(); ++n) {
    const auto z = static_cast<Real>(in.dropout_of(head.batch, head.head, i, row.keys[n]));
    add_scaled(z * row.p[n], head.v.data() + row.keys[n] * value_dim, value_dim, row.o.data());
  }
  return row;
}

// Calls body(head, row index, row) for every row; rows of one head in a sequence load it once.
template <class Real, class Body>
void for_each_row(const Inputs& in, const std::vector<Row>& rows, Body&& body) {
  for (size_t first = 0; first < rows.size();) {
    const Head<Real> head(in, rows[first].batch, rows[first].head);
    size_t r = first;
    for (; r < rows.size() && rows[r].batch == head.batch && rows[r].head == head.head; ++r) {
      body(head, r, rows[r].query);
    }
    first = r;
  }
}

template <class Real>
Outputs forward_as(const Inputs& in, const std::vector<Row>& rows) {
  Outputs out;
  out.output.reserve(rows.size() * in.value.shape[3]);
  for_each_row<Real>(in, rows, [&](const Head<Real>& head, size_t, int64_t i) {
    const auto q_i = row_of<Real>(in.query, head.batch, head.head, i);
    const auto row = softmax_row(in, head, q_i.data(), i);
    out.output.insert(out.output.end(), row.o.begin(), row.o.end());
    out.logsumexp.push_back(static_cast<double>(row.lse));
  });
  return out;
}

int64_t elements(const Tensor& t) { return t.shape[0] * t.shape[1] * t.shape[2] * t.shape[3]; }

template <class Real>
Gradients backward_as(const Inputs& in, const std::vector<Row>& rows) {
  const int64_t query_heads = in.query.shape[1], query_length = in.query.shape[2];
  const int64_t kv_heads = in.key.shape[1], kv_length = in.key.shape[2];
  const int64_t d = in.query.shape[3], e = in.value.shape[3];
  const bool has_bias = in.bias.data != nullptr;
  std::vector<Real> dq(elements(in.query)), dk(elements(in.key)), dv(elements(in.value));
  std::vector<Real> dbias(has_bias ? elements(in.bias) : 0);
  std::vector<Real> dsink(in.sink.data != nullptr ? elements(in.sink) : 0);
  std::vector<Real> sink_terms(dsink.size() * kTerms);
  std::vector<std::vector<Real>> dtables, table_terms;
  for (const NamedTensor& table : in.tables) {
    dtables.emplace_back(elements(table.tensor));
    table_terms.emplace_back(dtables.back().size() * kTerms);
  }

  for_each_row<Real>(in, rows, [&](const Head<Real>& head, size_t, int64_t i) {
    const int64_t b = head.batch, h = head.head;
    const auto q_i = row_of<Real>(in.query, b, h, i);
    const auto do_i = row_of<Real>(in.grad_output, b, h, i);
    const auto row = softmax_row(in, head, q_i.data(), i);
    const Real dlse =
        in.grad_logsumexp.data != nullptr ? Real(element(in.grad_logsumexp, b, h, i, 0)) : Real(0);
    const Real delta = row.keys.empty() ? Real(0) : dot(do_i.data(), row.o.data(), e);
    const int64_t term = ((b * query_heads + h) * query_length + i) % kTerms;
    if (head.sink != Real(-kInfinity)) {
      const Real by_row = -row.p_sink * (delta - dlse);
      dsink[h] += by_row;
      sink_terms[h * kTerms + term] += by_row;
    }
    if (row.keys.empty()) return;
    Real* dq_i = dq.data() + ((b * query_heads + h) * query_length + i) * d;
    for (size_t n = 0; n < row.keys.size(); ++n) {
      const int64_t j = row.keys[n];
      const int64_t key_row = (b * kv_heads + head.kv_head) * kv_length + j;
      const auto z = static_cast<Real>(in.dropout_of(b, h, i, j));
      const Real ds = row.p[n] * (z * dot(do_i.data(), head.v.data() + j * e, e) - delta + dlse);
      const Real dr = ds * head.score.derivative(
                               i, j, row.products[n], [&](int table, int64_t at, Real by_table) {
                                 if (by_table == 0) return;
                                 dtables[table][at] += ds * by_table;
                                 table_terms[table][at * kTerms + term] += ds * by_table;
                               });
      add_scaled(z * row.p[n], do_i.data(), e, dv.data() + key_row * e);
      add_scaled(Real(in.scale) * dr, head.k.data() + j * d, d, dq_i);
      add_scaled(Real(in.scale) * dr, q_i.data(), d, dk.data() + key_row * d);
      if (has_bias) {
        const int64_t bias_row =
            (broadcast(b, in.bias.shape[0]) * in.bias.shape[1] + broadcast(h, in.bias.shape[1])) *
                in.bias.shape[2] +
            broadcast(i, in.bias.shape[2]);
        dbias[bias_row * kv_length + j] += ds;
      }
    }
  });
  const auto rounded = [](const std::vector<Real>& x) {
    return std::vector<double>(x.begin(), x.end());
  };
  Gradients result{rounded(dq),    rounded(dk), rounded(dv),        rounded(dbias),
                   rounded(dsink), {},          rounded(sink_terms)};
  for (const auto& table : dtables) result.tables.push_back(rounded(table));
  for (const auto& terms : table_terms) result.table_terms.push_back(rounded(terms));
  return result;
}

}  // namespace

expr::Values bind_to(const expr::Expression& expression, const Inputs& inputs) {
  expr::Values values = bind(expression, inputs.step, "reference");
  values.query_length = inputs.query.shape[2];
  values.kv_length = inputs.key.shape[2];
  const auto& symbols = expression.graph->symbols();
  for (size_t i = 0; i < symbols.size(); ++i) {
    for (const NamedTensor& table : inputs.tables) {
      if (table.name == symbols[i].name) values.symbols[i].real_table = table.tensor;
    }
  }
  return values;
}

Visibility::Visibility(const Inputs& inputs, int64_t batch, int64_t head) : mask_(inputs.mask) {
  const expr::Expression* expression = mask_.expression();
  if (expression == nullptr) return;
  point_.batch = inputs.step.batch_offset + batch;
  point_.head = inputs.step.head_offset + head;
  values_ = bind_to(*expression, inputs);
  evaluator_.emplace(*expression, values_);
}

bool Visibility::operator()(int64_t q, int64_t k) {
  if (!evaluator_) return true;
  point_.query = values_.query_offset + q;
  point_.key = values_.key_offset + k;
  return evaluator_->boolean(point_);
}

std::vector<Row> all_rows(const Tensor& query) {
  std::vector<Row> rows;
  rows.reserve(query.shape[0] * query.shape[1] * query.shape[2]);
  for (int64_t b = 0; b < query.shape[0]; ++b) {
    for (int64_t h = 0; h < query.shape[1]; ++h) {
      for (int64_t i = 0; i < query.shape[2]; ++i) rows.push_back({b, h, i});
    }
  }
  return rows;
}

Outputs forward_rows(const Inputs& inputs, const std::vector<Row>& rows) {
  return inputs.query.dtype == DType::kFloat64 ? forward_as<long double>(inputs, rows)
                                               : forward_as<double>(inputs, rows);
}

Gradients backward_rows(const Inputs& inputs, const std::vector<Row>& rows) {
  return inputs.query.dtype == DType::kFloat64 ? backward_as<long double>(inputs, rows)
                                               : backward_as<double>(inputs, rows);
}

Outputs forward(const Inputs& inputs) { return forward_rows(inputs, all_rows(inputs.query)); }
Gradients backward(const Inputs& inputs) { return backward_rows(inputs, all_rows(inputs.query)); }

}  // namespace tilewise::reference
