// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/avx512bf16/simd.h"
#include "kernels/cpu/vocabulary_checks-inl.h"

namespace tilewise {

const VocabularyChecks kAvx512Bf16Checks = make_checks<Avx512Bf16>("Avx512Bf16");

}  // namespace tilewise
