// SPDX-License-Identifier: Apache-2.0
// Dropout as docs/notation.md defines it, one pair at a time.
#pragma once

#include <cstdint>

namespace tilewise::reference {

// The 16 random bits of a pair, in global positions.
[[nodiscard]] uint32_t dropout_bits(uint64_t seed, int64_t b, int64_t h, int64_t q, int64_t k);

// What P of the pair is multiplied by after the softmax: 0 if it is dropped, else r. dropout:
// rounded to a multiple of 2^-16.
[[nodiscard]] double dropout_factor(double dropout, uint64_t seed, int64_t b, int64_t h, int64_t q,
                                    int64_t k);

}  // namespace tilewise::reference
