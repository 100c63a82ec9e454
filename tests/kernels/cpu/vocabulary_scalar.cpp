// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/scalar/simd.h"
#include "kernels/cpu/vocabulary_checks-inl.h"

namespace tilewise {

const VocabularyChecks kScalarF32Checks = make_checks<ScalarF32>("ScalarF32");
const VocabularyChecks kScalarF64Checks = make_checks<ScalarF64>("ScalarF64");

}  // namespace tilewise
