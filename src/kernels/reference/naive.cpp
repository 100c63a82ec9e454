// SPDX-License-Identifier: Apache-2.0
#include "kernels/reference/naive.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "base/dtype.h"
#include "kernels/reference/pair_score.h"

namespace tilewise::reference {
namespace {

constexpr long double kLog2E = 1.44269504088896340735992468100189214L;
constexpr long double kLn2 = 0.693147180559945309417232121458176568L;

int64_t offset(const Tensor& t, int64_t b, int64_t h, int64_t i, int64_t c) {
  return b * t.strides[0] + h * t.strides[1] + i * t.strides[2] + c * t.strides[3];
}

// `value` as it reads back after being stored.
double stored(DType dtype, double value) {
  uint64_t memory = 0;
  store_element(&memory, dtype, 0, value);
  const double rounded = load_element(&memory, dtype, 0);
  return std::isinf(rounded) && std::isfinite(value) ? value : rounded;
}

template <class Real>
struct Naive {
  Naive(const Inputs& inputs, double start_part)
      : in(inputs),
        dtype(inputs.query.dtype),
        lse_dtype(dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32),
        start(start_part),
        unit(Real(1 + start_part)),
        is_variant(start_part > 0),
        exponent(is_variant ? Real(kLog2E) : Real(1)),
        kv_length(inputs.key.shape[2]),
        d(inputs.query.shape[3]),
        e(inputs.value.shape[3]) {}

  // K and V of one head, transposed, so that the loops over keys are the inner ones.
  void load_head(int64_t b, int64_t h) {
    batch = b, head = h, kv_head = h / (in.query.shape[1] / in.key.shape[1]);
    k = transposed(in.key);
    v = transposed(in.value);
    is_visible.emplace(in, b, h);
    pair_score.emplace(in, b, h);
    if (in.sink.data != nullptr)
      sink = exponent * Real(load_element(in.sink.data, in.sink.dtype, h * in.sink.strides[1]));
    k_rows.resize(k.size());
    for (int64_t c = 0; c < d; ++c) {
      for (int64_t j = 0; j < kv_length; ++j) k_rows[j * d + c] = k[c * kv_length + j];
    }
  }

  std::vector<Real> transposed(const Tensor& t) const {
    std::vector<Real> columns(t.shape[3] * kv_length);  // (dim, kv_length)
    for (int64_t j = 0; j < kv_length; ++j) {
      for (int64_t c = 0; c < t.shape[3]; ++c) {
        columns[c * kv_length + j] =
            Real(load_element(t.data, t.dtype, offset(t, batch, kv_head, j, c)));
      }
    }
    return columns;
  }

  std::vector<Real> row_of(const Tensor& t, int64_t i) const {
    std::vector<Real> row(t.shape[3]);
    for (int64_t c = 0; c < t.shape[3]; ++c) {
      row[c] = Real(load_element(t.data, t.dtype, offset(t, batch, head, i, c)));
    }
    return row;
  }

  // a . columns, for all keys at once: every sum in index order from its start.
  std::vector<Real> products(const std::vector<Real>& a, const std::vector<Real>& columns) const {
    std::vector<Real> sums(kv_length, 0);
    const int64_t size = static_cast<int64_t>(a.size()), first = int64_t(start * double(size));
    for (int64_t n = 0; n < size; ++n) {
      const int64_t c = (first + n) % size;
      const Real* column = columns.data() + c * kv_length;
      for (int64_t j = 0; j < kv_length; ++j) sums[j] += a[c] * column[j];
    }
    return sums;
  }

  // Visible keys of the row, from the start on, and S, stored.
  void scores(std::vector<Real> q_i, int64_t i) {
    const Real before = is_variant ? Real(in.scale) : 1, after = is_variant ? 1 : Real(in.scale);
    for (Real& x : q_i) x *= before;
    const std::vector<Real> dots = products(q_i, k);
    keys.clear();
    s.assign(kv_length, 0);
    products_of_row.assign(kv_length, 0);
    const int64_t first = int64_t(start * double(kv_length));
    for (int64_t n = 0; n < kv_length; ++n) {
      const int64_t j = (first + n) % kv_length;
      if (!(*is_visible)(i, j)) continue;
      products_of_row[j] = after * dots[j];
      Real score = pair_score->value(i, j, products_of_row[j]);
      if (in.bias.data != nullptr) {
        const Real bias = Real(load_element(in.bias.data, in.bias.dtype, bias_offset(i, j)));
        if (bias == -std::numeric_limits<Real>::infinity()) continue;
        score += bias;
      }
      if (score == -std::numeric_limits<Real>::infinity()) continue;
      keys.push_back(j);
      s[j] = Real(stored(dtype, unit * score)) * (exponent / unit);
    }
  }

