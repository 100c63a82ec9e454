// SPDX-License-Identifier: Apache-2.0
// What the memory behind the caches delivers.
#pragma once

#include <cstdint>

namespace tilewise::measure {

struct Bandwidth {
  double copy_gbytes_per_second = 0;  // read and written, as STREAM counts
  double read_gbytes_per_second = 0;
};

// Arrays of `bytes` each, shared out among the threads; the best round counts.
// Throws InvalidArgument if threads < 1 or bytes < 1, DeviceError if there is no memory.
[[nodiscard]] Bandwidth measure_bandwidth(int threads, int64_t bytes, double seconds = 0.5);

// Four times the last-level cache, 128 MiB to 1 GiB: long enough to be slow memory.
[[nodiscard]] int64_t bandwidth_bytes(int64_t l3_bytes) noexcept;

}  // namespace tilewise::measure
