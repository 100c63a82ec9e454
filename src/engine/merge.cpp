// SPDX-License-Identifier: Apache-2.0
#include "tilewise/merge.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/dtype.h"
#include "engine/tiling.h"
#include "engine/work.h"
#include "problem/validate.h"
#include "problem/validate_tensors.h"

namespace tilewise {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int64_t kNumbersPerWorker = int64_t{1} << 16;  // fewer are not worth a second thread

int64_t offset_of(const Tensor& t, int64_t batch, int64_t head, int64_t row) {
  return batch * t.strides[0] + head * t.strides[1] + row * t.strides[2];
}

double number_at(const Tensor& t, int64_t batch, int64_t head, int64_t row) {
  return load_element(t.data, t.dtype, offset_of(t, batch, head, row));
}

// sum (n) += weight * row
template <class Real>
void add_row(const void* data, int64_t first, int64_t stride, int64_t n, double weight,
             double* sum) {
  const Real* row = static_cast<const Real*>(data) + first;
  for (int64_t c = 0; c < n; ++c) sum[c] += weight * static_cast<double>(row[c * stride]);
}

void merge_row(const std::vector<PartialResult>& parts, const Tensor& output,
               const Tensor& logsumexp, double sink, int64_t batch, int64_t head, int64_t row) {
  double largest = sink;
  for (const PartialResult& part : parts)
    largest = std::max(largest, number_at(part.logsumexp, batch, head, row));
  // The larger of both is subtracted, so that nothing overflows. -inf is nothing, exactly.
  const auto weight_of = [largest](double lse) {
    return lse == -kInfinity ? 0 : std::exp(lse - largest);
  };
  double sum = weight_of(sink);
  for (const PartialResult& part : parts)
    sum += weight_of(number_at(part.logsumexp, batch, head, row));

  double merged[kMaxHeadDim] = {};
  for (const PartialResult& part : parts) {
    const double lse = number_at(part.logsumexp, batch, head, row);
    if (lse == -kInfinity) continue;
    const double weight = weight_of(lse) / sum;
    const Tensor& o = part.output;
    const int64_t first = offset_of(o, batch, head, row);
    if (o.dtype == DType::kFloat64)
      add_row<double>(o.data, first, o.strides[3], o.shape[3], weight, merged);
    else
      add_row<float>(o.data, first, o.strides[3], o.shape[3], weight, merged);
  }
  const int64_t first = offset_of(output, batch, head, row);
  for (int64_t c = 0; c < output.shape[3]; ++c)
    store_element(output.data, output.dtype, first + c * output.strides[3], merged[c]);
  if (logsumexp.data == nullptr) return;
  store_element(logsumexp.data, logsumexp.dtype, offset_of(logsumexp, batch, head, row),
                sum == 0 ? -kInfinity : largest + std::log(sum));
}

}  // namespace

void merge(const std::vector<PartialResult>& parts, const Tensor& output, const Tensor& logsumexp,
           const Tensor& sink, const MergeOptions& options) {
  validate_merge(parts, output, logsumexp, sink);
  validate_threads(options.threads, "merge");
  Executor& executor = options.executor != nullptr ? *options.executor : default_executor();
  const int most = options.threads != 0 ? options.threads : executor.max_workers();
  const int64_t batch = output.shape[0], heads = output.shape[1], rows = output.shape[2];
  const int64_t numbers =
      batch * heads * rows * output.shape[3] * (static_cast<int64_t>(parts.size()) + 1);
  const auto workers = static_cast<int>(
      std::clamp<int64_t>(numbers / kNumbersPerWorker, 1, std::clamp(most, 1, kMaxThreads)));
  constexpr int64_t kRowsPerItem = 64;
  const int64_t blocks = ceil_divide(rows, kRowsPerItem);
  alignas(64) int64_t counter = 0;
  run_items(executor, workers, batch * heads * blocks, &counter, [&](int64_t item, int) {
    const int64_t b = item / blocks / heads, h = item / blocks % heads;
    const double head_sink = sink.data == nullptr
                                 ? -kInfinity
                                 : load_element(sink.data, sink.dtype, h * sink.strides[1]);
    const int64_t begin = item % blocks * kRowsPerItem;
    for (int64_t row = begin; row < std::min(begin + kRowsPerItem, rows); ++row)
      merge_row(parts, output, logsumexp, head_sink, b, h, row);
  });
}

}  // namespace tilewise
