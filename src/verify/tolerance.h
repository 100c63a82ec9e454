// SPDX-License-Identifier: Apache-2.0
// How far a result may be from float64: never a number by taste, always the error of naive
// attention in the same precision on the same data (kernels/reference/naive.h). For each whole
// tensor
//
//   max error <= 2 c naive max + 2 ulp + r
//   RMS error <= f c naive RMS + ulp / sqrt(n) + ulp32 / 4 + r
//
//   f = 1.1 forward, 1.25 backward;  c = 1 + 2 / sqrt(n);
//   r = spacing(largest |LSE|) largest |reference| / sqrt(n)
//
// ulp: spacing of the result's dtype at the largest |reference|; ulp32: that of the arithmetic,
// fp32 for 16-bit results. n: the number of rows that make up the naive error, (sum e_r^2)^2 / sum
// e_r^4 with e_r the RMS error of row r. Both errors are draws of a random number, and c is what
// chance may do to their ratio: 5 % at 1600 rows, nothing in a tensor of real size, but up to a
// factor 3 where one row of a sharp softmax outweighs all others. For the same reason the naive
// error is the largest of four variants. r is the rounding of scores as large as LSE, and of
// the LSE that the backward is given: a relative error of P that is 0 by chance in a naive row with
// one dominant key. In the maximum of a gradient r is at least half of that spacing times largest
// |reference|: rows with equal scores share one LSE, and its rounding.
//
// Each number of the gradient of a sink or a table is a sum over many rows, whose naive error may
// vanish by chance; so it counts as at least sqrt(sum e^2), where e are the naive errors of what
// parts of the rows add.
//
// ulp is at least 2^-126 in fp32 and bf16 (bf16 instructions take smaller numbers for 0), times r
// of dropout, which multiplies finished sums; and, for LSE, at least 2^-23, the relative error of a
// probability that is rounded once. LSE has the bound on the maximum only.
//
// NaN and infinity are exact: they must stand where the reference has them, with their sign. A
// reference beyond the range of the dtype accepts what it rounds to.
#pragma once

#include <cstdint>
#include <vector>

#include "tilewise/tensor.h"

namespace tilewise::verify {

// Spacing of the dtype's numbers at the magnitude; at least its smallest positive number.
[[nodiscard]] double ulp(DType dtype, double magnitude);

// The distance of a result from the reference, over a whole tensor.
struct Deviation {
  double max = 0;
  double rms = 0;
  int64_t worst = -1;      // index of the element of the largest error; -1: no element
  int64_t misplaced = -1;  // first element that is NaN or infinite where the reference is not, or
                           // the other way round; -1: none
  double largest_reference = 0;
  double effective_rows = 1;  // n above
};
// `dtype`: the one that `actual` was rounded to. `dim`: elements of a row.
[[nodiscard]] Deviation deviation(const std::vector<double>& actual,
                                  const std::vector<double>& reference, DType dtype, int64_t dim);

enum class Result { kOutput, kLogsumexp, kGradient };

struct Bound {
  double max = 0;
  double rms = 0;
};
// largest_lse: the largest finite |LSE| of the reference; not read for LSE itself. keep_scale: r of
// dropout.
[[nodiscard]] Bound bound(Result result, DType dtype, const Deviation& naive,
                          double largest_lse = 1, double keep_scale = 1);

// `result`, of sums over rows, with at least the errors that those of the terms amount to. terms:
// [sums, any number].
[[nodiscard]] Deviation with_terms(const Deviation& result, const std::vector<double>& terms,
                                   const std::vector<double>& reference, int64_t sums);

// The larger of each error, the smaller number of rows.
[[nodiscard]] Deviation worse_of(const Deviation& a, const Deviation& b);

}  // namespace tilewise::verify
