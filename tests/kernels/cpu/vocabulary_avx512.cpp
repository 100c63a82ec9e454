// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/avx512/simd.h"
#include "kernels/cpu/vocabulary_checks-inl.h"

namespace tilewise {

const VocabularyChecks kAvx512F32Checks = make_checks<Avx512F32>("Avx512F32");

}  // namespace tilewise
