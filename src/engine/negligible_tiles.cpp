// SPDX-License-Identifier: Apache-2.0
#include "engine/negligible_tiles.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>

#include "base/dtype.h"
#include "engine/tiling.h"

namespace tilewise {
namespace {

using expr::RealInterval;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int64_t kMinTiles = 4;     // of keys: with fewer there is little to leave out
constexpr double kRounding = 1.001;  // of norms and products in single precision

// The sum of n squares; `as_float` reads an element.
template <class Element, class AsFloat>
double squares(const void* data, int64_t n, int64_t stride, const AsFloat& as_float) {
  const auto* x = static_cast<const Element*>(data);
  constexpr int kSums = 8;  // so that the loop can be vectorised
  float sum[kSums] = {};
  int64_t i = 0;
  if (stride == 1) {
    for (; i + kSums <= n; i += kSums) {
      for (int l = 0; l < kSums; ++l) {
        const float value = as_float(x[i + l]);
        sum[l] += value * value;
      }
    }
  }
  for (; i < n; ++i) {
    const float value = as_float(x[i * stride]);
    sum[0] += value * value;
  }
  double total = 0;
  for (const float part : sum) total += static_cast<double>(part);
  return total;
}

// The largest norm of rows [begin, end) of one head, rounded up; infinity near NaN and infinity.
double largest_norm(const Tensor& tensor, int64_t batch, int64_t head, int64_t begin, int64_t end) {
  double largest = 0;
  for (int64_t row = begin; row < end; ++row) {
    const auto* data =
        static_cast<const std::byte*>(tensor.data) +
        dtype_bytes(tensor.dtype) *
            (batch * tensor.strides[0] + head * tensor.strides[1] + row * tensor.strides[2]);
    const int64_t n = tensor.shape[3], stride = tensor.strides[3];
    double sum = 0;
    switch (tensor.dtype) {
      case DType::kFloat32:
        sum = squares<float>(data, n, stride, [](float x) { return x; });
        break;
      case DType::kBFloat16:
        sum = squares<uint16_t>(data, n, stride, [](uint16_t x) {
          return std::bit_cast<float>(static_cast<uint32_t>(x) << 16);
        });
        break;
      case DType::kFloat16:
        sum = squares<uint16_t>(data, n, stride, float16_to_float);
        break;
      case DType::kFloat64:
        sum = squares<double>(data, n, stride, [](double x) { return static_cast<float>(x); });
        break;
    }
    if (!(sum < kInfinity)) return kInfinity;
    largest = std::max(largest, sum);
  }
  // Squares below the range of single precision count as its smallest number.
  return kRounding * std::sqrt(largest + 0x1p-100);
}

bool all_finite(const void* numbers, bool is_double, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    const double x = is_double ? static_cast<const double*>(numbers)[i]
                               : static_cast<double>(static_cast<const float*>(numbers)[i]);
    if (!std::isfinite(x)) return false;
  }
  return true;
}

}  // namespace

NegligibleSearch::NegligibleSearch(const NegligibleInputs& inputs, const Memory& memory) noexcept
    : in_(inputs),
      memory_(memory),
      rows_(inputs.grid.rows()),
      columns_(inputs.grid.columns()),
      query_heads_(inputs.query.shape[1]),
      kv_heads_(inputs.key.shape[1]) {
  const double exponent = inputs.query.dtype == DType::kFloat64 ? 1023 : 127;
  margin_ = 0.69314718055994531 * (exponent + 17);
}

void NegligibleSearch::begin(int worker) const noexcept {
  const int64_t batch = in_.query.shape[0];
  *memory_.is_searched = in_.is_wanted && columns_ >= kMinTiles && rows_ > 0 && batch > 0 &&
                                 is_promising(registers(worker))
                             ? 1
                             : 0;
  if (is_searched()) std::fill_n(memory_.norms, 2 * batch * kv_heads_, 0.0);
}

void NegligibleSearch::find_range(int64_t item, int worker) const noexcept {
  memory_.ranges[item] = range_of_row(item / rows_, item % rows_, registers(worker));
}

