// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <numeric>

#include "io/temporary_directory.h"
#include "tilewise/error.h"

namespace tilewise::io {
namespace {

Array counting(const std::string& type, const std::vector<int64_t>& shape) {
  Array array(type, shape);
  auto* bytes = static_cast<unsigned char*>(array.data());
  std::iota(bytes, bytes + array.bytes(), static_cast<unsigned char>(1));
  return array;
}

TEST(Safetensors, RoundTripsEveryType) {
  TemporaryDirectory directory;
  const std::string path = directory.file("all.safetensors");
  std::vector<std::string> types = {"F64", "F32",  "F16",     "BF16",    "I64",    "I32",
                                    "I16", "I8",   "U64",     "U32",     "U16",    "U8",
                                    "C64", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0"};
  std::vector<Array> arrays;
  for (const std::string& type : types) arrays.push_back(counting(type, {3, 1, 5}));
  arrays.push_back(counting("F32", {}));
  arrays.push_back(counting("F32", {4, 0}));
  types.push_back("scalar");
  types.push_back("none");
  std::vector<NamedArray> named;
  for (size_t i = 0; i < arrays.size(); ++i) named.push_back({types[i], &arrays[i]});
  const Metadata metadata = {{"source", "a test"}};
  write_safetensors(path, named, metadata);

  const SafetensorsFile file(path);
  EXPECT_EQ(file.metadata(), metadata);
  EXPECT_EQ(file.tensors().size(), arrays.size());
  EXPECT_EQ(file.find("absent"), nullptr);
  for (size_t i = 0; i < arrays.size(); ++i) {
    const TensorInfo* info = file.find(types[i]);
    ASSERT_NE(info, nullptr) << types[i];
    const Array back = file.load(*info);
    EXPECT_EQ(back.type(), arrays[i].type());
    EXPECT_EQ(back.shape(), arrays[i].shape());
    ASSERT_EQ(back.bytes(), arrays[i].bytes());
    EXPECT_EQ(std::memcmp(back.data(), arrays[i].data(), static_cast<size_t>(back.bytes())), 0);
    EXPECT_EQ((file.tensors().front().begin + info->begin) % element_bytes(info->type), 0)
        << types[i] << " is aligned";
  }
}

// The same content gives the same bytes, in whatever order it is handed over.
TEST(Safetensors, WritesDeterministicBytes) {
  TemporaryDirectory directory;
  const Array a = counting("F32", {2});
  const Array b = counting("I8", {3});
  const Array c = counting("F32", {1});
  write_safetensors(directory.file("1"), {{"b", &b}, {"a", &a}, {"c", &c}});
  write_safetensors(directory.file("2"), {{"c", &c}, {"b", &b}, {"a", &a}});
  const std::string bytes = read_bytes(directory.file("1"));
  EXPECT_EQ(bytes, read_bytes(directory.file("2")));
  const std::string json = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                           R"("c":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},)"
                           R"("b":{"dtype":"I8","shape":[3],"data_offsets":[12,15]}})";
  EXPECT_EQ(bytes.substr(8, json.size()), json);
}

TEST(Safetensors, ReadsTensorsThatAreNotAligned) {
  TemporaryDirectory directory;
  const std::string header = format_header({}, {{"flag", "BOOL", {1}, 0, 1},  //
                                                {"x", "F32", {1}, 1, 5}});
  write_bytes(directory.file("x"), header + std::string("\x01\x00\x00\x80\x3f", 5));
  const SafetensorsFile file(directory.file("x"));
  const Array x = file.load(*file.find("x"));
  EXPECT_EQ(*static_cast<const float*>(x.data()), 1.0f);
}

void expect_refused(const std::string& path, const std::string& reason) {
  try {
    const SafetensorsFile file(path);
    ADD_FAILURE() << path << " was accepted";
  } catch (const InvalidArgument& error) {
    const std::string text = error.what();
    EXPECT_EQ(text.rfind("read " + path + ": ", 0), 0u) << text;
    EXPECT_NE(text.find(reason), std::string::npos) << text;
  }
}

TEST(Safetensors, RefusesWhatIsNoRegularFile) {
  TemporaryDirectory directory;
  const std::string fifo = directory.file("fifo");
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  expect_refused(fifo, "not a regular file");
  expect_refused(directory.path(), "not a regular file");
  expect_refused("/dev/null", "not a regular file");
  expect_refused(directory.file("missing"), "No such file or directory");
  write_bytes(directory.file("empty"), "");
  expect_refused(directory.file("empty"), "file is 0 bytes long");
}

TEST(Safetensors, RefusesEveryTruncationOfAFile) {
  TemporaryDirectory directory;
  const Array a = counting("F32", {2, 3});
  write_safetensors(directory.file("whole"), {{"a", &a}});
  const std::string bytes = read_bytes(directory.file("whole"));
  for (size_t size = 0; size < bytes.size(); ++size) {
    write_bytes(directory.file("cut"), bytes.substr(0, size));
    EXPECT_THROW(SafetensorsFile(directory.file("cut")), InvalidArgument) << size << " bytes";
  }
}

TEST(Safetensors, NoticesAFileThatShrinksWhileOpen) {
  TemporaryDirectory directory;
  const Array a = counting("F32", {1000});
  write_safetensors(directory.file("x"), {{"a", &a}});
  const SafetensorsFile file(directory.file("x"));
  std::filesystem::resize_file(directory.file("x"), 500);
  EXPECT_THROW((void)file.load(*file.find("a")), InvalidArgument);
}

// The repository's real input: the file that reports and benchmarks read.
TEST(Safetensors, ReadsTheGptLayer) {
  const SafetensorsFile file(TILEWISE_SOURCE_DIR "/data/gpt_layer.safetensors");
  EXPECT_NE(file.metadata().at("source").find("causal, scale 1/8"), std::string::npos);
  for (const char* name : {"q", "k", "v", "do", "o", "dq", "dk", "dv"}) {
    ASSERT_NE(file.find(name), nullptr) << name;
    EXPECT_EQ(file.find(name)->shape, (std::vector<int64_t>{1, 2, 512, 64}));
    EXPECT_EQ(file.find(name)->type, "F32");
  }
  EXPECT_EQ(file.find("lse")->shape, (std::vector<int64_t>{1, 2, 512}));
}

}  // namespace
}  // namespace tilewise::io
