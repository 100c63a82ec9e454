// SPDX-License-Identifier: Apache-2.0
// How a check of a vocabulary says what went wrong first.
#pragma once

#include <cstdio>
#include <cstring>

#include "base/random.h"

namespace {

using tilewise::Random;

char failure[256];

#define CHECK(condition, ...)                              \
  do {                                                     \
    if (!(condition)) {                                    \
      std::snprintf(failure, sizeof failure, __VA_ARGS__); \
      return failure;                                      \
    }                                                      \
  } while (false)

template <class Real>
bool same_bits(Real a, Real b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

}  // namespace
