// SPDX-License-Identifier: Apache-2.0
// Reads a file from the bytes; a file that is accepted is loaded, written and read again, and must
// be the same.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "fuzz/fuzz_targets.h"
#include "io/safetensors.h"
#include "tilewise/error.h"

namespace tilewise::fuzz {
namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

io::SafetensorsHeader parse(const std::string& bytes) {
  const auto size = static_cast<int64_t>(bytes.size());
  const int64_t length = io::parse_header_length(bytes, size, "fuzz");
  return io::parse_header({bytes.data() + io::kLengthBytes, static_cast<size_t>(length)}, size,
                          "fuzz");
}

// The file path: through a file in memory.
std::vector<io::Array> load_all(const std::string& bytes) {
  const int memory = ::memfd_create("fuzz", MFD_CLOEXEC);
  require(memory >= 0);
  require(::write(memory, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  std::vector<io::Array> arrays;
  {
    const io::SafetensorsFile file("/proc/self/fd/" + std::to_string(memory));
    for (const io::TensorInfo& tensor : file.tensors()) arrays.push_back(file.load(tensor));
  }
  ::close(memory);
  return arrays;
}

}  // namespace

void fuzz_safetensors(const uint8_t* data, size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  io::SafetensorsHeader header;
  try {
    header = parse(bytes);
  } catch (const InvalidArgument&) {
    return;
  }
  int64_t covered = 0;
  for (const io::TensorInfo& tensor : header.tensors) {
    require(tensor.begin == covered && tensor.end >= tensor.begin);
    covered = tensor.end;
  }
  require(header.data_begin + covered == static_cast<int64_t>(size));

  const std::vector<io::Array> arrays = load_all(bytes);
  require(arrays.size() == header.tensors.size());
  std::string again = io::format_header(header.metadata, header.tensors);
  for (size_t i = 0; i < arrays.size(); ++i) {
    const io::TensorInfo& tensor = header.tensors[i];
    require(arrays[i].bytes() == tensor.end - tensor.begin);
    require(std::memcmp(arrays[i].data(), data + header.data_begin + tensor.begin,
                        static_cast<size_t>(arrays[i].bytes())) == 0);
    again.append(static_cast<const char*>(arrays[i].data()),
                 static_cast<size_t>(arrays[i].bytes()));
  }
  const io::SafetensorsHeader second = parse(again);
  require(second.metadata == header.metadata && second.tensors.size() == header.tensors.size());
  for (size_t i = 0; i < second.tensors.size(); ++i) {
    require(second.tensors[i].name == header.tensors[i].name);
    require(second.tensors[i].type == header.tensors[i].type);
    require(second.tensors[i].shape == header.tensors[i].shape);
  }
}

}  // namespace tilewise::fuzz
