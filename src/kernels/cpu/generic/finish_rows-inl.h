// SPDX-License-Identifier: Apache-2.0
// The end of a row, when all keys have been seen: the sink joins its sum, and LSE.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/generic/pack-inl.h"
#include "kernels/cpu/generic/scores-inl.h"

namespace {

// 2^n for n <= 0 integral.
template <class Real>
Real power_of_two(double n) {
  const int exponent = n < -2000 ? -2000 : static_cast<int>(n);
  if constexpr (sizeof(Real) == 4) {
    if (exponent < -126) return __builtin_ldexpf(1, exponent);
    const int32_t bits = (127 + exponent) << 23;
    Real power;
    std::memcpy(&power, &bits, sizeof(power));
    return power;
  } else {
    return __builtin_ldexp(1, exponent);
  }
}

// One more score of every row of a head, whose value is 0: exp(value) = power * 2^exponent, with an
// integral exponent, so that what it adds to a row does not depend on where m came to lie.
template <class Real>
struct Sink {
  double value = -__builtin_inf();  // the same as no sink
  double exponent = 0;
  Real power = 0;

  Sink() = default;
  Sink(const Tensor& tensor, int64_t head) {
    if (!tensor.data) return;
    value = tilewise::load_element(matrix_of(tensor, 0, head).at(0, 0), tensor.dtype, 0);
    if (value == -__builtin_inf()) return;
    const double log2 = value * kLog2E;
    exponent = __builtin_rint(log2);
    const double rest = __builtin_fma(value, kLog2E, -exponent) + value * kLog2ELow;
    const bool has_fraction = -1 < rest && rest < 1;  // doubles beyond 2^53 have none
    power = static_cast<Real>(__builtin_exp2(has_fraction ? rest : 0));
    if (log2 - log2 != 0) exponent = 0, power = __builtin_nanf("");  // infinity acts as NaN
  }
};

// The sums of a row when all keys have been seen.
template <class Real>
struct RowSums {
  double m;
  Real l, l_words;
  bool is_sink_alone = false;
};

// Adds the sink to the sums of a row; returns what its O is to be multiplied by, which is
// diag(l)^-1 of line 12. The larger of m and the sink becomes the reference. A row that has seen
// nothing stays as it is.
template <class Real>
Real add_sink(const Sink<Real>& sink, RowSums<Real>& row) {
  row.is_sink_alone = row.l == 0;
  if (row.l == 0) return 0;
  if (sink.power == 0) return 1 / row.l_words;
  Real factor = 1, power = sink.power;
  if (row.m < sink.exponent) {
    factor = power_of_two<Real>(row.m - sink.exponent);
    row.m = sink.exponent;
  } else {
    power *= power_of_two<Real>(sink.exponent - row.m);
  }
  row.l = row.l * factor + power;
  row.l_words = row.l_words * factor + power;
  row.is_sink_alone = row.l == power;
  return factor / row.l_words;
}

// LSE = m + log l, in natural logarithms; the sink itself where nothing else counts.
template <class Real>
void store_logsumexp(char* to, const RowSums<Real>& row, const Sink<Real>& sink) {
  const Real l = row.l;
  // Of the fraction alone, so that LSE does not depend on where m came to lie.
  int exponent = 0;
  double log_l;
  if constexpr (sizeof(Real) == 4)
    log_l = __builtin_log2f(__builtin_frexpf(l, &exponent));
  else
    log_l = __builtin_log2(__builtin_frexp(l, &exponent));
  const double value = row.is_sink_alone ? sink.value : (row.m + exponent + log_l) * kLn2;
  if constexpr (sizeof(Real) == 4) {
    const float rounded = static_cast<float>(value);
    std::memcpy(to, &rounded, 4);
  } else {
    std::memcpy(to, &value, 8);
  }
}

}  // namespace
