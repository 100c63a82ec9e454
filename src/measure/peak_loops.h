// SPDX-License-Identifier: Apache-2.0
// Loops that do nothing but multiply and add in registers: the roof of every kernel.
#pragma once

#include <cstdint>

#include "kernels/cpu/kernel_table.h"
#include "tilewise/tensor.h"

namespace tilewise::measure {

struct PeakLoop {
  double (*run)(int64_t iterations) noexcept;  // the result only keeps the work from being removed
  double flops_per_iteration;
};

// bf16 on amx: the product of tiles. bf16 on avx512bf16: the bf16 dot product with fp32 sums. fp64:
// double FMA. Anything else: fp32 FMA of the instruction set. Scalar: what the compiler makes of
// a*b + c for the baseline CPU. The CPU must support isa.
[[nodiscard]] PeakLoop peak_loop(Isa isa, DType dtype) noexcept;

}  // namespace tilewise::measure
