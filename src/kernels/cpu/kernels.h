// SPDX-License-Identifier: Apache-2.0
// What the translation units with instruction-set flags export: one constant per arithmetic.
#pragma once

#include "kernels/cpu/kernel_table.h"

namespace tilewise {

extern const Kernel kScalarF32, kScalarF64;
#if defined(TILEWISE_X86)
extern const Kernel kAvx2F32, kAvx512F32, kAvx512Bf16, kAmxBf16;
#endif

}  // namespace tilewise
