// SPDX-License-Identifier: Apache-2.0
// The header of a safetensors file: 8 bytes of length (little endian), then a JSON object
//   {"__metadata__": {"text": "text"}, "name": {"dtype": "F32", "shape": [..], "data_offsets": [b,
//   e]}}
// then the data; offsets count from its start. Everything here is untrusted: whatever the bytes
// are, parsing returns a header for which every promise below holds, or throws InvalidArgument.
// Stricter than the format in one thing: unknown fields of a tensor and control characters in names
// are errors.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tilewise::io {

using Metadata = std::map<std::string, std::string>;

// 0 <= begin <= end; end - begin is the product of shape times element_bytes(type).
struct TensorInfo {
  std::string name;
  std::string type;  // "F32", "BF16", ...: one that element_bytes() knows
  std::vector<int64_t> shape;
  int64_t begin = 0;  // bytes, counted from the end of the header
  int64_t end = 0;
};

struct SafetensorsHeader {
  Metadata metadata;
  std::vector<TensorInfo> tensors;  // by begin; they cover the data without holes; names are unique
  int64_t data_begin = 0;           // bytes from the start of the file
};

constexpr int64_t kLengthBytes = 8;
// The limit of the reference implementation.
constexpr int64_t kMaxHeaderBytes = 100'000'000;

// The length field; file_bytes is the size of the file, file its name for messages.
[[nodiscard]] int64_t parse_header_length(std::string_view start, int64_t file_bytes,
                                          const std::string& file);
// text: the JSON, without the length field.
[[nodiscard]] SafetensorsHeader parse_header(std::string_view text, int64_t file_bytes,
                                             const std::string& file);
// Length field and JSON, padded with spaces to a multiple of 8 bytes. begin and end of the tensors
// are what parse_header() will return. Throws InvalidArgument for names that it would refuse.
[[nodiscard]] std::string format_header(const Metadata& metadata,
                                        const std::vector<TensorInfo>& tensors);

// A name for a message: in quotes, cut to 80 bytes, without control characters.
[[nodiscard]] std::string quoted_name(const std::string& name);

}  // namespace tilewise::io
