// SPDX-License-Identifier: Apache-2.0
// What tests do less of under a sanitizer.
#pragma once

#include <string>
#include <vector>

#include "tilewise/attention.h"

namespace tilewise::test {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAddressSanitizer = true;
#else
inline constexpr bool kAddressSanitizer = false;
#endif

// 50 times slower, and what it looks for shows in one run.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool kThreadSanitizer = true;
#else
inline constexpr bool kThreadSanitizer = false;
#endif

inline constexpr bool kSanitizer = kAddressSanitizer || kThreadSanitizer;

// For tests that run on several threads: these share the same memory whatever the instruction set.
inline std::vector<std::string> isas_to_run_on_threads() {
  if (kThreadSanitizer) return {available_isas().front()};
  return available_isas();
}

}  // namespace tilewise::test