  int64_t bias_offset(int64_t i, int64_t j) const {
    return offset(in.bias, in.bias.shape[0] == 1 ? 0 : batch, in.bias.shape[1] == 1 ? 0 : head,
                  in.bias.shape[2] == 1 ? 0 : i, j);
  }

  // exp(S - m) and its sum; returns LSE = m + log of the sum as stored.
  Real softmax(std::vector<Real>& p, Real& sum) const {
    Real m = sink;
    for (int64_t j : keys) m = std::max(m, s[j]);
    m += Real(start);
    p.assign(kv_length, 0);
    if (keys.empty()) return sink / exponent;
    sum = sink == -std::numeric_limits<Real>::infinity() ? Real(0) : power(sink - m);
    Real stored_sum = sum;
    for (int64_t j : keys) {
      sum += p[j] = power(s[j] - m);
      stored_sum += Real(stored(dtype, p[j]));
    }
    return is_variant ? Real(m + std::log2(stored_sum)) * Real(kLn2) : m + std::log(stored_sum);
  }

  // Of the base that s is in.
  Real power(Real x) const { return is_variant ? std::exp2(x) : std::exp(x); }

  // P after dropout, or dP before it, stored.
  Real dropped(int64_t i, int64_t j, Real x) const {
    return in.dropout == 0 ? x : Real(stored(dtype, x * Real(in.dropout_of(batch, head, i, j))));
  }

  // O of the row, stored in this unit, from exp(S - m) and its sum.
  std::vector<Real> output(const std::vector<Real>& p, Real sum, int64_t i, Real o_unit = 1) const {
    std::vector<Real> o(e, 0);
    for (int64_t j : keys) {
      const Real p_j = dropped(i, j, Real(stored(dtype, p[j] / sum)));
      for (int64_t c = 0; c < e; ++c) o[c] += p_j * v[c * kv_length + j];
    }
    for (Real& x : o) x = Real(stored(dtype, o_unit * x)) / o_unit;
    return o;
  }

