// SPDX-License-Identifier: Apache-2.0
// What vocabulary_checks-inl.h, compiled once per instruction set, offers to the tests. Plain
// functions: GoogleTest must not be compiled with instruction-set flags.
#pragma once

#include <cstdint>

#include "base/tile_program.h"

namespace tilewise {

// A tile that a program runs on: rows are keys or queries, lanes the other.
struct ProgramTile {
  int64_t batch, head, query, key;  // global positions of the first row and lane
  bool rows_are_keys;
  int rows;
  int j0, j1;            // the lane vectors that are asked for
  const double* scores;  // (rows in whole units, width)
};

struct VocabularyChecks {
  const char* name;
  // Each returns "" or what went wrong first.
  const char* (*operations)();  // every word of simd.h against plain loops
  const char* (*transpose)();
  const char* (*conversions)();  // bf16 and fp16, loads and stores
  const char* (*exp2)();         // accuracy, exact zero, detection of overflow
  const char* (*products)();     // the register blocks against plain loops, bit by bit where exact
  const char* (*visible)();      // segments and bits against the definition of a band
  const char* (*packing)();      // rows, pairs, transposes with every stride and tail
  const char* (*cold_path)();    // score_unit and score_unit_cold give the same bits
  const char* (*dropout)();      // random bits of tiles against the definition
  const char* (*elementary)();   // exp, log, tanh against the runtime's

  int lanes, width;  // of a vector, of a register block
  // values[(output * rows in whole units + row) * width + lane]; bools are 0 and 1.
  void (*evaluate)(const TileProgram&, const ProgramSizes&, const ProgramTile&, double* values);
};

extern const VocabularyChecks kScalarF32Checks, kScalarF64Checks;
#if defined(TILEWISE_X86)
extern const VocabularyChecks kAvx2F32Checks, kAvx512F32Checks, kAvx512Bf16Checks, kAmxBf16Checks;
#endif

}  // namespace tilewise
