// SPDX-License-Identifier: Apache-2.0
// A mask or a score as vector code: plain data, made by expr/bytecode.h, run by kernels on a tile.
//
// An instruction belongs to the stage that says what its value depends on. The first three stages
// run once per tile, on vectors along one axis; only the last runs for every pair.
#pragma once

#include <cstdint>

#include "tilewise/tensor.h"

namespace tilewise {

enum class ProgramStage : uint8_t { kUniform, kQuery, kKey, kPair };
enum class ProgramType : uint8_t { kBool, kInt, kReal };
inline constexpr int kProgramStages = 4;
inline constexpr int kProgramTypes = 3;

// out = a op b; the meaning of the operators is that of expr/ir.h.
enum class ProgramOp : uint8_t {
  // Leaves: from the immediate, or from the tile.
  kBoolConstant,
  kIntConstant,
  kRealConstant,  // the bits of a double
  kBatch,
  kHead,
  kQuery,
  kKey,
  // Int.
  kAddInt,
  kSubInt,
  kMulInt,
  kMinInt,
  kMaxInt,
  kAbsInt,
  kNegInt,
  kFloorDiv,
  kMod,
  kFloorDivConstant,  // by the immediate, which is positive
  kModConstant,
  kShiftRight,  // by the immediate: floor division by a power of two
  kBitAnd,      // with the immediate: modulo a power of two
  // Real.
  kAddReal,
  kSubReal,
  kMulReal,
  kMulConstant,  // with the immediate, the bits of a double
  // Rounded once, where the instruction set has such a product.
  kAddProduct,   // c + a b
  kSubProduct,   // c - a b
  kAddDistance,  // d + c * to_real(a - b) of ints a, b
  kSubDistance,  // d - c * to_real(a - b)
  kMinReal,
  kMaxReal,
  kAbsReal,
  kNegReal,
  kDiv,
  kExp,
  kLog,
  kTanh,  // factor * tanh(immediate * a); both are bits of doubles
  kSqrt,
  kToReal,
  // Bool.
  kLessInt,
  kLessEqualInt,
  kEqualInt,
  kNotEqualInt,
  kLessReal,
  kLessEqualReal,
  kEqualReal,
  kNotEqualReal,
  kAnd,
  kOr,
  kNot,
  // a ? b : c.
  kWhereBool,
  kWhereInt,
  kWhereReal,
  // immediate: the table; a, b, c, d: its indices.
  kLookupInt,
  kLookupReal,
};

struct ProgramInstruction {
  ProgramOp op;
  uint8_t count;  // operands
  int16_t out;
  int16_t operand[4];
  int64_t immediate;
  int64_t factor;
};

struct ProgramRegister {
  ProgramType type;
  ProgramStage stage;
  bool is_spread;  // an instruction of a later stage reads it, or it is an output
  int16_t index;   // among those of its type and stage
};

// How much memory a program needs: registers of each type and stage.
struct ProgramSizes {
  int32_t registers[kProgramTypes][kProgramStages] = {};
  int32_t total = 0;
};

// A table of up to four axes. Strides in elements.
struct ProgramTable {
  const int32_t* data;  // null: real, and its memory is real_tables[symbol]
  int32_t symbol;
  int32_t rank;
  int64_t shape[4];
  int64_t strides[4];
};

struct TileProgram {
  const ProgramInstruction* code = nullptr;
  int32_t stage_end[kProgramStages] = {};  // a stage begins where the one before ends
  const ProgramRegister* registers = nullptr;
  int32_t register_count = 0;
  const int16_t* outputs = nullptr;  // registers
  int32_t output_count = 0;
  int16_t score = -1;  // the register of s, whose memory the caller gives; -1: not read
  const ProgramTable* tables = nullptr;
  const Tensor* real_tables = nullptr;  // by symbol; axes as in expr/values.h
  bool is_narrow = true;                // every int fits in 32 bits
};

}  // namespace tilewise
