// SPDX-License-Identifier: Apache-2.0
// The kernels of AMX-BF16: the only translation unit compiled with its flags.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/amx/simd.h"
#include "kernels/cpu/generic/kernels-inl.h"

namespace tilewise {

// On CPUs with AMX fp32 FMA has twice the rate of vdpbf16ps, so all that is not done in tiles is
// done in fp32.
const Kernel kAmxBf16 = make_kernel<AmxBf16, Avx512F32>("bf16");

}  // namespace tilewise
