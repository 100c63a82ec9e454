// SPDX-License-Identifier: Apache-2.0
// Texts of errors, built only on failure.
#pragma once

#include <string>

namespace tilewise {

// "<operation>: <argument> is <got>, expected <expected>; <hint>" (hint may be empty).
[[nodiscard]] std::string message(const std::string& operation, const std::string& argument,
                                  const std::string& got, const std::string& expected,
                                  const std::string& hint = "");

}  // namespace tilewise
