// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>

#include "kernels/launch.h"

namespace tilewise {

// probability: validated.
[[nodiscard]] inline Dropout dropout_of(double probability, std::optional<uint64_t> seed) {
  const double threshold = std::round(probability * 65536);
  return {seed.value_or(0), static_cast<uint32_t>(threshold), 65536 / (65536 - threshold)};
}

}  // namespace tilewise
