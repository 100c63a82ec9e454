// SPDX-License-Identifier: Apache-2.0
#include "measure/bandwidth.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <new>
#include <string>

#include "base/message.h"
#include "measure/rounds.h"
#include "tilewise/error.h"

namespace tilewise::measure {
namespace {

// Eight sums: one chain of additions would be slower than memory. Fetching 4 KiB ahead gives up to
// 1.5 times what the hardware's prefetchers do alone; 2 and 8 KiB, and several streams, give less.
uint64_t read_all(const uint64_t* data, int64_t words) {
  uint64_t sums[8] = {};
  for (int64_t i = 0; i + 8 <= words; i += 8) {
    __builtin_prefetch(data + i + 512, 0, 2);
    for (int j = 0; j < 8; ++j) sums[j] += data[i + j];
  }
  uint64_t sum = 0;
  for (const uint64_t part : sums) sum += part;
  return sum;
}

std::unique_ptr<uint64_t[]> allocate(int64_t words) {
  std::unique_ptr<uint64_t[]> array(new (std::nothrow) uint64_t[static_cast<size_t>(words)]);
  if (array) return array;
  throw DeviceError("measure_bandwidth: no memory for an array of " + std::to_string(words * 8) +
                    " bytes");
}

}  // namespace

Bandwidth measure_bandwidth(int threads, int64_t bytes, double seconds) {
  if (bytes < 1) {
    throw InvalidArgument(
        message("measure_bandwidth", "bytes", std::to_string(bytes), "at least 1"));
  }
  if (threads < 1) {
    throw InvalidArgument(
        message("measure_bandwidth", "threads", std::to_string(threads), "at least 1"));
  }
  const int64_t share = std::max<int64_t>(8, bytes / 8 / threads / 8 * 8);  // words of a thread
  const auto from = allocate(share * threads);
  const auto to = allocate(share * threads);
  const auto copy = [&](int thread) {
    std::memcpy(to.get() + share * thread, from.get() + share * thread,
                static_cast<size_t>(share) * 8);
  };
  std::atomic<uint64_t> sink{0};  // keeps the sums, and so the reads
  const auto read = [&](int thread) {
    sink.fetch_add(read_all(from.get() + share * thread, share), std::memory_order_relaxed);
  };
  // Each thread touches its pages first.
  (void)time_threads(threads, [&](int thread) {
    std::memset(from.get() + share * thread, thread + 1, static_cast<size_t>(share) * 8);
  });
  const double gbytes = static_cast<double>(share) * 8 * threads / 1e9;
  const auto best = [&](const std::function<void(int)>& body) {
    return time_rounds([&] { return time_threads(threads, body); }, 3, seconds / 2).min();
  };
  return {2 * gbytes / best(copy), gbytes / best(read)};
}

int64_t bandwidth_bytes(int64_t l3_bytes) noexcept {
  constexpr int64_t kMiB = 1024 * 1024;
  return std::clamp(4 * l3_bytes, 128 * kMiB, 1024 * kMiB);
}

}  // namespace tilewise::measure
