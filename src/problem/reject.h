// SPDX-License-Identifier: Apache-2.0
// Throwing InvalidArgument in one line, with values as text.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>

#include "base/message.h"
#include "tilewise/error.h"

namespace tilewise {

[[noreturn]] inline void reject(const std::string& operation, const std::string& argument,
                                const std::string& got, const std::string& expected,
                                const std::string& hint = "") {
  throw InvalidArgument(message(operation, argument, got, expected, hint));
}

[[nodiscard]] inline std::string text_of(int64_t value) { return std::to_string(value); }
[[nodiscard]] inline std::string text_of(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "infinity" : "-infinity";
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%g", value);
  return buffer;
}
// Four numbers of a shape or of strides: "[2, 8, 128, 64]".
[[nodiscard]] inline std::string text_of(const int64_t (&values)[4]) {
  std::string text = "[";
  for (int axis = 0; axis < 4; ++axis) {
    text += (axis == 0 ? "" : ", ") + std::to_string(values[axis]);
  }
  return text + "]";
}

inline void require_between(const std::string& operation, const char* argument, int64_t value,
                            int64_t low, int64_t high, const char* hint = "") {
  if (value >= low && value <= high) return;
  reject(operation, argument, text_of(value), text_of(low) + " to " + text_of(high), hint);
}

}  // namespace tilewise
