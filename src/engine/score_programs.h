// SPDX-License-Identifier: Apache-2.0
// The score of a step as programs, and the memory that gradients of its tables take.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/score_bounds.h"
#include "engine/score_tables.h"
#include "engine/workspace_layout.h"
#include "expr/bytecode.h"
#include "kernels/launch.h"

namespace tilewise {

struct ScorePrograms {
  expr::Values values;
  expr::ProgramStorage forward;
  expr::ProgramStorage decode;                // the head belongs to the row
  expr::ProgramStorage backward;              // outputs: the score and its derivative by s
  expr::ProgramStorage backward_with_tables;  // and what `lookups` name
  ScoreBounds bounds, derivative_bounds;      // where positions matter, else of nothing
  std::vector<ScoreTable> tables;
  std::vector<TableLookup> lookups;  // that the score's gradient reaches
  int64_t table_elements = 0;        // of the least extents; kMaxInt: too many to count
};

// values: of the score's symbols; not read without a score. Throws InvalidArgument where a divisor
// may be 0 or an integer table may be left.
[[nodiscard]] ScorePrograms make_score_programs(const Score& score, const expr::Values& values,
                                                const Step& step, int64_t query_heads,
                                                const char* operation);
// Of a ragged batch: tables with room for the indices of this sequence as well.
void widen_tables(ScorePrograms& whole, const Score& score, const ScorePrograms& sequence);

// ScoreBounds::steps() of any step.
[[nodiscard]] int64_t bound_steps(const Score& score);

// The largest programs of the score that any step may need.
[[nodiscard]] ProgramSizes largest_program(const Score& score);

// What gradients of tables take at most, in any step.
[[nodiscard]] TableSizes largest_tables(const Problem& problem);
// Of the step: nothing if it has more elements than the problem allows.
[[nodiscard]] TableSizes table_sizes(const Problem& problem, const ScorePrograms& score);
// Throws InvalidArgument if gradients are wanted and there are more elements than that.
void validate_table_elements(const Problem& problem, const ScorePrograms& score,
                             const BackwardTensors& tensors, const char* operation);
inline void validate_table_elements(const Problem&, const ScorePrograms&, const ForwardTensors&,
                                    const char*) {}

}  // namespace tilewise
