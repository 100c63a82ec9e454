// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "tilewise/error.h"

namespace tilewise::io {

// read() and not mmap(): a mapped file that someone shortens kills the process with SIGBUS.
SafetensorsFile::SafetensorsFile(const std::string& path) : path_(path) {
  // O_NONBLOCK: opening a pipe must not wait for a writer; regular files do not care.
  file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file_ < 0) {
    throw InvalidArgument(
        fmt::format("read {}: cannot open the file: {}", path, std::strerror(errno)));
  }
  try {
    struct stat status = {};
    if (::fstat(file_, &status) != 0 || !S_ISREG(status.st_mode)) {
      throw InvalidArgument(fmt::format("read {}: not a regular file", path));
    }
    const int64_t bytes = status.st_size;
    char start[kLengthBytes] = {};
    read_at(0, start, std::min(bytes, kLengthBytes));
    const int64_t length = parse_header_length({start, sizeof start}, bytes, path);
    std::string text(static_cast<size_t>(length), '\0');
    read_at(kLengthBytes, text.data(), length);
    header_ = parse_header(text, bytes, path);
  } catch (...) {
    ::close(file_);
    throw;
  }
}

SafetensorsFile::~SafetensorsFile() { ::close(file_); }

const TensorInfo* SafetensorsFile::find(const std::string& name) const noexcept {
  for (const TensorInfo& tensor : header_.tensors) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

Array SafetensorsFile::load(const TensorInfo& tensor) const {
  Array array(tensor.type, tensor.shape);
  read_at(header_.data_begin + tensor.begin, array.data(), array.bytes());
  return array;
}

void SafetensorsFile::read_at(int64_t offset, void* data, int64_t bytes) const {
  constexpr int64_t kPiece = int64_t{1} << 30;  // Linux reads less than 2 GiB at once
  char* next = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t count =
        ::pread(file_, next, static_cast<size_t>(std::min(bytes, kPiece)), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw DeviceError(fmt::format("read {}: {}", path_, std::strerror(errno)));
    if (count == 0) throw InvalidArgument(fmt::format("read {}: the file became shorter", path_));
    next += count;
    offset += count;
    bytes -= count;
  }
}

void write_safetensors(AtomicFile& file, const std::vector<NamedArray>& arrays,
                       const Metadata& metadata) {
  std::vector<NamedArray> ordered = arrays;
  std::sort(ordered.begin(), ordered.end(), [](const NamedArray& a, const NamedArray& b) {
    const int64_t size_a = element_bytes(a.array->type());
    const int64_t size_b = element_bytes(b.array->type());
    return size_a != size_b ? size_a > size_b : a.name < b.name;
  });
  std::vector<TensorInfo> tensors;
  int64_t end = 0;
  for (const NamedArray& named : ordered) {
    const int64_t begin = end;
    end += named.array->bytes();
    tensors.push_back({named.name, named.array->type(), named.array->shape(), begin, end});
  }
  file.write(format_header(metadata, tensors));
  for (const NamedArray& named : ordered) file.write(named.array->data(), named.array->bytes());
  file.commit();
}

void write_safetensors(const std::string& path, const std::vector<NamedArray>& arrays,
                       const Metadata& metadata) {
  AtomicFile file(path);
  write_safetensors(file, arrays, metadata);
}

}  // namespace tilewise::io
