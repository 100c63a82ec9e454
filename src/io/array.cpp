// SPDX-License-Identifier: Apache-2.0
#include "io/array.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdlib>

#include "base/checked.h"
#include "base/dtype.h"
#include "base/message.h"
#include "tilewise/error.h"

namespace tilewise::io {
namespace {

constexpr int64_t kAlignment = 64;

struct ElementType {
  const char* name;
  int64_t bytes;
};
constexpr ElementType kElementTypes[] = {
    {"F32", 4},  {"BF16", 2}, {"F16", 2},     {"F64", 8},     {"I64", 8},     {"I32", 4},
    {"I16", 2},  {"I8", 1},   {"U64", 8},     {"U32", 4},     {"U16", 2},     {"U8", 1},
    {"BOOL", 1}, {"C64", 8},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1},
};

constexpr struct {
  DType dtype;
  const char* name;
} kFloatTypes[] = {{DType::kFloat32, "F32"},
                   {DType::kBFloat16, "BF16"},
                   {DType::kFloat16, "F16"},
                   {DType::kFloat64, "F64"}};

}  // namespace

int64_t element_bytes(const std::string& type) {
  for (const ElementType& known : kElementTypes) {
    if (type == known.name) return known.bytes;
  }
  return 0;
}

std::optional<DType> float_dtype(const std::string& type) {
  for (const auto& known : kFloatTypes) {
    if (type == known.name) return known.dtype;
  }
  return std::nullopt;
}

const char* type_name(DType dtype) {
  for (const auto& known : kFloatTypes) {
    if (dtype == known.dtype) return known.name;
  }
  throw InvalidArgument(
      message("type_name", "dtype", std::to_string(static_cast<int>(dtype)), "a value of DType"));
}

std::string shape_text(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

Array::Array(std::string type, std::vector<int64_t> shape)
    : type_(std::move(type)), shape_(std::move(shape)), elements_(1) {
  const int64_t size = element_bytes(type_);
  if (size == 0) throw InvalidArgument(message("Array", "type", type_, "a safetensors type"));
  bool fits = true;
  for (const int64_t extent : shape_) {
    fits = fits && extent >= 0 && checked_multiply(elements_, extent, elements_);
  }
  int64_t reserved = 0;
  fits = fits && checked_multiply(elements_, size, bytes_) &&
         checked_add(bytes_, kAlignment, reserved);
  if (!fits) {
    throw InvalidArgument(message("Array", "shape", shape_text(shape_),
                                  "non-negative extents whose product fits in 63 bits"));
  }
  data_.reset(
      std::aligned_alloc(kAlignment, static_cast<size_t>(reserved / kAlignment * kAlignment)));
  if (!data_) {
    throw DeviceError(
        fmt::format("Array: no memory for {} bytes ({} {})", bytes_, type_, shape_text(shape_)));
  }
}

void Array::Free::operator()(void* memory) const noexcept { std::free(memory); }

Tensor Array::tensor() const {
  const std::optional<DType> element = dtype();
  if (!element) throw InvalidArgument(message("tensor", "type", type_, "F32, BF16, F16 or F64"));
  if (shape_.size() != 3 && shape_.size() != 4) {
    throw InvalidArgument(message("tensor", "shape", shape_text(shape_), "3 or 4 axes"));
  }
  const int64_t dim = shape_.size() == 4 ? shape_[3] : 1;
  return Tensor::bhsd(data(), *element, shape_[0], shape_[1], shape_[2], dim);
}

Array convert(const Array& array, DType dtype) {
  const std::optional<DType> from = array.dtype();
  if (!from)
    throw InvalidArgument(message("convert", "type", array.type(), "F32, BF16, F16 or F64"));
  Array result(dtype, array.shape());
  for (int64_t i = 0; i < array.elements(); ++i) {
    store_element(result.data(), dtype, i, load_element(array.data(), *from, i));
  }
  return result;
}

}  // namespace tilewise::io
