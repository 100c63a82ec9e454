// SPDX-License-Identifier: Apache-2.0
// What the floating-point units do when nothing else is in the way.
#pragma once

#include "kernels/cpu/kernel_table.h"
#include "tilewise/tensor.h"

namespace tilewise::measure {

// GFLOP/s of `threads` threads together, the best of several rounds of `seconds` in all.
// bf16 on amx is the product of tiles, on avx512bf16 the dot product, fp64 is double, all else is
// fp32 FMA (peak_loops.h). Throws InvalidArgument if this CPU does not have isa or threads < 1.
[[nodiscard]] double peak_gflops(Isa isa, DType dtype, int threads, double seconds = 0.2);

}  // namespace tilewise::measure
