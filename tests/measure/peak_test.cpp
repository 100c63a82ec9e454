// SPDX-License-Identifier: Apache-2.0
// No bound on speed: machines differ and may be busy. Only what must hold on any of them.
#include "measure/peak.h"

#include <gtest/gtest.h>

#include "base/cpu_features.h"
#include "tilewise/error.h"

namespace tilewise::measure {
namespace {

TEST(Peak, IsPositiveForEveryInstructionSet) {
  const CpuFeatures& cpu = cpu_features();
  const bool supported[] = {true, cpu.avx2_fma_f16c, cpu.avx512, cpu.avx512_bf16, cpu.amx_bf16};
  for (int isa = 0; isa < 5; ++isa) {
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat64}) {
      if (supported[isa]) {
        const double gflops = peak_gflops(static_cast<Isa>(isa), dtype, 1, 0.01);
        EXPECT_GT(gflops, 0.001);
        EXPECT_LT(gflops, 1e5) << "more than any core has";
      } else {
        EXPECT_THROW((void)peak_gflops(static_cast<Isa>(isa), dtype, 1, 0.01), InvalidArgument);
      }
    }
  }
}

TEST(Peak, RefusesNoThreads) {
  EXPECT_THROW((void)peak_gflops(Isa::kScalar, DType::kFloat32, 0, 0.01), InvalidArgument);
}

}  // namespace
}  // namespace tilewise::measure
