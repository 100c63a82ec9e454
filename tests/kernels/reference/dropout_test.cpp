// SPDX-License-Identifier: Apache-2.0
// The definition of dropout: its vectors, its statistics.
#include "kernels/reference/dropout.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <string>

namespace tilewise::reference {
namespace {

// The table of docs/notation.md: lines "| seed | b | h | q | k | bits |" in hexadecimal.
TEST(DropoutBits, VectorsOfTheDocument) {
  std::ifstream document(TILEWISE_SOURCE_DIR "/docs/notation.md");
  int vectors = 0;
  for (std::string line; std::getline(document, line);) {
    unsigned long long x[6];
    if (std::sscanf(line.c_str(), "| %llx | %llx | %llx | %llx | %llx | %llx |", x, x + 1, x + 2,
                    x + 3, x + 4, x + 5) != 6)
      continue;
    ++vectors;
    EXPECT_EQ(dropout_bits(x[0], static_cast<int64_t>(x[1]), static_cast<int64_t>(x[2]),
                           static_cast<int64_t>(x[3]), static_cast<int64_t>(x[4])),
              x[5])
        << line;
  }
  EXPECT_EQ(vectors, 9);
}

TEST(DropoutBits, FactorIsZeroOrTheInverseOfWhatIsKept) {
  EXPECT_EQ(dropout_factor(0, 7, 0, 0, 0, 0), 1);
  for (const double p : {0.25, 0.1, 0.9}) {
    const double threshold = std::round(p * 65536);
    int dropped = 0;
    for (int64_t k = 0; k < 200; ++k) {
      const double z = dropout_factor(p, 7, 0, 1, 2, k);
      dropped += z == 0;
      EXPECT_EQ(z, dropout_bits(7, 0, 1, 2, k) < threshold ? 0 : 65536 / (65536 - threshold));
    }
    EXPECT_GT(dropped, 0);
    EXPECT_LT(dropped, 200);
  }
}

// +1 and -1 with equal probability: the sum of n independent ones lies within 4 sqrt(n) but for one
// time in 16000.
struct Signs {
  double sum = 0;
  int64_t count = 0;
  void add(bool a, bool b) { sum += a == b ? 1 : -1, ++count; }
  [[nodiscard]] bool are_balanced() const {
    return std::abs(sum) <= 4 * std::sqrt(static_cast<double>(count));
  }
};

constexpr int64_t kSide = 96;
bool high(uint64_t seed, int64_t b, int64_t h, int64_t q, int64_t k) {
  return dropout_bits(seed, b, h, q, k) >= 0x8000;
}

TEST(DropoutBits, RateIsTheProbability) {
  for (const double p : {0.001, 0.1, 0.37, 0.5, 0.9}) {
    const double threshold = std::round(p * 65536), rate = threshold / 65536;
    double dropped = 0;
    for (int64_t q = 0; q < 4 * kSide; ++q)
      for (int64_t k = 0; k < 4 * kSide; ++k) dropped += dropout_bits(12, 0, 0, q, k) < threshold;
    const double pairs = 16 * kSide * kSide;
    EXPECT_LE(std::abs(dropped - rate * pairs), 4 * std::sqrt(pairs * rate * (1 - rate))) << p;
  }
}

TEST(DropoutBits, PairsAreUncorrelated) {
  for (const int64_t step : {1, 2, 7, 8, 9, 15, 16, 17, 64}) {
    Signs rows, columns, diagonals;
    for (int64_t q = 0; q < kSide; ++q)
      for (int64_t k = 0; k < kSide; ++k) {
        const bool at = high(3, 0, 0, q, k);
        rows.add(at, high(3, 0, 0, q + step, k));
        columns.add(at, high(3, 0, 0, q, k + step));
        diagonals.add(at, high(3, 0, 0, q + step, k + step));
      }
    EXPECT_TRUE(rows.are_balanced()) << step << ": " << rows.sum;
    EXPECT_TRUE(columns.are_balanced()) << step << ": " << columns.sum;
    EXPECT_TRUE(diagonals.are_balanced()) << step << ": " << diagonals.sum;
  }
}

TEST(DropoutBits, SeedsHeadsAndBatchesAreUncorrelated) {
  Signs seeds, far_seeds, heads, batches, transposed;
  for (int64_t q = 0; q < kSide; ++q)
    for (int64_t k = 0; k < kSide; ++k) {
      const bool at = high(3, 0, 0, q, k);
      seeds.add(at, high(4, 0, 0, q, k));
      far_seeds.add(at, high(3 | uint64_t{1} << 40, 0, 0, q, k));
      heads.add(at, high(3, 0, 1, q, k));
      batches.add(at, high(3, 1, 0, q, k));
      if (q < k) transposed.add(at, high(3, 0, 0, k, q));
    }
  for (const Signs& signs : {seeds, far_seeds, heads, batches, transposed})
    EXPECT_TRUE(signs.are_balanced()) << signs.sum;
}

}  // namespace
}  // namespace tilewise::reference
