// SPDX-License-Identifier: Apache-2.0
#include "io/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "tilewise/error.h"

namespace tilewise::io {
namespace {

// One write() moves at most this much: Linux stops at 2 GiB, and smaller pieces report a full disk
// earlier.
constexpr int64_t kPiece = int64_t{1} << 26;

bool is_callers_mistake(int error) {
  switch (error) {
    case EACCES:
    case EISDIR:
    case ELOOP:
    case ENAMETOOLONG:
    case ENOENT:
    case ENOTDIR:
    case EPERM:
    case EROFS:
      return true;
    default:
      return false;
  }
}

// Unique among processes by the id, among threads by the counter; O_EXCL settles the rest.
std::string temporary_name(const std::string& directory) {
  static std::atomic<unsigned> counter{0};
  return fmt::format("{}/.tilewise-{}-{}.tmp", directory, ::getpid(), counter.fetch_add(1));
}

}  // namespace

AtomicFile::AtomicFile(const std::string& path, Temporary temporary) : path_(path), target_(path) {
  struct stat status = {};
  const bool exists = ::stat(path.c_str(), &status) == 0;
  if (exists) {
    if (S_ISDIR(status.st_mode)) fail("open", EISDIR);
    if (!S_ISREG(status.st_mode)) {
      throw InvalidArgument("write " + path_ + ": not a regular file");
    }
    if (::access(path.c_str(), W_OK) != 0) fail("open", errno);
    std::error_code error;
    target_ = std::filesystem::canonical(path, error).string();
    if (error) fail("resolve", error.value());
  }
  directory_ = std::filesystem::path(target_).parent_path().string();
  if (directory_.empty()) directory_ += '.';
  if (std::filesystem::path(target_).filename().empty())
    fail("open", path.empty() ? ENOENT : EISDIR);

  if (temporary == Temporary::kNameless) open_nameless();
  if (file_ < 0) open_named();
  if (exists && ::fchmod(file_, status.st_mode & 07777) != 0) {
    const int error = errno;
    close_and_remove();
    fail("set the permissions of", error);
  }
}

AtomicFile::~AtomicFile() { close_and_remove(); }

void AtomicFile::open_nameless() {
  file_ = ::open(directory_.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
  // A kernel or file system without O_TMPFILE answers with one of these; everything else is final.
  if (file_ < 0 && errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL && errno != ENOENT) {
    fail("open", errno);
  }
}

void AtomicFile::open_named() {
  do {
    temporary_ = temporary_name(directory_);
    file_ = ::open(temporary_.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
  } while (file_ < 0 && errno == EEXIST);
  if (file_ < 0) {
    temporary_.clear();
    fail("open", errno);
  }
}

void AtomicFile::write(const void* data, int64_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t count = ::write(file_, next, static_cast<size_t>(std::min(bytes, kPiece)));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("write", errno);
    next += count;
    bytes -= count;
    written_ += count;
  }
}

void AtomicFile::commit() {
  if (::fsync(file_) != 0) fail("write", errno);
  if (temporary_.empty()) {
    // rename() replaces a file and linkat() does not, so the finished file takes a name for a
    // moment.
    const std::string nameless = fmt::format("/proc/self/fd/{}", file_);
    std::string name;
    int result = 0;
    do {
      name = temporary_name(directory_);
      result = ::linkat(AT_FDCWD, nameless.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW);
    } while (result != 0 && errno == EEXIST);
    if (result != 0) fail("name", errno);
    temporary_ = name;
  }
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail("rename", errno);
  temporary_.clear();

  // The rename itself must survive a power cut. Some file systems cannot sync a directory (EINVAL).
  const int directory = ::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory >= 0) {
    const bool failed = ::fsync(directory) != 0 && errno != EINVAL;
    const int error = errno;
    ::close(directory);
    if (failed) fail("sync the directory of", error);
  }
  close_and_remove();
}

void AtomicFile::close_and_remove() noexcept {
  if (file_ >= 0) ::close(file_);
  file_ = -1;
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  temporary_.clear();
}

void AtomicFile::fail(const char* action, int error) const {
  std::string text =
      fmt::format("write {}: cannot {} the file: {}", path_, action, std::strerror(error));
  if (written_ > 0) text += fmt::format(" (after {} bytes; nothing was kept)", written_);
  if (is_callers_mistake(error)) throw InvalidArgument(text);
  throw DeviceError(text);
}

}  // namespace tilewise::io
