// SPDX-License-Identifier: Apache-2.0
#include "io/atomic_file.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "io/temporary_directory.h"
#include "tilewise/error.h"

namespace tilewise::io {
namespace {

class AtomicFileTest : public ::testing::TestWithParam<AtomicFile::Temporary> {
 protected:
  TemporaryDirectory directory_;
  std::string path_ = directory_.file("target");
};

TEST_P(AtomicFileTest, AppearsOnlyAtCommit) {
  AtomicFile file(path_, GetParam());
  file.write("hello ");
  file.write("world");
  EXPECT_FALSE(std::filesystem::exists(path_));
  file.commit();
  EXPECT_EQ(read_bytes(path_), "hello world");
  EXPECT_EQ(directory_.names(), std::vector<std::string>{"target"});
}

TEST_P(AtomicFileTest, AbandonedLeavesNothing) {
  write_bytes(path_, "old");
  {
    AtomicFile file(path_, GetParam());
    file.write("new");
  }
  EXPECT_EQ(read_bytes(path_), "old");
  EXPECT_EQ(directory_.names(), std::vector<std::string>{"target"});
}

TEST_P(AtomicFileTest, ReplacesAndKeepsPermissions) {
  write_bytes(path_, "old and longer");
  ::chmod(path_.c_str(), 0640);
  AtomicFile file(path_, GetParam());
  file.write("new");
  file.commit();
  EXPECT_EQ(read_bytes(path_), "new");
  struct stat status = {};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0640u);
}

TEST_P(AtomicFileTest, FollowsLinks) {
  write_bytes(path_, "old");
  const std::string link = directory_.file("link");
  std::filesystem::create_symlink("target", link);
  AtomicFile file(link, GetParam());
  file.write("new");
  file.commit();
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_EQ(read_bytes(path_), "new");
}

// RLIMIT_FSIZE with SIGXFSZ ignored makes write() stop in the middle, as a full disk does.
TEST_P(AtomicFileTest, StopsInTheMiddleAndLeavesNothing) {
  write_bytes(path_, "old");
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {10'000, 10'000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    int code = 1;
    try {
      AtomicFile file(path_, GetParam());
      file.write(std::string(9'000, 'a'));
      file.write(std::string(9'000, 'b'));
      file.commit();
    } catch (const DeviceError& error) {
      code = std::string(error.what()).find("after 10000 bytes") != std::string::npos ? 0 : 2;
    } catch (...) {
      code = 3;
    }
    ::_exit(code);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(read_bytes(path_), "old");
  EXPECT_EQ(directory_.names(), std::vector<std::string>{"target"});
}

INSTANTIATE_TEST_SUITE_P(Temporaries, AtomicFileTest,
                         ::testing::Values(AtomicFile::Temporary::kNameless,
                                           AtomicFile::Temporary::kNamed),
                         [](const auto& info) {
                           return info.param == AtomicFile::Temporary::kNamed ? "Named"
                                                                              : "Nameless";
                         });

// A killed process: the nameless file vanishes with it.
TEST(AtomicFile, KilledLeavesNothing) {
  TemporaryDirectory directory;
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    AtomicFile file(directory.file("target"));
    file.write("half");
    ::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_TRUE(directory.names().empty());
}

// A file system of 64 KiB, mounted where only the child sees it; needs root.
TEST(AtomicFile, FullDiskIsAnErrorAndLeavesNothing) {
  TemporaryDirectory directory;
  constexpr int kMayNotMount = 77;
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("tmpfs", directory.path().c_str(), "tmpfs", 0, "size=64k") != 0) {
      ::_exit(kMayNotMount);
    }
    int code = 1;
    try {
      AtomicFile file(directory.file("target"));
      file.write(std::string(1 << 20, 'a'));
      file.commit();
    } catch (const DeviceError& error) {
      code = std::string(error.what()).find("No space left on device") != std::string::npos ? 0 : 2;
    } catch (...) {
      code = 3;
    }
    ::_exit(code == 0 && !directory.names().empty() ? 4 : code);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == kMayNotMount) GTEST_SKIP() << "may not mount a small file system";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

void expect_refused(const std::string& path, const std::string& reason) {
  try {
    AtomicFile file(path);
    ADD_FAILURE() << path << " was accepted";
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find(reason), std::string::npos) << error.what();
    EXPECT_EQ(std::string(error.what()).rfind("write " + path, 0), 0u) << error.what();
  }
}

TEST(AtomicFile, RefusesTargetsThatCannotBeFiles) {
  TemporaryDirectory directory;
  write_bytes(directory.file("file"), "");
  expect_refused(directory.path(), "Is a directory");
  expect_refused(directory.path() + "/", "Is a directory");
  expect_refused(directory.file("missing/target"), "No such file or directory");
  expect_refused(directory.file("file/target"), "Not a directory");
  expect_refused("", "No such file or directory");
  expect_refused("/dev/null", "not a regular file");
  expect_refused("/proc/target", "");
}

TEST(AtomicFile, RefusesWithoutPermission) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write anywhere";
  TemporaryDirectory directory;
  write_bytes(directory.file("file"), "");
  ::chmod(directory.file("file").c_str(), 0444);
  expect_refused(directory.file("file"), "Permission denied");
  ::chmod(directory.path().c_str(), 0555);
  expect_refused(directory.file("other"), "Permission denied");
  ::chmod(directory.path().c_str(), 0755);
}

}  // namespace
}  // namespace tilewise::io
