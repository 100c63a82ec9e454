// SPDX-License-Identifier: Apache-2.0
// The loops compute what they claim: so many multiply-adds per iteration, no NaN, no overflow.
#include "measure/peak_loops.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/cpu_features.h"

namespace tilewise::measure {
namespace {

TEST(PeakLoops, FlopsPerIterationFollowTheWidth) {
  EXPECT_EQ(peak_loop(Isa::kScalar, DType::kFloat32).flops_per_iteration, 12 * 4 * 2);
  EXPECT_EQ(peak_loop(Isa::kScalar, DType::kFloat64).flops_per_iteration, 12 * 2 * 2);
#ifdef TILEWISE_X86
  EXPECT_EQ(peak_loop(Isa::kAvx2, DType::kFloat32).flops_per_iteration, 12 * 8 * 2);
  EXPECT_EQ(peak_loop(Isa::kAvx512, DType::kFloat32).flops_per_iteration, 12 * 16 * 2);
  EXPECT_EQ(peak_loop(Isa::kAvx512, DType::kBFloat16).flops_per_iteration, 12 * 16 * 2);
  EXPECT_EQ(peak_loop(Isa::kAvx512Bf16, DType::kBFloat16).flops_per_iteration, 12 * 16 * 4);
  EXPECT_EQ(peak_loop(Isa::kAmx, DType::kBFloat16).flops_per_iteration, 4 * 16 * 16 * 64);
  EXPECT_EQ(peak_loop(Isa::kAvx512Bf16, DType::kFloat64).flops_per_iteration, 12 * 8 * 2);
#endif
}

#ifdef TILEWISE_X86
// Every accumulator gains a * b per iteration (the dot product two of them, of ones), and lane 0 of
// the sum of the twelve comes back.
TEST(PeakLoops, SumsAreThoseOfTheInstruction) {
  const CpuFeatures& cpu = cpu_features();
  if (cpu.avx2_fma_f16c) {
    EXPECT_NEAR(peak_loop(Isa::kAvx2, DType::kFloat32).run(1000), 12 * 1000 * 1e-6, 1e-6);
    EXPECT_NEAR(peak_loop(Isa::kAvx2, DType::kFloat64).run(1000), 12 * 1000 * 1e-6, 1e-12);
  }
  if (cpu.avx512) {
    EXPECT_NEAR(peak_loop(Isa::kAvx512, DType::kFloat32).run(1000), 12 * 1000 * 1e-6, 1e-6);
    EXPECT_NEAR(peak_loop(Isa::kAvx512, DType::kFloat64).run(1000), 12 * 1000 * 1e-6, 1e-12);
  }
  if (cpu.avx512_bf16) {
    EXPECT_EQ(peak_loop(Isa::kAvx512Bf16, DType::kBFloat16).run(1000), 12 * 1000 * 2);
  }
  if (cpu.amx_bf16) {
    EXPECT_EQ(peak_loop(Isa::kAmx, DType::kBFloat16).run(1000), 1000 * 32);
  }
}
#endif

TEST(PeakLoops, ScalarStaysFinite) {
  EXPECT_TRUE(std::isfinite(peak_loop(Isa::kScalar, DType::kFloat32).run(100000)));
  EXPECT_TRUE(std::isfinite(peak_loop(Isa::kScalar, DType::kFloat64).run(100000)));
}

}  // namespace
}  // namespace tilewise::measure
