// SPDX-License-Identifier: Apache-2.0
// From expressions to the vector code that kernels run (base/tile_program.h).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/tile_program.h"
#include "expr/values.h"

namespace tilewise::expr {

// Owns what a TileProgram points to. Lengths, scalars and offsets are constants in it.
struct ProgramStorage {
  std::vector<ProgramInstruction> code;
  int32_t stage_end[kProgramStages] = {};
  std::vector<ProgramRegister> registers;
  std::vector<int16_t> outputs;
  std::vector<ProgramTable> tables;
  std::vector<std::shared_ptr<const IntTable>> int_tables;  // what tables point to
  int16_t score = -1;
  ProgramSizes sizes;
  bool is_narrow = true;

  // real_tables: one tensor for each symbol of the graph, null if no real table is read. Valid as
  // long as the storage and the tensors.
  [[nodiscard]] TileProgram view(const Tensor* real_tables = nullptr) const noexcept;
};

struct BytecodeOptions {
  // Every int of the expression, and every position, fits in 32 bits.
  bool is_narrow = false;
  // The head differs from query to query: the tiles of decode hold rows of many heads.
  bool heads_are_queries = false;
};

// One output for each root, which are nodes of the graph.
[[nodiscard]] ProgramStorage compile(const Graph& graph, const std::vector<int32_t>& roots,
                                     const Values& values, const BytecodeOptions& options);
[[nodiscard]] inline ProgramStorage compile(const Expression& expression, const Values& values,
                                            const BytecodeOptions& options) {
  return compile(*expression.graph, {expression.root}, values, options);
}

// Memory for either.
[[nodiscard]] bool is_within(const ProgramSizes& sizes, const ProgramSizes& limit) noexcept;
[[nodiscard]] ProgramSizes larger(const ProgramSizes& a, const ProgramSizes& b) noexcept;

}  // namespace tilewise::expr