  const Inputs& in;
  DType dtype, lse_dtype;
  double start;
  Real unit;  // S is stored as unit * score
  bool is_variant;
  Real exponent;  // log2(e) where powers are of 2
  int64_t kv_length, d, e;
  int64_t batch = -1, head = -1, kv_head = -1;
  Real sink = -std::numeric_limits<Real>::infinity();  // exponent * sink; -inf: none
  std::vector<Real> k, v;             // (head_dim, kv_length), (value_dim, kv_length)
  std::vector<Real> k_rows;           // (kv_length, head_dim)
  std::vector<int64_t> keys;          // visible
  std::vector<Real> s;                // (kv_length), exponent * S
  std::vector<Real> products_of_row;  // (kv_length), scale * q.k
  std::optional<Visibility> is_visible;
  std::optional<PairScore<Real>> pair_score;
};

template <class Real>
Outputs forward_as(const Inputs& in, const std::vector<Row>& rows, double start) {
  Naive<Real> naive(in, start);
  Outputs out;
  std::vector<Real> p;
  for (const Row& row : rows) {
    if (row.batch != naive.batch || row.head != naive.head) naive.load_head(row.batch, row.head);
    naive.scores(naive.row_of(in.query, row.query), row.query);
    Real sum = 0;
    out.logsumexp.push_back(naive.softmax(p, sum));
    const std::vector<Real> o = naive.output(p, sum, row.query);
    out.output.insert(out.output.end(), o.begin(), o.end());
  }
  return out;
}

int64_t elements(const Tensor& t) { return t.shape[0] * t.shape[1] * t.shape[2] * t.shape[3]; }

template <class Real>
Gradients backward_as(const Inputs& in, const std::vector<Row>& rows, double start) {
  Naive<Real> naive(in, start);
  const int64_t d = naive.d, e = naive.e, kv_length = naive.kv_length;
  const bool has_bias = in.bias.data != nullptr;
  Tensor dense_bias = Tensor::bhsd(nullptr, DType::kFloat64, in.bias.shape[0], in.bias.shape[1],
                                   in.bias.shape[2], in.bias.shape[3]);
  std::vector<Real> dq(elements(in.query)), dk(elements(in.key)), dv(elements(in.value));
  std::vector<Real> dbias(has_bias ? elements(in.bias) : 0);
  std::vector<Real> dsink(in.sink.data != nullptr ? elements(in.sink) : 0);
  std::vector<Real> sink_terms(dsink.size() * kTerms);
  std::vector<std::vector<Real>> dtables, table_terms;
  for (const NamedTensor& table : in.tables) {
    dtables.emplace_back(elements(table.tensor));
    table_terms.emplace_back(dtables.back().size() * kTerms);
  }
  std::vector<Real> p;
  for (const Row& row : rows) {
    const int64_t b = row.batch, h = row.head, i = row.query;
    if (b != naive.batch || h != naive.head) naive.load_head(b, h);
    const auto q_i = naive.row_of(in.query, i), do_i = naive.row_of(in.grad_output, i);
    naive.scores(q_i, i);
    Real sum = 0;
    const Real lse = naive.softmax(p, sum);
    const std::vector<Real> dots = naive.products(do_i, naive.v);
    const std::vector<Real> o_i = naive.output(p, sum, i, naive.unit);
    Real delta = 0;
    std::vector<Real> dp(kv_length);
    for (int64_t j : naive.keys) {
      p[j] = Real(stored(naive.dtype, naive.power(naive.s[j] - lse * naive.exponent)));
      dp[j] = naive.dropped(i, j, Real(stored(naive.dtype, dots[j])));
      if (!naive.is_variant) delta += p[j] * dp[j];
    }
    if (naive.is_variant && !naive.keys.empty()) {
      for (int64_t c = 0; c < e; ++c) delta = std::fma(do_i[c], o_i[c], delta);
      delta = std::nextafter(delta, std::numeric_limits<Real>::infinity());
    }
    if (in.grad_logsumexp.data != nullptr) {
      delta -= Real(load_element(in.grad_logsumexp.data, in.grad_logsumexp.dtype,
                                 offset(in.grad_logsumexp, b, h, i, 0)));
    }
    const int64_t row_index = (b * in.query.shape[1] + h) * in.query.shape[2] + i;
    if (naive.sink != -std::numeric_limits<Real>::infinity()) {
      const Real by_row = -naive.power(naive.sink - lse * naive.exponent) * delta;
      dsink[h] += by_row;
      sink_terms[h * kTerms + row_index % kTerms] += by_row;
    }
    Real* dq_i = dq.data() + row_index * d;
    for (int64_t j : naive.keys) {
      const Real exact_ds = p[j] * (dp[j] - delta);
      Real ds = Real(stored(naive.dtype, exact_ds));
      if (naive.is_variant && ds == 0) ds = exact_ds;
      const int64_t key_row = (b * in.key.shape[1] + naive.kv_head) * kv_length + j;
      const Real by_score = naive.pair_score->derivative(
          i, j, naive.products_of_row[j], [&](int table, int64_t at, Real by_table) {
            if (by_table == 0) return;
            dtables[table][at] += ds * by_table;
            table_terms[table][at * kTerms + row_index % kTerms] += ds * by_table;
          });
      const Real dr =
          in.score.expression() != nullptr ? Real(stored(naive.dtype, ds * by_score)) : ds;
      for (int64_t c = 0; c < d; ++c) dq_i[c] += dr * naive.k_rows[j * d + c];
      for (int64_t c = 0; c < d; ++c) dk[key_row * d + c] += dr * q_i[c];
      const Real p_j = naive.dropped(i, j, p[j]);
      for (int64_t c = 0; c < e; ++c) dv[key_row * e + c] += p_j * do_i[c];
      if (has_bias) {
        dbias[offset(dense_bias, in.bias.shape[0] == 1 ? 0 : b, in.bias.shape[1] == 1 ? 0 : h,
                     in.bias.shape[2] == 1 ? 0 : i, j)] += ds;
      }
    }
  }
  const auto rounded = [&](const std::vector<Real>& x, DType dtype, double factor) {
    std::vector<double> y(x.size());
    for (size_t n = 0; n < x.size(); ++n) y[n] = stored(dtype, Real(factor) * x[n]);
    return y;
  };
  Gradients result{rounded(dq, naive.dtype, in.scale),
                   rounded(dk, naive.dtype, in.scale),
                   rounded(dv, naive.dtype, 1),
                   rounded(dbias, naive.lse_dtype, 1),
                   rounded(dsink, naive.lse_dtype, 1),
                   {},
                   rounded(sink_terms, naive.lse_dtype, 1)};
  for (const auto& table : dtables) result.tables.push_back(rounded(table, naive.lse_dtype, 1));
  for (const auto& terms : table_terms)
    result.table_terms.push_back(rounded(terms, naive.lse_dtype, 1));
  return result;
}

}  // namespace

Outputs naive_forward_rows(const Inputs& inputs, const std::vector<Row>& rows, double start) {
  return inputs.query.dtype == DType::kFloat64 ? forward_as<double>(inputs, rows, start)
                                               : forward_as<float>(inputs, rows, start);
}

Gradients naive_backward_rows(const Inputs& inputs, const std::vector<Row>& rows, double start) {
  return inputs.query.dtype == DType::kFloat64 ? backward_as<double>(inputs, rows, start)
                                               : backward_as<float>(inputs, rows, start);
}

}  // namespace tilewise::reference
