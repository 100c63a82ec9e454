// SPDX-License-Identifier: Apache-2.0
// How far a result may be from float64: never a number by taste, always the error of naive
// attention in the same precision on the same data (kernels/reference/naive.h). For each whole
// tensor
//
//   max error <= 2 naive max + 2 ulp
//   RMS error <= f (1 + 2 / sqrt(rows)) naive RMS + ulp / sqrt(rows),   f = 1.1 forward, 1.25
//   backward
//
// where ulp is the spacing of the result's dtype at the largest |reference|, and rows = batch *
// heads * length. The terms with sqrt(rows) are the sampling error of an RMS over few rows: 6 % at
// a thousand rows, nothing in a tensor of real size. The naive error is one draw of a random number
// too, so it is taken as the larger of two summation orders. LSE has the bound on the maximum only.
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
};
// `dtype`: the one that `actual` was rounded to.
[[nodiscard]] Deviation deviation(const std::vector<double>& actual,
                                  const std::vector<double>& reference, DType dtype);

enum class Pass { kForward, kBackward };

struct Bound {
  double max = 0;
  double rms = 0;
};
[[nodiscard]] Bound bound(Pass pass, DType dtype, const Deviation& naive, int64_t rows);

// The larger of each number.
[[nodiscard]] Deviation worse_of(const Deviation& a, const Deviation& b);

}  // namespace tilewise::verify
