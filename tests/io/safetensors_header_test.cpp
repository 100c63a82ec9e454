// SPDX-License-Identifier: Apache-2.0
// The table of damaged files: every rule of the format, its violation, and the message.
#include "io/safetensors_header.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tilewise/error.h"

namespace tilewise::io {
namespace {

std::string length_field(uint64_t length) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(length >> (8 * i) & 0xff);
  return bytes;
}

// What the reader does with a whole file in memory.
SafetensorsHeader parse(const std::string& file) {
  const int64_t bytes = static_cast<int64_t>(file.size());
  const int64_t length = parse_header_length(std::string_view(file).substr(0, 8), bytes, "x.st");
  return parse_header(std::string_view(file).substr(8, static_cast<size_t>(length)), bytes, "x.st");
}

std::string make_file(const std::string& json, size_t data_bytes = 0) {
  return length_field(json.size()) + json + std::string(data_bytes, '\0');
}

// A file with one tensor "a", given by its fields, and 8 bytes of data.
std::string one_tensor(const std::string& fields) {
  return make_file("{\"a\":{" + fields + "}}", 8);
}

const std::string kGoodFields = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";

struct Damage {
  const char* what;
  std::string file;
  const char* message;  // a part of it
};

const std::vector<Damage>& damages() {
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

TEST(SafetensorsHeader, RefusesDamageWithItsMessage) {
  EXPECT_GE(damages().size(), 20u);
  for (const Damage& damage : damages()) {
    try {
      (void)parse(damage.file);
      ADD_FAILURE() << damage.what << ": accepted";
    } catch (const InvalidArgument& error) {
      const std::string text = error.what();
      EXPECT_EQ(text.rfind("read x.st: ", 0), 0u) << damage.what << ": " << text;
      EXPECT_NE(text.find(damage.message), std::string::npos) << damage.what << ": " << text;
      EXPECT_TRUE(std::none_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20; }))
          << damage.what << ": a message is one line";
    }
  }
}

// Names in messages come from the file: a long one must not flood the terminal.
TEST(SafetensorsHeader, CutsLongNamesInMessages) {
  const std::string name(1'000'000, 'n');
  try {
    (void)parse(make_file("{\"" + name + "\":1}"));
    ADD_FAILURE();
  } catch (const InvalidArgument& error) {
    EXPECT_LT(std::string(error.what()).size(), 300u);
  }
}

// A header that nests as deep as its limit allows: no recursion, no memory beyond the header.
TEST(SafetensorsHeader, SurvivesDeepNesting) {
  for (const char* opening : {"[", "{\"a\":"}) {
    std::string json = "{\"a\":{\"shape\":";
    while (json.size() < 1'000'000) json += opening;
    EXPECT_THROW((void)parse(make_file(json)), InvalidArgument);
  }
}

const std::string kGolden = [] {
  const std::string json = R"({"__metadata__":{"source":"golden \u00e9"},)"
                           R"("b":{"dtype":"BF16","shape":[2,3],"data_offsets":[8,20]},)"
                           R"("a":{"data_offsets":[0,8],"shape":[1,2],"dtype":"F32"},)"
                           R"("none":{"dtype":"I64","shape":[0,7],"data_offsets":[8,8]},)"
                           R"("one":{"dtype":"BOOL","shape":[],"data_offsets":[20,21]}}   )";
  return length_field(json.size()) + json + "0123456789abcdefghijk";
}();

