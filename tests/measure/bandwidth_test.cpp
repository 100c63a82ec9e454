// SPDX-License-Identifier: Apache-2.0
#include "measure/bandwidth.h"

#include <gtest/gtest.h>

#include "tilewise/error.h"

namespace tilewise::measure {
namespace {

TEST(Bandwidth, IsPositive) {
  for (const int threads : {1, 2, 3}) {
    const Bandwidth bandwidth = measure_bandwidth(threads, 1 << 20, 0.01);
    EXPECT_GT(bandwidth.copy_gbytes_per_second, 0.001);
    EXPECT_GT(bandwidth.read_gbytes_per_second, 0.001);
    EXPECT_LT(bandwidth.read_gbytes_per_second, 1e5) << "the reads were removed";
  }
}

TEST(Bandwidth, RefusesNothing) {
  EXPECT_THROW((void)measure_bandwidth(1, 0), InvalidArgument);
  EXPECT_THROW((void)measure_bandwidth(0, 1 << 20), InvalidArgument);
}

TEST(Bandwidth, ArraysExceedTheCaches) {
  EXPECT_EQ(bandwidth_bytes(0), 128 << 20);
  EXPECT_EQ(bandwidth_bytes(96 << 20), 384 << 20);
  EXPECT_EQ(bandwidth_bytes(int64_t{2} << 30), 1 << 30);
}

}  // namespace
}  // namespace tilewise::measure
