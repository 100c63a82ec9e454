// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/avx2/simd.h"
#include "kernels/cpu/vocabulary_checks-inl.h"

namespace tilewise {

const VocabularyChecks kAvx2F32Checks = make_checks<Avx2F32>("Avx2F32");

}  // namespace tilewise
