// SPDX-License-Identifier: Apache-2.0
// The score of a step as programs, and the tables that a run must give them.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/workspace_layout.h"
#include "expr/bytecode.h"
#include "kernels/launch.h"
#include "tilewise/plan.h"

namespace tilewise {

// One real table of a score: a table of `rank` indices is the last axes of its tensor.
struct ScoreTable {
  std::string name;
  int32_t symbol = 0;
  int rank = 0;
  int64_t extent[4] = {1, 1, 1, 1};  // the least that holds every index of the step
  int64_t first = 0;                 // element 0 among the elements of all tables
};

struct ScorePrograms {
  expr::Values values;
  expr::ProgramStorage forward;
  expr::ProgramStorage decode;                // the head belongs to the row
  expr::ProgramStorage backward;              // outputs: the score and its derivative by s
  expr::ProgramStorage backward_with_tables;  // and what `lookups` name
  std::vector<ScoreTable> tables;
  std::vector<TableLookup> lookups;  // that the score's gradient reaches
  int64_t table_elements = 0;        // of the least extents; kMaxInt: too many to count
  [[nodiscard]] bool is_identity() const noexcept {
    return forward.code.empty() && forward.score < 0;
  }
};

// Throws InvalidArgument where data is missing, a divisor may be 0 or an integer table may be left.
[[nodiscard]] ScorePrograms make_score_programs(const Score& score, const Step& step,
                                                int64_t query_heads, const char* operation);

// The largest programs of the score that any step may need.
[[nodiscard]] ProgramSizes largest_program(const Score& score);

// What gradients of tables take at most, in any step.
[[nodiscard]] TableSizes largest_tables(const Problem& problem);
// Of the step: nothing if it has more elements than the problem allows.
[[nodiscard]] TableSizes table_sizes(const Problem& problem, const ScorePrograms& score);
// Throws InvalidArgument if gradients are wanted and there are more elements than that.
void validate_table_elements(const Problem& problem, const ScorePrograms& score,
                             const BackwardTensors& tensors, const char* operation);

// The tables of a run, and of the gradients wanted, are those of the score: names, shapes, dtypes,
// memory. Throws InvalidArgument.
void validate_tables(const ScorePrograms& score, const ForwardTensors& tensors,
                     const char* operation);
void validate_tables(const ScorePrograms& score, const BackwardTensors& tensors,
                     const char* operation);

// The tensors of a run by symbol, as programs look them up.
struct RealTables {
  static constexpr size_t kMax = expr::Graph::kMaxSymbols;
  Tensor by_symbol[kMax];
  RealTables(const ScorePrograms& score, const std::vector<NamedTensor>& tables);
};

}  // namespace tilewise
