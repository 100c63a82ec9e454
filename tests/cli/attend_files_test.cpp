// SPDX-License-Identifier: Apache-2.0
// tilewise attend and its files: whatever is wrong is one line on stderr and an exit code, and the
// output is complete or untouched.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <functional>

#include "cli/program.h"
#include "io/damaged_files.h"
#include "io/safetensors.h"

namespace tilewise::cli {
namespace {

class AttendFilesTest : public ::testing::Test {
 protected:
  static io::Array ones(const std::string& type, const std::vector<int64_t>& shape) {
    io::Array array(type, shape);
    std::memset(array.data(), 0, static_cast<size_t>(array.bytes()));
    return array;
  }

  void write_good_input(int64_t length = 4) {
    const io::Array x = ones("F32", {1, 2, length, 8});
    io::write_safetensors(input_, {{"q", &x}, {"k", &x}, {"v", &x}});
  }

  Outcome attend(const std::vector<std::string>& more = {},
                 const std::function<void()>& prepare = {}) {
    std::vector<std::string> arguments = {"attend", "--input", input_, "--output", output_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_tilewise(arguments, prepare);
  }

  // Exit code, exactly one line on stderr with that text, nothing on stdout, no output file.
  void expect_error(const Outcome& outcome, int exit_code, const std::string& text) {
    EXPECT_EQ(outcome.exit_code, exit_code) << outcome.err;
    EXPECT_EQ(outcome.err.rfind("tilewise attend: ", 0), 0u) << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_NE(outcome.err.find(text), std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_FALSE(std::filesystem::exists(output_));
  }

  io::TemporaryDirectory directory_;
  std::string input_ = directory_.file("in.safetensors");
  std::string output_ = directory_.file("out.safetensors");
};

TEST_F(AttendFilesTest, DamagedInputsAreErrors) {
  for (const io::Damage& damage : io::damages()) {
    SCOPED_TRACE(damage.what);
    io::write_bytes(input_, damage.file);
    expect_error(attend(), 2, "read " + input_ + ": ");
  }
}

TEST_F(AttendFilesTest, WrongTensorsAreNamed) {
  struct Wrong {
    std::vector<std::pair<std::string, io::Array>> arrays;
    std::string message;
  };
  std::vector<Wrong> cases;
  const auto add =
      [&cases](
          std::initializer_list<std::tuple<const char*, const char*, std::vector<int64_t>>> tensors,
          const std::string& message) {
        Wrong wrong;
        wrong.message = message;
        for (const auto& [name, type, shape] : tensors)
          wrong.arrays.emplace_back(name, ones(type, shape));
        cases.push_back(std::move(wrong));
      };
  add({}, "tensor \"q\" is missing, expected q, k and v; the file has none");
  add({{"q", "F32", {1, 2, 4, 8}}, {"x", "F32", {1}}},
      "tensor \"k\" is missing, expected q, k and v; the file has q, x");
  add({{"q", "F32", {2, 4, 8}}},
      "shape of tensor \"q\" is [2, 4, 8], expected [batch, heads, length, dim]");
  add({{"q", "I32", {1, 2, 4, 8}}}, "dtype of tensor \"q\" is I32, expected F32, BF16, F16 or F64");
  add({{"q", "F32", {1, 2, 4, 8}}, {"k", "F32", {1, 2, 4, 9}}, {"v", "F32", {1, 2, 4, 8}}},
      "shape of tensor \"k\" is [1, 2, 4, 9], expected [1, kv heads, kv length, 8]");
  add({{"q", "F32", {1, 2, 4, 8}}, {"k", "F32", {1, 2, 4, 8}}, {"v", "F32", {1, 2, 5, 8}}},
      "shape of tensor \"v\" is [1, 2, 5, 8], expected [1, 2, 4, value dim]");
  add({{"q", "F32", {1, 3, 4, 8}}, {"k", "F32", {1, 2, 4, 8}}, {"v", "F32", {1, 2, 4, 8}}},
      "kv_heads is 2, expected a divisor of query_heads (3)");
  add({{"q", "F32", {1, 2, 4, 8}}, {"k", "F32", {1, 0, 4, 8}}, {"v", "F32", {1, 0, 4, 8}}},
      "k: kv heads is 0, expected at least 1");
  add({{"q", "F32", {1, 1, 4, 600}}, {"k", "F32", {1, 1, 4, 600}}, {"v", "F32", {1, 1, 4, 8}}},
      "head_dim is 600");
  add({{"q", "F32", {1, 2, 4, 8}}, {"k", "F16", {1, 2, 4, 8}}, {"v", "F32", {1, 2, 4, 8}}},
      "dtype of q, k, v and do is not one type, expected F32, as q; choose one with --dtype");
  add({{"q", "F32", {1, 2, 4, 8}},
       {"k", "F32", {1, 2, 6, 8}},
       {"v", "F32", {1, 2, 6, 8}},
       {"bias", "F32", {1, 2, 5, 6}}},
      "shape of tensor \"bias\" is [1, 2, 5, 6], expected [1, 1 or 2, 1 or 4, 6]");
  add({{"q", "F32", {1, 2, 4, 8}},
       {"k", "F32", {1, 2, 4, 8}},
       {"v", "F32", {1, 2, 4, 8}},
       {"do", "F32", {1, 2, 4, 7}}},
      "shape of tensor \"do\" is [1, 2, 4, 7], expected [1, 2, 4, 8]");
  add({{"q", "F32", {1, 2, 4, 8}},
       {"k", "F32", {1, 2, 4, 8}},
       {"v", "F32", {1, 2, 4, 8}},
       {"dlse", "F32", {1, 2, 4}}},
      "tensor \"do\" is missing, expected one, as there is \"dlse\"");
  for (const Wrong& wrong : cases) {
    std::vector<io::NamedArray> named;
    for (const auto& [name, array] : wrong.arrays) named.push_back({name, &array});
    io::write_safetensors(input_, named);
    expect_error(attend(), 2, wrong.message);
  }
}

TEST_F(AttendFilesTest, BadPathsAreErrors) {
  expect_error(attend(), 2, "read " + input_ + ": cannot open the file: No such file or directory");
  write_good_input();
  output_ = directory_.file("missing/out.safetensors");
  expect_error(attend(), 2,
               "write " + output_ + ": cannot open the file: No such file or directory");
  output_ = "/dev/full";
  EXPECT_EQ(attend().exit_code, 2);
  output_ = directory_.path();
  EXPECT_EQ(attend().exit_code, 2);
}

TEST_F(AttendFilesTest, BadOptionsAreErrors) {
  write_good_input();
  const std::pair<std::vector<std::string>, const char*> cases[] = {
      {{"--mask", "diagonal"}, "--mask"},
      {{"--mask", "window:1"}, "--mask"},
      {{"--mask", "window:-1,2"}, "--mask"},
      {{"--dtype", "int8"}, "--dtype: value is int8, expected fp32, bf16, fp16 or fp64"},
      {{"--isa", "vax"}, "vax"},
      {{"--threads", "-1"}, "--threads"},
      {{"--threads", "many"}, "--threads"},
      {{"--scale", "0"}, "scale is 0"},
      {{"--scale", "nan"}, "scale is NaN"},
      {{"--scale", "x"}, "--scale"},
      {{"--speed", "11"}, "--speed"},
      {{"extra"}, "extra"},
  };
  for (const auto& [options, text] : cases) expect_error(attend(options), 2, text);
}

// A file size limit stops write() in the middle, as a full disk does. The old output stays.
TEST_F(AttendFilesTest, AnOutputThatDoesNotFitLeavesTheOldOne) {
  write_good_input(2000);
  io::write_bytes(output_, "old");
  const Outcome outcome = attend({}, [] {
    const rlimit limit = {50'000, 50'000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  });
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(outcome.err.find("File too large (after 50000 bytes; nothing was kept)"),
            std::string::npos)
      << outcome.err;
  EXPECT_EQ(io::read_bytes(output_), "old");
  EXPECT_EQ(directory_.names().size(), 2u);
}

// A full disk, mounted where only the program sees it; needs root.
TEST_F(AttendFilesTest, AFullDiskIsAnErrorAndNothingAppears) {
  write_good_input(4000);
  const std::string disk = directory_.file("disk");
  std::filesystem::create_directory(disk);
  output_ = disk + "/out.safetensors";
  constexpr int kMayNotMount = 77;
  const Outcome outcome = attend({}, [&] {
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=64k") != 0) {
      ::_exit(kMayNotMount);
    }
  });
  if (outcome.exit_code == kMayNotMount) GTEST_SKIP() << "may not mount a small file system";
  expect_error(outcome, 1, "No space left on device");
}

}  // namespace
}  // namespace tilewise::cli
