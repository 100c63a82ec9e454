// SPDX-License-Identifier: Apache-2.0
#include "verify/tolerance.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/dtype.h"

namespace tilewise::verify {
namespace {

struct Format {
  int mantissa_bits;  // after the point
  int min_exponent;   // of normal numbers
  double largest;
};

Format format_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return {23, -126, 0x1.fffffep127};
    case DType::kBFloat16:
      return {7, -126, 0x1.fep127};
    case DType::kFloat16:
      return {10, -14, 65504};
    case DType::kFloat64:
      break;
  }
  return {52, -1022, 0x1.fffffffffffffp1023};
}

}  // namespace

double ulp(DType dtype, double magnitude) {
  const Format format = format_of(dtype);
  const double clipped = std::min(std::abs(magnitude), format.largest);
  const int exponent =
      clipped > 0 ? std::max(std::ilogb(clipped), format.min_exponent) : format.min_exponent;
  return std::ldexp(1.0, exponent - format.mantissa_bits);
}

Deviation deviation(const std::vector<double>& actual, const std::vector<double>& reference,
                    DType dtype, int64_t dim) {
  Deviation result;
  const double largest = format_of(dtype).largest;
  double squares = 0, fourth_powers = 0, row_squares = 0, compared = 0;
  for (size_t n = 0; n < reference.size(); ++n) {
    if (n % dim == 0) {
      fourth_powers += row_squares * row_squares;
      row_squares = 0;
    }
    double expected = reference[n], got = actual[n];
    if (std::isfinite(expected) && std::abs(expected) >= largest) {  // both saturate
      expected = std::copysign(largest, expected);
      if (std::isinf(got)) got = std::copysign(largest, got);
    }
    if (!std::isfinite(expected) || !std::isfinite(got)) {
      const bool same = (std::isnan(expected) && std::isnan(got)) || expected == got;
      if (!same && result.misplaced < 0) result.misplaced = static_cast<int64_t>(n);
      continue;
    }
    const double error = std::abs(got - expected);
    result.largest_reference = std::max(result.largest_reference, std::abs(expected));
    if (error > result.max || result.worst < 0) {
      result.max = error;
      result.worst = static_cast<int64_t>(n);
    }
    squares += error * error;
    row_squares += error * error;
    compared += 1;
  }
  fourth_powers += row_squares * row_squares;
  if (fourth_powers > 0) result.effective_rows = squares * squares / fourth_powers;
  if (compared > 0) result.rms = std::sqrt(squares / compared);
  return result;
}

Bound bound(Result result, DType dtype, const Deviation& naive, double largest_lse,
            double keep_scale) {
  const bool is_logsumexp = result == Result::kLogsumexp;
  const bool is_gradient = result == Result::kGradient;
  const DType arithmetic = dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  double unit = ulp(dtype, std::max(naive.largest_reference, is_logsumexp ? 1.0 : 0.0));
  if (dtype == DType::kBFloat16 || dtype == DType::kFloat32)
    unit = std::max(unit, keep_scale * 0x1p-126);
  const double sampling = 1 / std::sqrt(naive.effective_rows);
  const double chance = 1 + 2 * sampling;
  const double factor = is_gradient ? 1.25 : 1.1;
  const double lse_rounding =
      is_logsumexp ? 0 : ulp(arithmetic, largest_lse) * naive.largest_reference * sampling;
  // One LSE may be that of every row, so its rounding need not average out.
  const double lse_max = is_gradient ? lse_rounding * std::max(1.0, 0.5 / sampling) : lse_rounding;
  const double rms = factor * chance * naive.rms + sampling * unit +
                     ulp(arithmetic, naive.largest_reference) / 4 + lse_rounding;
  return {2 * chance * naive.max + 2 * unit + lse_max,
          is_logsumexp ? std::numeric_limits<double>::infinity() : rms};
}

Deviation with_terms(const Deviation& result, const std::vector<double>& terms,
                     const std::vector<double>& reference, int64_t sums) {
  Deviation raised = result;
  const size_t of_each = sums == 0 ? 0 : terms.size() / static_cast<size_t>(sums);
  double all_squares = 0;
  for (int64_t n = 0; n < sums; ++n) {
    double squares = 0;
    for (size_t i = 0; i < of_each; ++i) {
      const size_t at = static_cast<size_t>(n) * of_each + i;
      const double error = terms[at] - reference[at];
      if (std::isfinite(error)) squares += error * error;
    }
    raised.max = std::max(raised.max, std::sqrt(squares));
    all_squares += squares;
  }
  if (sums > 0)
    raised.rms = std::max(raised.rms, std::sqrt(all_squares / static_cast<double>(sums)));
  return raised;
}

Deviation worse_of(const Deviation& a, const Deviation& b) {
  Deviation result = a.max >= b.max ? a : b;
  result.rms = std::max(a.rms, b.rms);
  result.effective_rows = std::min(a.effective_rows, b.effective_rows);
  result.largest_reference = std::max(a.largest_reference, b.largest_reference);
  return result;
}

}  // namespace tilewise::verify
