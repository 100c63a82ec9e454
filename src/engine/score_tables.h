// SPDX-License-Identifier: Apache-2.0
// The real tables of a score: what a step needs of them, and whether a run gives it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "expr/ir.h"
#include "tilewise/plan.h"

namespace tilewise {

// A table of `rank` indices is the last axes of its tensor.
struct ScoreTable {
  std::string name;
  int32_t symbol = 0;
  int rank = 0;
  int64_t extent[4] = {1, 1, 1, 1};  // the least that holds every index of the step
  int64_t first = 0;                 // element 0 among the elements of all tables
};

// The tables of a run, and of the gradients wanted, are those of the score: names, shapes, dtypes,
// memory. Throws InvalidArgument; allocates nothing otherwise.
void validate_tables(const std::vector<ScoreTable>& tables, const ForwardTensors& tensors,
                     const char* operation);
void validate_tables(const std::vector<ScoreTable>& tables, const BackwardTensors& tensors,
                     const char* operation);

// The tensors of a run by symbol, as programs look them up.
struct RealTables {
  Tensor by_symbol[expr::Graph::kMaxSymbols];
  RealTables(const std::vector<ScoreTable>& tables, const std::vector<NamedTensor>& given);
};

}  // namespace tilewise
