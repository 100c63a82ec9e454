// SPDX-License-Identifier: Apache-2.0
// Facts of the hardware that choices depend on. Plain data, so that a test can ask what would be
// chosen on a machine it does not run on.
#pragma once

#include <cstdint>
#include <string>

#include "base/cpu_features.h"

namespace tilewise {

struct Machine {
  std::string name = {};
  CpuFeatures features = {};
  CacheSizes caches = {};
  int threads = 1;  // this process may run at once
  // Measured by src/measure; 0: not measured. Choices never depend on them unless they are given.
  double peak_fp32_gflops = 0;
  double peak_bf16_gflops = 0;
  double read_gbytes_per_second = 0;

  // Words of `bytes` each that fit in the cache one core has for itself: the M of the IO model.
  // 256 KiB where the size is unknown: no CPU of the last ten years has a smaller second level.
  [[nodiscard]] int64_t fast_words(int64_t bytes) const noexcept;
};

[[nodiscard]] Machine this_machine();

}  // namespace tilewise
