// SPDX-License-Identifier: Apache-2.0
// What the row passes of standard attention know. Plain data, as in launch.h.
#pragma once

#include <cstdint>

#include "base/tile.h"
#include "base/tile_program.h"
#include "kernels/launch.h"
#include "tilewise/tensor.h"

namespace tilewise {

// Rows [0, rows) of matrices of `columns` columns. Row r of matrix x starts x_row * r elements
// after x. Real: float, or double in the float64 kernel. Which pass reads what: Kernel.
struct RowsLaunch {
  int64_t rows, columns;
  DType dtype;  // of from and to
  const void* from;
  void* to;
  int64_t from_row, to_row;
  // Column j of row r is visible if the rule shows key j to query first_query + r.
  TileRule rule;
  int64_t first_query;
  const TileProgram* program;  // that of the rule, if it has one
  ProgramSizes program_sizes;
  TileOrigin origin;  // batch and head are those of the matrix
  double factor;      // of S, before the bias
  const void* bias;   // null: none
  DType bias_dtype;
  int64_t bias_row, bias_column;
  void* logsumexp;  // Real, one per row; null: none
  int64_t logsumexp_row;
  const void* sink;            // Real, one more score of every row; null: none
  const void* grad_logsumexp;  // Real, one per row; null: none
  int64_t grad_logsumexp_row;
  Dropout dropout;
  void* dropped;  // Z o P, as `to`; null: no dropout
};

// sum (Real, one row) = the sum of all rows of from; accumulate: += it.
struct SumRowsLaunch {
  int64_t rows, columns;
  const void* from;
  DType dtype;
  int64_t from_row;
  void* sum;
  int64_t sum_column;
  bool accumulate;
};

}  // namespace tilewise
