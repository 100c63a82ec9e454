// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>

#include "tilewise/error.h"

namespace tilewise::test {

// The text of the InvalidArgument that it throws, or "no error".
inline std::string error_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace tilewise::test
