// SPDX-License-Identifier: Apache-2.0
// Philox 4x32-10 (Salmon et al. 2011): a counter-based generator, the same on every machine.
#pragma once

#include <cstdint>

namespace tilewise {

struct PhiloxBlock {
  uint32_t word[4];
};
// One block of 128 random bits for (key, counter). Known-answer vectors in the test.
[[nodiscard]] PhiloxBlock philox4x32(uint64_t key, uint64_t counter_lo,
                                     uint64_t counter_hi) noexcept;

// A sequential stream over Philox for tests, verify and bench.
class Random {
 public:
  explicit Random(uint64_t seed, uint64_t stream = 0) noexcept : seed_(seed), stream_(stream) {}
  uint32_t bits() noexcept;
  double uniform() noexcept;                            // [0, 1)
  int64_t between(int64_t low, int64_t high) noexcept;  // both inclusive
  double normal() noexcept;                             // N(0, 1), Box-Muller

 private:
  uint64_t seed_, stream_, counter_ = 0;
  PhiloxBlock block_{};
  int used_ = 4;
  bool has_spare_ = false;
  double spare_ = 0;
};

}  // namespace tilewise
