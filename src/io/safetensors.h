// SPDX-License-Identifier: Apache-2.0
// Reading and writing safetensors files (https://github.com/huggingface/safetensors). What is
// checked: safetensors_header.h. What is written: header padded to 8 bytes, tensors in the order
// (element size descending, name), so that every tensor is aligned and the same content always
// gives the same bytes.
#pragma once

#include <string>
#include <vector>

#include "io/array.h"
#include "io/atomic_file.h"
#include "io/safetensors_header.h"

namespace tilewise::io {

// An open file whose header has been checked against its size.
class SafetensorsFile {
 public:
  // Throws InvalidArgument for a file that is missing, unreadable, not regular or damaged, and says
  // what is wrong where; DeviceError when reading fails.
  explicit SafetensorsFile(const std::string& path);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] const Metadata& metadata() const noexcept { return header_.metadata; }
  [[nodiscard]] const std::vector<TensorInfo>& tensors() const noexcept { return header_.tensors; }
  // nullptr: there is no tensor of that name.
  [[nodiscard]] const TensorInfo* find(const std::string& name) const noexcept;
  // Reads one tensor, which must come from tensors().
  [[nodiscard]] Array load(const TensorInfo& tensor) const;

 private:
  void read_at(int64_t offset, void* data, int64_t bytes) const;

  std::string path_;
  SafetensorsHeader header_;
  int file_ = -1;
};

struct NamedArray {
  std::string name;
  const Array* array;
};

// Writes and commits: after the call the file is complete and durable.
void write_safetensors(AtomicFile& file, const std::vector<NamedArray>& arrays,
                       const Metadata& metadata = {});
// The same for a path.
void write_safetensors(const std::string& path, const std::vector<NamedArray>& arrays,
                       const Metadata& metadata = {});

}  // namespace tilewise::io
