// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors_header.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "base/checked.h"
#include "base/message.h"
#include "io/array.h"
#include "tilewise/error.h"

namespace tilewise::io {
namespace {

using Json = nlohmann::ordered_json;

bool has_control_character(const std::string& text) {
  return std::any_of(text.begin(), text.end(),
                     [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

// Builds the header from JSON events. No document is kept, so a hostile header costs no more memory
// than its own tensors; anything that the format does not have is refused where it appears.
class HeaderEvents : public nlohmann::json_sax<Json> {
 public:
  HeaderEvents(SafetensorsHeader& header, std::string operation)
      : header_(header), operation_(std::move(operation)) {}

  bool start_object(size_t) override {
    if (place_ == Place::kOutside) {
      place_ = Place::kTop;
    } else if (place_ == Place::kTop && top_key_ == "__metadata__") {
      place_ = Place::kMetadata;
    } else if (place_ == Place::kTop) {
      place_ = Place::kTensor;
      tensor_ = {};
      tensor_.name = top_key_;
      fields_.clear();
    } else {
      unexpected("an object");
    }
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kTensor) {
      for (const char* field : {"dtype", "shape", "data_offsets"}) {
        if (!fields_.count(field))
          refuse(where(), fmt::format("without {}", quoted_name(field)), "one");
      }
      header_.tensors.push_back(std::move(tensor_));
    }
    place_ = place_ == Place::kTop ? Place::kOutside : Place::kTop;
    return true;
  }

  bool key(std::string& name) override {
    if (place_ == Place::kTop) {
      if (!names_.insert(name).second) {
        refuse("header", "with the name " + quoted_name(name) + " twice", "unique names");
      }
      if (name.empty() || has_control_character(name)) {
        refuse("tensor name", quoted_name(name), "a text without control characters, not empty");
      }
      top_key_ = name;
    } else if (place_ == Place::kMetadata) {
      if (!header_.metadata.emplace(name, "").second) {
        refuse("__metadata__", "with the key " + quoted_name(name) + " twice", "unique keys");
      }
      field_ = name;
    } else {
      field_ = name;
      if (!fields_.insert(name).second) {
        refuse(where(), "with the field " + quoted_name(name) + " twice", "each once");
      }
      if (name != "dtype" && name != "shape" && name != "data_offsets") {
        refuse(where(), "with the field " + quoted_name(name),
               "dtype, shape and data_offsets only");
      }
    }
    return true;
  }

  bool string(std::string& text) override {
    if (place_ == Place::kMetadata) {
      header_.metadata[field_] = text;
    } else if (place_ == Place::kTensor && field_ == "dtype") {
      if (element_bytes(text) == 0)
        refuse(where("dtype"), quoted_name(text), "a supported type", kTypes);
      tensor_.type = text;
    } else {
      unexpected("a string");
    }
    return true;
  }

  bool start_array(size_t) override {
    if (place_ != Place::kTensor || field_ == "dtype") unexpected("an array");
    place_ = field_ == "shape" ? Place::kShape : Place::kOffsets;
    offsets_ = 0;
    return true;
  }

  bool end_array() override {
    if (place_ == Place::kOffsets && offsets_ != 2) {
      refuse(where("data_offsets"), fmt::format("{} numbers", offsets_), "[begin, end]");
    }
    place_ = Place::kTensor;
    return true;
  }

  bool number_unsigned(uint64_t number) override {
    if (place_ != Place::kShape && place_ != Place::kOffsets) unexpected("a number");
    if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      refuse(where(field_), fmt::format("{}", number), "less than 2^63");
    }
    const int64_t value = static_cast<int64_t>(number);
    if (place_ == Place::kShape) {
      tensor_.shape.push_back(value);
    } else {
      (offsets_ == 0 ? tensor_.begin : tensor_.end) = value;
      if (++offsets_ > 2) refuse(where("data_offsets"), "more than 2 numbers", "[begin, end]");
    }
    return true;
  }

  bool number_integer(int64_t number) override { return unexpected(fmt::format("{}", number)); }
  bool number_float(double number, const std::string&) override {
    return unexpected(fmt::format("{}", number));
  }
  bool null() override { return unexpected("null"); }
  bool boolean(bool value) override { return unexpected(value ? "true" : "false"); }
  bool binary(Json::binary_t&) override { return unexpected("binary data"); }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    refuse("header", fmt::format("not valid JSON at its byte {}", position), "a JSON object");
  }

 private:
  enum class Place { kOutside, kTop, kMetadata, kTensor, kShape, kOffsets };
  static constexpr const char* kTypes =
      "F64, F32, F16, BF16, I64 to I8, U64 to U8, BOOL, C64, F8_E4M3, F8_E5M2 or F8_E8M0";

  [[noreturn]] void refuse(const std::string& argument, const std::string& got,
                           const std::string& expected, const std::string& hint = "") const {
    throw InvalidArgument(message(operation_, argument, got, expected, hint));
  }

  std::string where(const std::string& field = "") const {
    const std::string tensor = "tensor " + quoted_name(top_key_);
    return field.empty() ? tensor : field + " of " + tensor;
  }

  // A value of a kind that has no place here.
  [[noreturn]] bool unexpected(const std::string& got) const {
    switch (place_) {
      case Place::kOutside:
        refuse("header", got, "a JSON object");
      case Place::kMetadata:
        refuse("__metadata__ " + quoted_name(field_), got, "a string");
      case Place::kTensor:
        refuse(where(field_), got, field_ == "dtype" ? "a string" : "an array of integers");
      case Place::kShape:
        refuse("an entry in shape of tensor " + quoted_name(top_key_), got, kInteger);
      case Place::kOffsets:
        refuse("an entry in data_offsets of tensor " + quoted_name(top_key_), got, kInteger);
      case Place::kTop:
        break;
    }
    if (top_key_ == "__metadata__") refuse("__metadata__", got, "an object of strings");
    refuse(where(), got, "an object with dtype, shape and data_offsets");
  }
  static constexpr const char* kInteger = "a non-negative integer";

  SafetensorsHeader& header_;
  std::string operation_;
  Place place_ = Place::kOutside;
  std::string top_key_;
  std::string field_;
  TensorInfo tensor_;
  int offsets_ = 0;
  std::unordered_set<std::string> names_;
  std::unordered_set<std::string> fields_;
};

// Sizes agree with shapes, and the tensors tile the data.
void check_layout(SafetensorsHeader& header, int64_t data_bytes, const std::string& operation) {
  for (const TensorInfo& tensor : header.tensors) {
    const std::string argument = "data_offsets of tensor " + quoted_name(tensor.name);
    const std::string got = fmt::format("[{}, {}]", tensor.begin, tensor.end);
    int64_t bytes = element_bytes(tensor.type);
    for (const int64_t extent : tensor.shape) {
      if (!checked_multiply(bytes, extent, bytes)) {
        throw InvalidArgument(message(operation, "shape of tensor " + quoted_name(tensor.name),
                                      shape_text(tensor.shape), "a product below 2^63 bytes"));
      }
    }
    if (tensor.begin > tensor.end) {
      throw InvalidArgument(message(operation, argument, got, "begin <= end"));
    }
    if (tensor.end > data_bytes) {
      throw InvalidArgument(message(operation, argument, got,
                                    fmt::format("at most {}, the bytes of data", data_bytes),
                                    "the file may be cut off"));
    }
    if (tensor.end - tensor.begin != bytes) {
      throw InvalidArgument(message(
          operation, argument, got,
          fmt::format("{} bytes, as {} {} needs", bytes, tensor.type, shape_text(tensor.shape))));
    }
  }
  std::stable_sort(header.tensors.begin(), header.tensors.end(), [](const auto& a, const auto& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  int64_t covered = 0;
  for (const TensorInfo& tensor : header.tensors) {
    if (tensor.begin != covered) {
      throw InvalidArgument(
          message(operation, "data_offsets of tensor " + quoted_name(tensor.name),
                  fmt::format("[{}, {}]", tensor.begin, tensor.end),
                  fmt::format("a begin at {}, where the previous tensor ends", covered),
                  tensor.begin < covered ? "tensors overlap" : "there is a hole in the data"));
    }
    covered = tensor.end;
  }
  if (covered != data_bytes) {
    throw InvalidArgument(message(operation, "data", fmt::format("{} bytes", data_bytes),
                                  fmt::format("{}, where the last tensor ends", covered),
                                  "there are trailing bytes"));
  }
}

}  // namespace

int64_t parse_header_length(std::string_view start, int64_t file_bytes, const std::string& file) {
  const std::string operation = "read " + file;
  if (file_bytes < kLengthBytes || start.size() < static_cast<size_t>(kLengthBytes)) {
    throw InvalidArgument(
        message(operation, "file", fmt::format("{} bytes long", file_bytes), "at least 8",
                file_bytes == 0 ? "it is empty" : "it is not a safetensors file"));
  }
  uint64_t length = 0;
  for (int i = kLengthBytes - 1; i >= 0; --i) {
    length = length << 8 | static_cast<unsigned char>(start[static_cast<size_t>(i)]);
  }
  if (length > static_cast<uint64_t>(kMaxHeaderBytes)) {
    throw InvalidArgument(message(operation, "header length", fmt::format("{}", length),
                                  fmt::format("at most {}", kMaxHeaderBytes),
                                  "it is not a safetensors file"));
  }
  const int64_t available = file_bytes - kLengthBytes;
  if (static_cast<int64_t>(length) > available) {
    throw InvalidArgument(message(operation, "header length", fmt::format("{}", length),
                                  fmt::format("at most {}, the rest of the file", available),
                                  "the file is cut off or not a safetensors file"));
  }
  return static_cast<int64_t>(length);
}

SafetensorsHeader parse_header(std::string_view text, int64_t file_bytes, const std::string& file) {
  const std::string operation = "read " + file;
  SafetensorsHeader header;
  header.data_begin = kLengthBytes + static_cast<int64_t>(text.size());
  // The format allows no byte order mark or space before the brace; a JSON parser would skip them.
  if (text.empty() || text.front() != '{') {
    const std::string got = text.empty() ? "empty"
                                         : fmt::format("starting with byte 0x{:02x}",
                                                       static_cast<unsigned char>(text[0]));
    throw InvalidArgument(message(operation, "header", got, "a JSON object"));
  }
  // The JSON parser takes a zero byte for the end of its input.
  if (const size_t zero = text.find('\0'); zero != std::string_view::npos) {
    throw InvalidArgument(message(operation, "header",
                                  fmt::format("not valid JSON at its byte {}", zero + 1),
                                  "a JSON object"));
  }
  HeaderEvents events(header, operation);
  Json::sax_parse(text.begin(), text.end(), &events);
  check_layout(header, file_bytes - header.data_begin, operation);
  return header;
}

std::string format_header(const Metadata& metadata, const std::vector<TensorInfo>& tensors) {
  Json json = Json::object();
  if (!metadata.empty()) json["__metadata__"] = metadata;
  std::unordered_set<std::string> names;
  for (const TensorInfo& tensor : tensors) {
    if (tensor.name.empty() || tensor.name == "__metadata__" ||
        has_control_character(tensor.name) || !names.insert(tensor.name).second) {
      throw InvalidArgument(message("write", "tensor name", quoted_name(tensor.name),
                                    "a unique text without control characters, not empty"));
    }
    json[tensor.name] = {{"dtype", tensor.type},
                         {"shape", tensor.shape},
                         {"data_offsets", {tensor.begin, tensor.end}}};
  }
  std::string text;
  try {
    text = json.dump();
  } catch (const Json::type_error&) {
    throw InvalidArgument(message("write", "a name or metadata", "not UTF-8", "UTF-8"));
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string result;
  for (int i = 0; i < kLengthBytes; ++i) result += static_cast<char>(text.size() >> (8 * i) & 0xff);
  return result + text;
}

std::string quoted_name(const std::string& name) {
  constexpr size_t kMost = 80;
  std::string result = "\"";
  for (const char c : name.substr(0, kMost)) {
    const bool is_control = static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
    result +=
        is_control ? fmt::format("\\x{:02x}", static_cast<unsigned char>(c)) : std::string(1, c);
  }
  return result + (name.size() > kMost ? "...\"" : "\"");
}

}  // namespace tilewise::io
