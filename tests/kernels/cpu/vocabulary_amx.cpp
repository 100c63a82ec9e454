// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/amx/simd.h"
#include "kernels/cpu/vocabulary_checks-inl.h"

namespace tilewise {

const VocabularyChecks kAmxBf16Checks = make_checks<AmxBf16>("AmxBf16");

}  // namespace tilewise