TEST(SafetensorsHeader, ReadsTheGoldenFile) {
  const SafetensorsHeader header = parse(kGolden);
  EXPECT_EQ(header.metadata, (Metadata{{"source", "golden \xc3\xa9"}}));
  ASSERT_EQ(header.tensors.size(), 4u);
  EXPECT_EQ(header.data_begin, static_cast<int64_t>(kGolden.size()) - 21);
  EXPECT_EQ(header.tensors[0].name, "a");
  EXPECT_EQ(header.tensors[0].type, "F32");
  EXPECT_EQ(header.tensors[0].shape, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(header.tensors[1].name, "none");
  EXPECT_EQ(header.tensors[1].shape, (std::vector<int64_t>{0, 7}));
  EXPECT_EQ(header.tensors[2].name, "b");
  EXPECT_EQ(header.tensors[2].begin, 8);
  EXPECT_EQ(header.tensors[2].end, 20);
  EXPECT_EQ(header.tensors[3].name, "one");
  EXPECT_TRUE(header.tensors[3].shape.empty());
}

TEST(SafetensorsHeader, RefusesEveryTruncation) {
  for (size_t size = 0; size < kGolden.size(); ++size) {
    EXPECT_THROW((void)parse(kGolden.substr(0, size)), InvalidArgument) << size << " bytes";
  }
  EXPECT_THROW((void)parse(kGolden + " "), InvalidArgument);
}

// Every byte, every other value: the file is accepted with the promises of TensorInfo, or refused.
TEST(SafetensorsHeader, SurvivesEveryChangedByte) {
  int64_t accepted = 0;
  const size_t header_end = kGolden.size() - 21;
  for (size_t at = 0; at < header_end; ++at) {
    std::string file = kGolden;
    for (int change = 1; change < 256; ++change) {
      file[at] = static_cast<char>(kGolden[at] ^ change);
      try {
        const SafetensorsHeader header = parse(file);
        int64_t covered = 0;
        for (const TensorInfo& tensor : header.tensors) {
          ASSERT_EQ(tensor.begin, covered) << at << " ^ " << change;
          covered = tensor.end;
        }
        ASSERT_EQ(covered, 21) << at << " ^ " << change;
        ++accepted;
      } catch (const InvalidArgument&) {
      }
    }
  }
  EXPECT_GT(accepted, 0);  // a letter of a name may change
}

TEST(SafetensorsHeader, FormatsWhatItParses) {
  const std::vector<TensorInfo> tensors = {{"x", "F32", {2, 3}, 0, 24},
                                           {"y \"\\ \xc3\xa9", "BF16", {}, 24, 26},
                                           {"z", "I8", {0}, 26, 26}};
  const Metadata metadata = {{"k", "v\n"}, {"", ""}};
  const std::string text = format_header(metadata, tensors);
  EXPECT_EQ(text.size() % 8, 0u);
  const SafetensorsHeader header = parse(text + std::string(26, '\0'));
  EXPECT_EQ(header.metadata, metadata);
  ASSERT_EQ(header.tensors.size(), tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    EXPECT_EQ(header.tensors[i].name, tensors[i].name);
    EXPECT_EQ(header.tensors[i].type, tensors[i].type);
    EXPECT_EQ(header.tensors[i].shape, tensors[i].shape);
    EXPECT_EQ(header.tensors[i].begin, tensors[i].begin);
    EXPECT_EQ(header.tensors[i].end, tensors[i].end);
  }
  EXPECT_EQ(format_header({}, {}), length_field(8) + "{}      ");
}

TEST(SafetensorsHeader, RefusesToFormatBadNames) {
  const auto format = [](const std::vector<std::string>& names) {
    std::vector<TensorInfo> tensors;
    for (const std::string& name : names) tensors.push_back({name, "I8", {0}, 0, 0});
    (void)format_header({}, tensors);
  };
  EXPECT_THROW(format({""}), InvalidArgument);
  EXPECT_THROW(format({"__metadata__"}), InvalidArgument);
  EXPECT_THROW(format({"a\n"}), InvalidArgument);
  EXPECT_THROW(format({"a", "a"}), InvalidArgument);
  EXPECT_THROW(format({"\xff"}), InvalidArgument);
  EXPECT_THROW((void)format_header({{"\xff", ""}}, {}), InvalidArgument);
}

}  // namespace
}  // namespace tilewise::io
