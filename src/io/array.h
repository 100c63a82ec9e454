// SPDX-License-Identifier: Apache-2.0
// An owned tensor of any rank and any element type that a safetensors file may hold.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tilewise/tensor.h"

namespace tilewise::io {

// Bytes per element of a type name of the format ("F32", "BF16", "I64", "BOOL", ...); 0: not
// supported.
[[nodiscard]] int64_t element_bytes(const std::string& type);
// The type that attention computes with, or nothing for integers, booleans and 8-bit floats.
[[nodiscard]] std::optional<DType> float_dtype(const std::string& type);
// "F32", "BF16", "F16", "F64".
[[nodiscard]] const char* type_name(DType dtype);
// "[1, 4, 1024, 64]".
[[nodiscard]] std::string shape_text(const std::vector<int64_t>& shape);

// Row-major, 64-byte aligned, contents arbitrary until written.
class Array {
 public:
  // Throws InvalidArgument for an unknown type or a shape that is negative or overflows,
  // DeviceError when there is no memory.
  Array(std::string type, std::vector<int64_t> shape);
  Array(DType dtype, std::vector<int64_t> shape) : Array(type_name(dtype), std::move(shape)) {}

  [[nodiscard]] const std::string& type() const noexcept { return type_; }
  [[nodiscard]] const std::vector<int64_t>& shape() const noexcept { return shape_; }
  [[nodiscard]] int64_t elements() const noexcept { return elements_; }
  [[nodiscard]] int64_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] void* data() const noexcept { return data_.get(); }  // null only if moved from
  [[nodiscard]] std::optional<DType> dtype() const { return float_dtype(type_); }

  // The array as attention sees it: rank 4 is [batch, heads, length, dim], rank 3 has dim 1. The
  // array must be of a float type.
  [[nodiscard]] Tensor tensor() const;

 private:
  struct Free {
    void operator()(void* memory) const noexcept;
  };
  std::string type_;
  std::vector<int64_t> shape_;
  int64_t elements_ = 0;
  int64_t bytes_ = 0;
  std::unique_ptr<void, Free> data_;
};

// A copy in another float type, each element rounded once.
[[nodiscard]] Array convert(const Array& array, DType dtype);

}  // namespace tilewise::io
