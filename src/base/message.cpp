// SPDX-License-Identifier: Apache-2.0
#include "base/message.h"

namespace tilewise {

std::string message(const std::string& operation, const std::string& argument,
                    const std::string& got, const std::string& expected, const std::string& hint) {
  std::string text = operation + ": " + argument + " is " + got + ", expected " + expected;
  if (!hint.empty()) text += "; " + hint;
  return text;
}

}  // namespace tilewise