expr::IntervalRegister* NegligibleSearch::registers(int worker) const {
  return memory_.registers + worker * memory_.register_stride;
}

const TileRowList& NegligibleSearch::tiles_of(int64_t head) const {
  return (*in_.tiles)[static_cast<size_t>(in_.class_of_head[head])].by_query;
}
void NegligibleSearch::begin(const ScoreBounds& bounds, int64_t head,
                             expr::IntervalRegister* registers) const {
  bounds.begin(registers, in_.origin.batch + head / query_heads_,
               in_.origin.head + head % query_heads_, in_.grid.box(), in_.real_tables);
}

// Whether some row would have a negligible tile if all products were 0. Of the first batch entry:
// a wrong guess costs time only.
bool NegligibleSearch::is_promising(expr::IntervalRegister* r) const {
  for (int64_t head = 0; head < query_heads_; ++head) {
    begin(*in_.score, head, r);
    in_.score->bound_products(r, 0);
    for (const int64_t row : {rows_ - 1, int64_t{0}, rows_ / 2}) {
      const TileRange range = significant(head, row, r);
      const TileRowList& tiles = tiles_of(head);
      const int64_t first = tiles.begin[static_cast<size_t>(row)],
                    last = tiles.begin[static_cast<size_t>(row) + 1];
      if (first < last && (range.first > tiles.runs[static_cast<size_t>(first)].first ||
                           range.last < tiles.runs[static_cast<size_t>(last) - 1].last))
        return true;
    }
  }
  return false;
}

// Largest norms of a part of the keys and values of a head, batch entries and kv heads counted
// together. Non-negative doubles order like their bits.
void NegligibleSearch::measure_keys(int64_t item) const noexcept {
  const int64_t parts = ceil_divide(in_.grid.keys, kKeysPerItem), head = item / parts,
                part = item % parts;
  const int64_t first = part * kKeysPerItem, last = std::min(first + kKeysPerItem, in_.grid.keys);
  const auto raise = [](double& to, double value) {
    const std::atomic_ref<double> shared(to);
    double seen = shared.load(std::memory_order_relaxed);
    while (seen < value && !shared.compare_exchange_weak(seen, value)) {
    }
  };
  raise(memory_.norms[2 * head],
        largest_norm(in_.key, head / kv_heads_, head % kv_heads_, first, last));
  raise(memory_.norms[2 * head + 1],
        largest_norm(in_.value, head / kv_heads_, head % kv_heads_, first, last));
}

// Of one row of tiles; head counts batch entries and query heads together.
TileRange NegligibleSearch::range_of_row(int64_t head, int64_t row,
                                         expr::IntervalRegister* r) const {
  const TileRange everything = {0, static_cast<int32_t>(columns_)};
  const int64_t batch = head / query_heads_;
  const int64_t kv_head = batch * kv_heads_ + head % query_heads_ / (query_heads_ / kv_heads_);
  const int64_t q0 = row * in_.grid.tile_queries,
                q1 = std::min(q0 + in_.grid.tile_queries, in_.grid.queries);
  const double key = memory_.norms[2 * kv_head], value = memory_.norms[2 * kv_head + 1];
  const double query = largest_norm(in_.query, batch, head % query_heads_, q0, q1);
  const double product = kRounding * std::fabs(in_.scale) * query * key;
  constexpr double kLargest = 1e30;  // no product of two norms may overflow
  if (!(product < kLargest && query * key < kLargest && value < kLargest)) return everything;
  if (in_.derivative != nullptr && !gradients_are_finite(head, q0, q1, product, value, r))
    return everything;
  begin(*in_.score, head, r);
  in_.score->bound_products(r, product);
  return significant(head, row, r);
}

