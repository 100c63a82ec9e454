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

  // Bytes of the first and second level; where unknown 32 KiB and 256 KiB: no CPU of the last ten
  // years has less.
  [[nodiscard]] int64_t l1_bytes() const noexcept;
  [[nodiscard]] int64_t l2_bytes() const noexcept;
  // Words of `bytes` each that fit in the cache one core has for itself: the M of the IO model.
  [[nodiscard]] int64_t fast_words(int64_t bytes) const noexcept { return l2_bytes() / bytes; }
};

[[nodiscard]] const Machine& this_machine();  // looked up once

}  // namespace tilewise
