// SPDX-License-Identifier: Apache-2.0
// The kernels of AVX-512: the only translation unit compiled with its flags.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/avx512/simd.h"
#include "kernels/cpu/generic/kernels-inl.h"

namespace tilewise {

const Kernel kAvx512F32 = make_kernel<Avx512F32>("fp32");

}  // namespace tilewise