// dS of a negligible tile is P (dP - delta) * d score / d s: 0 if the factors are finite.
bool NegligibleSearch::gradients_are_finite(int64_t head, int64_t q0, int64_t q1, double product,
                                            double value, expr::IntervalRegister* r) const {
  const int64_t at = head * in_.grid.queries;
  const bool is_double = in_.query.dtype == DType::kFloat64;
  const double grad =
      largest_norm(in_.grad_output, head / query_heads_, head % query_heads_, q0, q1);
  if (!(grad * value < 1e30) || !all_finite(in_.lse, is_double, at + q0, at + q1) ||
      !all_finite(in_.delta, is_double, at + q0, at + q1))
    return false;
  begin(*in_.derivative, head, r);
  in_.derivative->bound_products(r, product);
  const expr::TileGrid& grid = in_.grid;
  const int64_t row = q0 / grid.tile_queries;
  const expr::Box box = grid.box(row, row + 1, 0, columns_);
  RealInterval result[expr::kLanes];
  in_.derivative->evaluate(r, {box, box, box, box}, result);
  return std::isfinite(result[0].lo) && std::isfinite(result[0].hi);
}

// Scores on key tiles [j, j + 4), cut at `last`.
void NegligibleSearch::bounds_on(int64_t row, int64_t j, int64_t last, expr::IntervalRegister* r,
                                 RealInterval (&result)[expr::kLanes]) const {
  expr::Box boxes[expr::kLanes];
  for (int i = 0; i < expr::kLanes; ++i) {
    const int64_t column = std::min(j + i, last - 1);
    boxes[i] = in_.grid.box(row, row + 1, column, column + 1);
  }
  in_.score->evaluate(r, boxes, result);
}

// The tiles from the first to the last one that is not negligible. The registers have begun.
TileRange NegligibleSearch::significant(int64_t head, int64_t row,
                                        expr::IntervalRegister* r) const {
  const TileRows tiles = tiles_of(head).view();
  const TileRun *const begin = tiles.runs + tiles.begin[row], *const end =
                                                                  tiles.runs + tiles.begin[row + 1];
  TileRange range = {0, static_cast<int32_t>(columns_)};
  RealInterval scores[expr::kLanes];
  double floor = -kInfinity;  // every query of the row sees a score of at least this
  for (const TileRun* run = begin; run < end; ++run) {
    if (run->kind != TileKind::kFull) continue;
    for (int64_t j = run->first; j < run->last; j += expr::kLanes) {
      bounds_on(row, j, run->last, r, scores);
      for (const RealInterval& score : scores)
        if (score.is_known()) floor = std::max(floor, score.lo);
    }
  }
  if (!(floor > -kInfinity)) return range;
  const auto matters = [&](const RealInterval& score) {
    return !score.is_known() || !(score.hi < floor - margin_);
  };
  const auto first = [&]() -> int64_t {
    for (const TileRun* run = begin; run < end; ++run)
      for (int64_t j = run->first; j < run->last; j += expr::kLanes) {
        bounds_on(row, j, run->last, r, scores);
        for (int64_t i = 0; i < expr::kLanes && j + i < run->last; ++i)
          if (matters(scores[i])) return j + i;
      }
    return 0;  // not reached: the tile of the floor matters
  };
  const auto last = [&]() -> int64_t {
    for (const TileRun* run = end; run-- > begin;)
      for (int64_t j = run->last; j > run->first; j -= expr::kLanes) {
        const int64_t from = std::max<int64_t>(j - expr::kLanes, run->first);
        bounds_on(row, from, j, r, scores);
        for (int64_t i = j; i-- > from;)
          if (matters(scores[i - from])) return i + 1;
      }
    return columns_;
  };
  return {static_cast<int32_t>(first()), static_cast<int32_t>(last())};
}

NegligibleSearch::Memory negligible_memory(const NegligibleLayout& layout, void* workspace,
                                           int64_t part, int64_t first_head,
                                           int64_t first_row) noexcept {
  return {layout.is_searched.in<int32_t>(workspace) + part,
          layout.norms.in<double>(workspace) + 2 * first_head,
          layout.ranges.in<TileRange>(workspace) + first_row,
          layout.registers.in<expr::IntervalRegister>(workspace), layout.register_stride};
}

}  // namespace tilewise
