// SPDX-License-Identifier: Apache-2.0
// The kernels of AVX2 + FMA + F16C: the only translation unit compiled with its flags.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/avx2/simd.h"
#include "kernels/cpu/generic/kernels-inl.h"

namespace tilewise {

const Kernel kAvx2F32 = make_kernel<Avx2F32>("fp32");

}  // namespace tilewise
