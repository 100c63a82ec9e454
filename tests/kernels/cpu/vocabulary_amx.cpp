// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/amx/simd.h"
#include "kernels/cpu/tile_checks-inl.h"

namespace tilewise {

const VocabularyChecks kAmxBf16Checks = make_checks<AmxBf16>("AmxBf16", check_tiles<AmxBf16>);

}  // namespace tilewise
