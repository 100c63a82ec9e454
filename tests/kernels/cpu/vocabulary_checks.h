// SPDX-License-Identifier: Apache-2.0
// What vocabulary_checks-inl.h, compiled once per instruction set, offers to the tests. Plain
// functions: GoogleTest must not be compiled with instruction-set flags.
#pragma once

namespace tilewise {

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
};

extern const VocabularyChecks kScalarF32Checks, kScalarF64Checks;
#if defined(TILEWISE_X86)
extern const VocabularyChecks kAvx2F32Checks, kAvx512F32Checks, kAvx512Bf16Checks, kAmxBf16Checks;
#endif

}  // namespace tilewise
