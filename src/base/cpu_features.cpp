// SPDX-License-Identifier: Apache-2.0
#include "base/cpu_features.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <vector>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#define TILEWISE_X86 1
#else
#define TILEWISE_X86 0
#endif

namespace tilewise {
namespace {

#if TILEWISE_X86

struct Registers {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

// All zero where the CPU does not know the leaf.
Registers cpuid(unsigned leaf, unsigned subleaf) {
  Registers r;
  if (__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx) == 0) return {};
  return r;
}

bool bit(unsigned value, int index) { return ((value >> index) & 1) != 0; }

// Which register states the system saves on a context switch (XCR0). Without this an instruction
// that the CPU has may still fault.
uint64_t enabled_states(const Registers& leaf1) {
  if (!bit(leaf1.ecx, 27)) return 0;  // OSXSAVE
  unsigned low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}

// Tiles are 8 KiB of state a thread, which Linux saves only for processes that ask for it, once.
bool may_use_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

CpuFeatures detect() {
  constexpr uint64_t kAvxState = 0x6, kAvx512State = 0xe6, kTileState = 0x60000;
  const Registers leaf1 = cpuid(1, 0), leaf7 = cpuid(7, 0), leaf7_1 = cpuid(7, 1);
  const uint64_t states = enabled_states(leaf1);
  CpuFeatures found;
  found.avx2_fma_f16c = (states & kAvxState) == kAvxState && bit(leaf1.ecx, 12) &&
                        bit(leaf1.ecx, 28) && bit(leaf1.ecx, 29) && bit(leaf7.ebx, 5);
  found.avx512 = found.avx2_fma_f16c && (states & kAvx512State) == kAvx512State;
  for (int index : {16, 17, 28, 30, 31}) found.avx512 &= bit(leaf7.ebx, index);  // F DQ CD BW VL
  found.avx512_bf16 = found.avx512 && leaf7.eax >= 1 && bit(leaf7_1.eax, 5);
  found.amx_bf16 = found.avx512_bf16 && (states & kTileState) == kTileState && bit(leaf7.edx, 22) &&
                   bit(leaf7.edx, 24) && may_use_tiles();
  return found;
}

// "Deterministic cache parameters": leaf 4 on Intel, the same layout at 0x8000001d on AMD.
CacheSizes caches_from_cpuid() {
  CacheSizes sizes;
  for (unsigned leaf : {0x4u, 0x8000001du}) {
    for (unsigned index = 0; index < 16; ++index) {
      const Registers r = cpuid(leaf, index);
      const unsigned type = r.eax & 0x1f, level = (r.eax >> 5) & 0x7;
      if (type == 0) break;
      if (type == 2) continue;  // instructions
      const int64_t line = (r.ebx & 0xfff) + 1;
      const int64_t bytes = line * (((r.ebx >> 12) & 0x3ff) + 1) * ((r.ebx >> 22) + 1) *
                            (static_cast<int64_t>(r.ecx) + 1);
      if (level == 1) sizes.l1_data = bytes, sizes.line = line;
      if (level == 2) sizes.l2 = bytes;
      if (level == 3) sizes.l3 = bytes;
    }
    if (sizes.l1_data > 0) break;
  }
  return sizes;
}

std::string name_from_cpuid() {
  std::string name;
  for (unsigned leaf = 0x80000002u; leaf <= 0x80000004u; ++leaf) {
    const Registers r = cpuid(leaf, 0);
    for (unsigned word : {r.eax, r.ebx, r.ecx, r.edx}) {
      for (int byte = 0; byte < 4; ++byte) {
        const char letter = static_cast<char>((word >> (8 * byte)) & 0xff);
        if (letter != '\0') name += letter;
      }
    }
  }
  return name;
}

#else

CpuFeatures detect() { return {}; }
CacheSizes caches_from_cpuid() { return {}; }
std::string name_from_cpuid() { return ""; }

#endif

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// "32K", "1024K", "16M" or a plain number; 0 if it is none of them.
int64_t bytes_from_text(const std::string& text) {
  std::istringstream stream(text);
  int64_t value = 0;
  char unit = ' ';
  if (!(stream >> value)) return 0;
  stream >> unit;
  return unit == 'K' ? value << 10 : unit == 'M' ? value << 20 : unit == 'G' ? value << 30 : value;
}

int affinity_threads() {
  for (int cpus = 1024; cpus <= (1 << 20); cpus *= 2) {  // the kernel may know more than 1024 CPUs
    cpu_set_t* set = CPU_ALLOC(cpus);
    if (set == nullptr) return 1;
    const size_t bytes = CPU_ALLOC_SIZE(cpus);
    const bool known = sched_getaffinity(0, bytes, set) == 0;
    const int count = known ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (known) return std::max(count, 1);
  }
  return 1;
}

// Threads that a quota of quota microseconds in each period pays for; 0: no limit.
int threads_of_quota(double quota, double period) {
  if (quota <= 0 || period <= 0) return 0;
  return static_cast<int>(std::clamp((quota + period - 1) / period, 1.0, 1e6));
}

int limit_in_folder(const std::string& folder, bool is_v2) {
  if (!is_v2) {
    const std::string quota = first_line(folder + "/cpu.cfs_quota_us");  // "-1": none
    const std::string period = first_line(folder + "/cpu.cfs_period_us");
    return threads_of_quota(static_cast<double>(bytes_from_text(quota)),
                            static_cast<double>(bytes_from_text(period)));
  }
  std::istringstream line(first_line(folder + "/cpu.max"));  // "max 100000" or "150000 100000"
  double quota = 0, period = 0;
  return line >> quota >> period ? threads_of_quota(quota, period) : 0;
}

int tighter(int a, int b) { return a == 0 ? b : b == 0 ? a : std::min(a, b); }

bool has_cpu_controller(const std::string& controllers) {
  std::istringstream list(controllers);
  for (std::string name; std::getline(list, name, ',');) {
    if (name == "cpu") return true;
  }
  return false;
}

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

CacheSizes cache_sizes_from_sysfs(const std::string& folder) {
  CacheSizes sizes;
  for (int index = 0; index < 16; ++index) {
    const std::string cache = folder + "/index" + std::to_string(index);
    const std::string level = first_line(cache + "/level");
    if (level.empty()) break;
    if (first_line(cache + "/type") == "Instruction") continue;
    const int64_t bytes = bytes_from_text(first_line(cache + "/size"));
    const int64_t line = bytes_from_text(first_line(cache + "/coherency_line_size"));
    if (level == "1") sizes.l1_data = bytes;
    if (level == "2") sizes.l2 = bytes;
    if (level == "3") sizes.l3 = bytes;
    if (line > 0) sizes.line = line;
  }
  return sizes;
}

CacheSizes cache_sizes() {
  const CacheSizes sizes = cache_sizes_from_sysfs("/sys/devices/system/cpu/cpu0/cache");
  return sizes.l1_data > 0 ? sizes : caches_from_cpuid();
}

std::string cpu_name() {
  std::string name = name_from_cpuid();
  if (name.empty()) {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; name.empty() && std::getline(file, line);) {
      if (line.starts_with("model name")) name = line.substr(line.find(':') + 1);
    }
  }
  const size_t first = name.find_first_not_of(' ');
  if (first == std::string::npos) return "unknown CPU";
  return name.substr(first, name.find_last_not_of(' ') - first + 1);
}

int cgroup_thread_limit(const std::string& membership_file, const std::string& mount) {
  std::ifstream file(membership_file);
  int limit = 0;
  for (std::string line; std::getline(file, line);) {  // "<id>:<controllers>:<path>"
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool is_v2 = controllers.empty();
    if (!is_v2 && !has_cpu_controller(controllers)) continue;
    const std::vector<std::string> roots =
        is_v2 ? std::vector<std::string>{mount, mount + "/unified"}
              : std::vector<std::string>{mount + "/" + controllers, mount + "/cpu"};
    // A quota anywhere above binds too. In a container the path may be the host's, which is not
    // mounted; then only the root at the end of the walk exists, and it is the container's own.
    std::string path = line.substr(second + 1);
    while (true) {
      for (const std::string& root : roots)
        limit = tighter(limit, limit_in_folder(root + path, is_v2));
      if (path.empty()) break;
      path.erase(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
  }
  return limit;
}

int allowed_threads() {
  return tighter(affinity_threads(), cgroup_thread_limit("/proc/self/cgroup", "/sys/fs/cgroup"));
}

}  // namespace tilewise
