// SPDX-License-Identifier: Apache-2.0
// Sums that several workers share: each adds when its turn has come, so that the order is that of
// positions. Items start in ascending order (engine/work.h), so whoever is waited for is running.
#pragma once

#include <sched.h>

#include <cstdint>

#include "kernels/cpu/generic/macros.h"

namespace {

inline void wait_for_turn(const int32_t* turn, int32_t expected) {
  for (int spins = 0; __atomic_load_n(turn, __ATOMIC_ACQUIRE) != expected; ++spins) {
    if (spins > 2000) sched_yield();
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
}

inline void pass_turn(int32_t* turn, int32_t next) {
  __atomic_store_n(turn, next, __ATOMIC_RELEASE);
}

}  // namespace
