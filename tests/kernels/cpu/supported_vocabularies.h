// SPDX-License-Identifier: Apache-2.0
// The checks of every vocabulary that this CPU runs.
#pragma once

#include <vector>

#include "base/cpu_features.h"
#include "kernels/cpu/vocabulary_checks.h"

namespace tilewise {

inline std::vector<const VocabularyChecks*> supported_vocabularies() {
  std::vector<const VocabularyChecks*> list = {&kScalarF32Checks, &kScalarF64Checks};
#if defined(TILEWISE_X86)
  const CpuFeatures& cpu = cpu_features();
  if (cpu.avx2_fma_f16c) list.push_back(&kAvx2F32Checks);
  if (cpu.avx512) list.push_back(&kAvx512F32Checks);
  if (cpu.avx512 && cpu.avx512_bf16) list.push_back(&kAvx512Bf16Checks);
  if (cpu.amx_bf16) list.push_back(&kAmxBf16Checks);
#endif
  return list;
}

}  // namespace tilewise
