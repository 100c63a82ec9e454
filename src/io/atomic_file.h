// SPDX-License-Identifier: Apache-2.0
// A file that appears complete or not at all: bytes go to a file without a name in the same
// directory, which commit() makes durable and renames over the target. Whatever happens before
// commit() returns - an error, an exception, a kill, a power cut - the old content (or absence) of
// the target stays, and nothing else is left behind. Where the file system has no nameless files
// (O_TMPFILE) a hidden name is used and removed; only a kill can leave that one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tilewise::io {

class AtomicFile {
 public:
  enum class Temporary { kNameless, kNamed };

  // Throws InvalidArgument when the target cannot be written there: no such directory, no
  // permission, the target is a directory or a device. A symbolic link is followed.
  explicit AtomicFile(const std::string& path, Temporary temporary = Temporary::kNameless);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Throws DeviceError when the disk is full or fails; the target is untouched.
  void write(const void* data, int64_t bytes);
  void write(std::string_view text) { write(text.data(), static_cast<int64_t>(text.size())); }
  // At most once; the target is not touched before everything is on the disk.
  void commit();

 private:
  [[noreturn]] void fail(const char* action, int error) const;
  void open_nameless();
  void open_named();
  void close_and_remove() noexcept;

  std::string path_;       // as given: for messages
  std::string target_;     // links resolved
  std::string directory_;  // of target_
  std::string temporary_;  // "" while the file has no name
  int file_ = -1;
  int64_t written_ = 0;
};

}  // namespace tilewise::io
