// SPDX-License-Identifier: Apache-2.0
// What the CPU and the operating system offer to this process.
#pragma once

#include <cstdint>
#include <string>

namespace tilewise {

struct CpuFeatures {
  bool avx2_fma_f16c = false;  // AVX2, FMA and F16C, enabled by the system (XCR0)
  bool avx512 = false;         // F, BW, DQ, VL, CD
  bool avx512_bf16 = false;
  bool amx_bf16 = false;  // AMX-TILE, AMX-BF16 and avx512_bf16; the system lets this process use it
};
[[nodiscard]] const CpuFeatures& cpu_features();  // detected once

struct CacheSizes {
  int64_t l1_data = 0;  // bytes; 0: unknown
  int64_t l2 = 0;
  int64_t l3 = 0;
  int64_t line = 64;
};
[[nodiscard]] CacheSizes cache_sizes();
// What Linux says in a folder like /sys/devices/system/cpu/cpu0/cache.
[[nodiscard]] CacheSizes cache_sizes_from_sysfs(const std::string& folder);
[[nodiscard]] std::string cpu_name();
// Threads this process may run at once: min of affinity mask and cgroup quota (v1, v2), at least 1.
[[nodiscard]] int allowed_threads();
// The cgroup part of it, rounded up; 0: no limit. The file has the form of /proc/self/cgroup.
[[nodiscard]] int cgroup_thread_limit(const std::string& membership_file, const std::string& mount);

}  // namespace tilewise
