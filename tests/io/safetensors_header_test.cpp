// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors_header.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "io/damaged_files.h"
#include "tilewise/error.h"

namespace tilewise::io {
namespace {

// What the reader does with a whole file in memory.
SafetensorsHeader parse(const std::string& file) {
  const int64_t bytes = static_cast<int64_t>(file.size());
  const int64_t length = parse_header_length(std::string_view(file).substr(0, 8), bytes, "x.st");
  return parse_header(std::string_view(file).substr(8, static_cast<size_t>(length)), bytes, "x.st");
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
