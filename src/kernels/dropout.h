// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "kernels/launch.h"

namespace tilewise {

// probability: a multiple of 2^-16 below 1, as normalized() has it.
[[nodiscard]] inline Dropout dropout_of(double probability, std::optional<uint64_t> seed) {
  return {seed.value_or(0), static_cast<uint32_t>(probability * 65536), 1 / (1 - probability)};
}

}  // namespace tilewise
