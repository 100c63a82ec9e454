// SPDX-License-Identifier: Apache-2.0
// The kernels of AVX-512 with AVX512_BF16: the only translation unit compiled with its flags.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/avx512bf16/simd.h"
#include "kernels/cpu/generic/kernels-inl.h"

namespace tilewise {

const Kernel kAvx512Bf16 = make_kernel<Avx512Bf16>("bf16");

}  // namespace tilewise
