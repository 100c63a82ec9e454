// SPDX-License-Identifier: Apache-2.0
// The kernels of any CPU: the only translation unit compiled with its flags.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/generic/kernels-inl.h"
#include "kernels/cpu/scalar/simd.h"

namespace tilewise {

const Kernel kScalarF32 = make_kernel<ScalarF32>("fp32");
const Kernel kScalarF64 = make_kernel<ScalarF64>("fp64");

}  // namespace tilewise
