// SPDX-License-Identifier: Apache-2.0
#include "base/random.h"

#include <cmath>

namespace tilewise {

PhiloxBlock philox4x32(uint64_t key, uint64_t counter_lo, uint64_t counter_hi) noexcept {
  // Multipliers and Weyl constants: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3".
  constexpr uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  uint32_t key0 = static_cast<uint32_t>(key), key1 = static_cast<uint32_t>(key >> 32);
  PhiloxBlock block = {{static_cast<uint32_t>(counter_lo), static_cast<uint32_t>(counter_lo >> 32),
                        static_cast<uint32_t>(counter_hi),
                        static_cast<uint32_t>(counter_hi >> 32)}};
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = kMultiplier0 * block.word[0];
    const uint64_t product1 = kMultiplier1 * block.word[2];
    block = {{static_cast<uint32_t>(product1 >> 32) ^ block.word[1] ^ key0,
              static_cast<uint32_t>(product1),
              static_cast<uint32_t>(product0 >> 32) ^ block.word[3] ^ key1,
              static_cast<uint32_t>(product0)}};
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
  return block;
}

uint32_t Random::bits() noexcept {
  if (used_ == 4) {
    block_ = philox4x32(seed_, counter_++, stream_);
    used_ = 0;
  }
  return block_.word[used_++];
}

double Random::uniform() noexcept {
  const uint64_t high = bits() >> 6;  // 26 bits
  const uint64_t low = bits() >> 5;   // 27 bits
  return static_cast<double>((high << 27) | low) * 0x1p-53;
}

int64_t Random::between(int64_t low, int64_t high) noexcept {
  const uint64_t values = static_cast<uint64_t>(high) - static_cast<uint64_t>(low) + 1;
  const auto draw = [this] {
    const uint64_t upper = bits();
    return (upper << 32) | bits();
  };
  if (values == 0) return static_cast<int64_t>(draw());  // all of int64
  const uint64_t uneven = (0 - values) % values;  // 2^64 mod values: drawing again there is fair
  uint64_t drawn = draw();
  while (drawn < uneven) drawn = draw();
  return static_cast<int64_t>(static_cast<uint64_t>(low) + drawn % values);
}

double Random::normal() noexcept {
  if (has_spare_) {
    has_spare_ = false;
    return spare_;
  }
  const double radius = std::sqrt(-2 * std::log(1 - uniform()));  // 1 - u is never 0
  const double angle = 6.283185307179586 * uniform();
  spare_ = radius * std::sin(angle);
  has_spare_ = true;
  return radius * std::cos(angle);
}

}  // namespace tilewise
