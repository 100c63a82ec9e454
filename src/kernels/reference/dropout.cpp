// SPDX-License-Identifier: Apache-2.0
#include "kernels/reference/dropout.h"

#include <cmath>

#include "base/random.h"

namespace tilewise::reference {

uint32_t dropout_bits(uint64_t seed, int64_t b, int64_t h, int64_t q, int64_t k) {
  const auto low_word = [](int64_t x) { return static_cast<uint64_t>(static_cast<uint32_t>(x)); };
  const int64_t by_query = q / 16 * 8 + q % 8;
  const int64_t by_key = k / 16 * 4 + k % 8 / 2;
  const PhiloxBlock block = philox4x32(seed, low_word(by_query) | low_word(by_key) << 32,
                                       low_word(h) | low_word(b) << 32);
  const int64_t word = k % 16 / 8 * 2 + q % 16 / 8;
  return block.word[word] >> (k % 2 * 16) & 0xffff;
}

double dropout_factor(double dropout, uint64_t seed, int64_t b, int64_t h, int64_t q, int64_t k) {
  if (dropout == 0) return 1;
  const double threshold = std::round(dropout * 65536);
  return dropout_bits(seed, b, h, q, k) < threshold ? 0 : 65536 / (65536 - threshold);
}

}  // namespace tilewise::reference
