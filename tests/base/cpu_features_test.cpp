// SPDX-License-Identifier: Apache-2.0
#include "base/cpu_features.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

namespace tilewise {
namespace {

// The kernel lists a flag only if the CPU has it and the system enabled it: the same question,
// answered by somebody else.
std::set<std::string> flags_of_the_kernel() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("flags")) continue;
    std::istringstream words(line);
    std::set<std::string> flags;
    for (std::string word; words >> word;) flags.insert(word);
    return flags;
  }
  return {};
}

TEST(CpuFeatures, AgreeWithTheKernel) {
  const std::set<std::string> flags = flags_of_the_kernel();
  const auto all = [&flags](std::initializer_list<const char*> names) {
    for (const char* name : names) {
      if (!flags.contains(name)) return false;
    }
    return true;
  };
  EXPECT_EQ(cpu_features().avx2_fma_f16c, all({"avx2", "fma", "f16c"}));
  EXPECT_EQ(cpu_features().avx512,
            all({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"}));
  EXPECT_EQ(cpu_features().avx512_bf16, all({"avx512f", "avx512_bf16"}));
  EXPECT_EQ(cpu_features().amx_bf16, all({"avx512_bf16", "amx_tile", "amx_bf16"}));
}

TEST(CpuFeatures, NameIsTheKernels) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("model name")) continue;
    EXPECT_NE(line.find(cpu_name()), std::string::npos) << line;
    return;
  }
  EXPECT_FALSE(cpu_name().empty());
}

// A folder of small files that vanishes with the test.
class Folder {
 public:
  Folder() {
    std::string name = testing::TempDir() + "tilewise_cpu_features_XXXXXX";
    if (mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  void write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name) << text << '\n';
  }
  [[nodiscard]] std::string path(const std::string& name = "") const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

void write_cache(const Folder& folder, const std::string& index, const std::string& level,
                 const std::string& type, const std::string& size) {
  folder.write(index + "/level", level);
  folder.write(index + "/type", type);
  folder.write(index + "/size", size);
  folder.write(index + "/coherency_line_size", "128");
}

TEST(CacheSizes, AreReadFromSysfs) {
  const Folder folder;
  write_cache(folder, "index0", "1", "Data", "48K");
  write_cache(folder, "index1", "1", "Instruction", "32K");
  write_cache(folder, "index2", "2", "Unified", "2M");
  write_cache(folder, "index3", "3", "Unified", "32768K");
  const CacheSizes sizes = cache_sizes_from_sysfs(folder.path());
  EXPECT_EQ(sizes.l1_data, 48 << 10);
  EXPECT_EQ(sizes.l2, 2 << 20);
  EXPECT_EQ(sizes.l3, 32 << 20);
  EXPECT_EQ(sizes.line, 128);
}

TEST(CacheSizes, UnknownIsZero) {
  const CacheSizes sizes = cache_sizes_from_sysfs("/nonexistent");
  EXPECT_EQ(sizes.l1_data, 0);
  EXPECT_EQ(sizes.line, 64);
}

TEST(CacheSizes, OfThisMachineGrowOutwards) {
  const CacheSizes sizes = cache_sizes();
  if (sizes.l1_data == 0) GTEST_SKIP() << "this machine does not tell";
  EXPECT_GE(sizes.l1_data, 4 << 10);
  EXPECT_TRUE(sizes.l2 == 0 || sizes.l2 >= sizes.l1_data);
}

TEST(CgroupThreadLimit, Version2TakesTheTightestOfThePathAndRoundsUp) {
  const Folder folder;
  folder.write("cgroup", "0::/pod/box");
  folder.write("mount/pod/box/cpu.max", "max 100000");
  EXPECT_EQ(cgroup_thread_limit(folder.path("cgroup"), folder.path("mount")), 0);
  folder.write("mount/pod/cpu.max", "250000 100000");
  EXPECT_EQ(cgroup_thread_limit(folder.path("cgroup"), folder.path("mount")), 3);
  folder.write("mount/pod/box/cpu.max", "50000 100000");
  EXPECT_EQ(cgroup_thread_limit(folder.path("cgroup"), folder.path("mount")), 1);
}

TEST(CgroupThreadLimit, Version2InsideAContainerReadsTheRoot) {
  const Folder folder;
  folder.write("cgroup", "0::/docker/0123456789");
  folder.write("mount/cpu.max", "400000 100000");
  EXPECT_EQ(cgroup_thread_limit(folder.path("cgroup"), folder.path("mount")), 4);
}

TEST(CgroupThreadLimit, Version1ReadsTheCpuControllerOnly) {
  const Folder folder;
  folder.write("cgroup", "9:cpuset:/a\n4:cpu,cpuacct:/a\n0::/b");
  folder.write("mount/cpu,cpuacct/a/cpu.cfs_period_us", "100000");
  folder.write("mount/cpu,cpuacct/a/cpu.cfs_quota_us", "-1");
  folder.write("mount/cpuset/a/cpu.cfs_quota_us", "100000");
  folder.write("mount/cpuset/a/cpu.cfs_period_us", "100000");
  EXPECT_EQ(cgroup_thread_limit(folder.path("cgroup"), folder.path("mount")), 0);
  folder.write("mount/cpu,cpuacct/a/cpu.cfs_quota_us", "200000");
  EXPECT_EQ(cgroup_thread_limit(folder.path("cgroup"), folder.path("mount")), 2);
}

TEST(CgroupThreadLimit, BrokenFilesAreNoLimit) {
  const Folder folder;
  folder.write("cgroup", "nonsense\n::\n0::/a");
  folder.write("mount/a/cpu.max", "lots");
  EXPECT_EQ(cgroup_thread_limit(folder.path("cgroup"), folder.path("mount")), 0);
  EXPECT_EQ(cgroup_thread_limit("/nonexistent", "/nonexistent"), 0);
}

TEST(AllowedThreads, ShrinkWithTheAffinityMask) {
  EXPECT_GE(allowed_threads(), 1);
  int pinned = 0;
  std::thread([&pinned] {  // the mask belongs to the thread, so the others keep theirs
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
    pinned = allowed_threads();
  })
      .join();
  EXPECT_EQ(pinned, 1);
}

}  // namespace
}  // namespace tilewise
