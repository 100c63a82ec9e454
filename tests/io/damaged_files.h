// SPDX-License-Identifier: Apache-2.0
// The table of damaged files: every rule of the format, its violation, and the message. The reader
// and the command line are tested against it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tilewise::io {

inline std::string length_field(uint64_t length) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(length >> (8 * i) & 0xff);
  return bytes;
}

inline std::string make_file(const std::string& json, size_t data_bytes = 0) {
  return length_field(json.size()) + json + std::string(data_bytes, '\0');
}

// A file with one tensor "a", given by its fields, and 8 bytes of data.
inline std::string one_tensor(const std::string& fields) {
  return make_file("{\"a\":{" + fields + "}}", 8);
}

inline const std::string kGoodFields = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";

struct Damage {
  const char* what;
  std::string file;
  const char* message;  // a part of it
};

inline const std::vector<Damage>& damages() {
  static const std::vector<Damage> cases = {
      {"empty", "", "file is 0 bytes long, expected at least 8; it is empty"},
      {"seven bytes", "1234567", "file is 7 bytes long, expected at least 8"},
      {"length beyond the file", length_field(100) + "{}",
       "header length is 100, expected at most 2, the rest of the file"},
      {"length over the limit", length_field(100'000'001) + "{}",
       "header length is 100000001, expected at most 100000000"},
      {"length of all ones", std::string(8, '\xff') + "{}",
       "header length is 18446744073709551615"},
      {"no header", length_field(0), "header is empty, expected a JSON object"},
      {"space before the header", make_file(" {}"), "header is starting with byte 0x20"},
      {"byte order mark", make_file("\xef\xbb\xbf{}"), "header is starting with byte 0xef"},
      {"an array", make_file("[]"), "header is starting with byte 0x5b"},
      {"a number", make_file("7"), "header is starting with byte 0x37"},
      {"cut JSON", make_file("{\"a\":{"), "header is not valid JSON at its byte"},
      {"text after the object", make_file("{} {}"), "header is not valid JSON at its byte 4"},
      {"a zero byte as padding", make_file(std::string("{}\0", 3)),
       "header is not valid JSON at its byte 3"},
      {"broken UTF-8", make_file("{\"\xc3\x28\":1}"), "header is not valid JSON at its byte"},
      {"a comment", make_file("{/**/}"), "header is not valid JSON at its byte 2"},
      {"a huge number", one_tensor(R"("dtype":"F32","shape":[1e999],"data_offsets":[0,8])"),
       "header is not valid JSON at its byte"},
      {"too deep", make_file(R"({"a":{"shape":[[[[[[]]]]]]}})"),
       "an entry in shape of tensor \"a\" is an array, expected a non-negative integer"},
      {"object in a field", make_file(R"({"a":{"shape":{"b":{}}}})"),
       "shape of tensor \"a\" is an object, expected an array of integers"},
      {"a name twice", make_file("{\"a\":{" + kGoodFields + "},\"a\":{" + kGoodFields + "}}", 8),
       "header is with the name \"a\" twice, expected unique names"},
      {"a field twice", one_tensor("\"dtype\":\"F32\"," + kGoodFields),
       "tensor \"a\" is with the field \"dtype\" twice"},
      {"an unknown field", one_tensor("\"strides\":[1]," + kGoodFields),
       "tensor \"a\" is with the field \"strides\""},
      {"metadata twice", make_file(R"({"__metadata__":{},"__metadata__":{}})"),
       "header is with the name \"__metadata__\" twice"},
      {"a metadata key twice", make_file(R"({"__metadata__":{"k":"1","k":"2"}})"),
       "__metadata__ is with the key \"k\" twice"},
      {"metadata of numbers", make_file(R"({"__metadata__":{"k":1}})"),
       "__metadata__ \"k\" is a number, expected a string"},
      {"nested metadata", make_file(R"({"__metadata__":{"k":{}}})"),
       "__metadata__ \"k\" is an object, expected a string"},
      {"metadata as text", make_file(R"({"__metadata__":"k"})"),
       "__metadata__ is a string, expected an object of strings"},
      {"empty name", make_file("{\"\":{" + kGoodFields + "}}", 8), "tensor name is \"\""},
      {"control character in a name", make_file("{\"a\\u001bb\":{" + kGoodFields + "}}", 8),
       "tensor name is \"a\\x1bb\""},
      {"a tensor that is a number", make_file(R"({"a":1})"),
       "tensor \"a\" is a number, expected an object with dtype, shape and data_offsets"},
      {"a tensor that is null", make_file(R"({"a":null})"), "tensor \"a\" is null"},
      {"no dtype", one_tensor(R"("shape":[2],"data_offsets":[0,8])"),
       "tensor \"a\" is without \"dtype\""},
      {"no shape", one_tensor(R"("dtype":"F32","data_offsets":[0,8])"),
       "tensor \"a\" is without \"shape\""},
      {"no offsets", one_tensor(R"("dtype":"F32","shape":[2])"),
       "tensor \"a\" is without \"data_offsets\""},
      {"unknown dtype", one_tensor(R"("dtype":"F33","shape":[2],"data_offsets":[0,8])"),
       "dtype of tensor \"a\" is \"F33\", expected a supported type; F64, F32"},
      {"dtype of four bits", one_tensor(R"("dtype":"F4","shape":[16],"data_offsets":[0,8])"),
       "dtype of tensor \"a\" is \"F4\", expected a supported type"},
      {"dtype as number", one_tensor(R"("dtype":32,"shape":[2],"data_offsets":[0,8])"),
       "dtype of tensor \"a\" is a number, expected a string"},
      {"shape as number", one_tensor(R"("dtype":"F32","shape":2,"data_offsets":[0,8])"),
       "shape of tensor \"a\" is a number, expected an array of integers"},
      {"negative shape", one_tensor(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"),
       "an entry in shape of tensor \"a\" is -2, expected a non-negative integer"},
      {"fractional shape", one_tensor(R"("dtype":"F32","shape":[2.5],"data_offsets":[0,8])"),
       "an entry in shape of tensor \"a\" is 2.5, expected a non-negative integer"},
      {"text in the shape", one_tensor(R"("dtype":"F32","shape":["2"],"data_offsets":[0,8])"),
       "an entry in shape of tensor \"a\" is a string"},
      {"an extent of 2^63",
       one_tensor(R"("dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8])"),
       "shape of tensor \"a\" is 9223372036854775808, expected less than 2^63"},
      {"a product of 2^64",
       one_tensor(R"("dtype":"I8","shape":[4294967296,4294967296],"data_offsets":[0,8])"),
       "shape of tensor \"a\" is [4294967296, 4294967296], expected a product below 2^63"},
      {"a product that overflows before a zero",
       one_tensor(R"("dtype":"F64","shape":[4611686018427387904,0],"data_offsets":[0,0])"),
       "expected a product below 2^63"},
      {"offsets as number", one_tensor(R"("dtype":"F32","shape":[2],"data_offsets":8)"),
       "data_offsets of tensor \"a\" is a number"},
      {"one offset", one_tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0])"),
       "data_offsets of tensor \"a\" is 1 numbers, expected [begin, end]"},
      {"three offsets", one_tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,8,8])"),
       "data_offsets of tensor \"a\" is more than 2 numbers"},
      {"negative offset", one_tensor(R"("dtype":"F32","shape":[2],"data_offsets":[-8,0])"),
       "an entry in data_offsets of tensor \"a\" is -8"},
      {"reversed offsets", one_tensor(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"),
       "data_offsets of tensor \"a\" is [8, 0], expected begin <= end"},
      {"offsets beyond the data", one_tensor(R"("dtype":"F32","shape":[3],"data_offsets":[0,12])"),
       "data_offsets of tensor \"a\" is [0, 12], expected at most 8, the bytes of data"},
      {"size and shape differ", one_tensor(R"("dtype":"F32","shape":[1],"data_offsets":[0,8])"),
       "data_offsets of tensor \"a\" is [0, 8], expected 4 bytes, as F32 [1] needs"},
      {"a hole at the start", one_tensor(R"("dtype":"F32","shape":[1],"data_offsets":[4,8])"),
       "is [4, 8], expected a begin at 0, where the previous tensor ends; there is a hole"},
      {"a hole between",
       make_file(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                 R"("b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
                 12),
       "data_offsets of tensor \"b\" is [8, 12], expected a begin at 4"},
      {"overlap",
       make_file(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                 R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
                 12),
       "is [4, 12], expected a begin at 8, where the previous tensor ends; tensors overlap"},
      {"an empty tensor inside another",
       make_file(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                 R"("b":{"dtype":"F32","shape":[0],"data_offsets":[4,4]}})",
                 8),
       "data_offsets of tensor \"b\" is [4, 4], expected a begin at 8"},
      {"trailing bytes", make_file("{\"a\":{" + kGoodFields + "}}", 9),
       "data is 9 bytes, expected 8, where the last tensor ends; there are trailing bytes"},
      {"data without tensors", make_file("{}", 1), "data is 1 bytes, expected 0"},
  };
  return cases;
}

}  // namespace tilewise::io
