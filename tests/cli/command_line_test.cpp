// SPDX-License-Identifier: Apache-2.0
// What every subcommand shares: help, version, exit codes, JSON.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/program.h"
#include "tilewise/version.h"

namespace tilewise::cli {
namespace {

const std::string kLayer = TILEWISE_SOURCE_DIR "/data/gpt_layer.safetensors";

TEST(CommandLine, SaysItsVersion) {
  const Outcome outcome = run_tilewise({"--version"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.out, "tilewise " TILEWISE_VERSION "\n");
  EXPECT_EQ(outcome.err, "");
}

TEST(CommandLine, HelpListsCommandsAndExamples) {
  const Outcome outcome = run_tilewise({"--help"});
  EXPECT_EQ(outcome.exit_code, 0);
  for (const char* text : {"attend", "Examples:", "Exit codes:"}) {
    EXPECT_NE(outcome.out.find(text), std::string::npos) << text;
  }
}

TEST(CommandLine, HelpOfAttendNamesEveryOptionAndTensor) {
  const Outcome outcome = run_tilewise({"attend", "--help"});
  EXPECT_EQ(outcome.exit_code, 0);
  for (const char* text : {"--input", "--output", "--mask", "--scale", "--dtype", "--isa",
                           "--threads", "--json", "--sink", "--dropout", "--seed", "bias", "dlse",
                           "dbias in fp32", "dsink", "[batch, heads, length]"}) {
    EXPECT_NE(outcome.out.find(text), std::string::npos) << text;
  }
}

TEST(CommandLine, NoOrUnknownCommandIsInvalid) {
  for (const auto& arguments : std::vector<std::vector<std::string>>{{}, {"dance"}, {"--dance"}}) {
    const Outcome outcome = run_tilewise(arguments);
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(outcome.err.rfind("tilewise: ", 0), 0u) << outcome.err;
    EXPECT_NE(outcome.err.find("see tilewise --help\n"), std::string::npos) << outcome.err;
  }
}

TEST(CommandLine, ErrorsAreJsonOnRequest) {
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"attend", "--json"},
           {"attend", "--json", "--input", "/missing", "--output", "/tmp/never"},
           {"attend", "--mask", "x", "--input", "/missing", "--output", "/tmp/never", "--json"}}) {
    const Outcome outcome = run_tilewise(arguments);
    EXPECT_EQ(outcome.exit_code, 2);
    const auto json = nlohmann::json::parse(outcome.out);
    EXPECT_EQ(json.at("schema"), 1);
    EXPECT_EQ(json.at("command"), "attend");
    EXPECT_EQ(json.at("error").at("kind"), "invalid_argument");
    const std::string text = json.at("error").at("message");
    EXPECT_EQ(outcome.err, "tilewise attend: " + text + "\n");
  }
}

TEST(CommandLine, AttendPrintsItsJsonSchema) {
  const io::TemporaryDirectory directory;
  const std::string output = directory.file("out.safetensors");
  const Outcome outcome =
      run_tilewise({"attend", "--input", kLayer, "--output", output, "--mask", "window:100,0",
                    "--isa", "scalar", "--threads", "1", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  const auto json = nlohmann::json::parse(outcome.out);
  const nlohmann::json expected = {
      {"schema", 1},      {"command", "attend"}, {"input", kLayer},       {"output", output},
      {"batch", 1},       {"heads", 2},          {"kv_heads", 2},         {"length", 512},
      {"kv_length", 512}, {"head_dim", 64},      {"value_dim", 64},       {"dtype", "fp32"},
      {"bias", false},    {"sink", false},       {"dropout", 0},          {"scale", 0.125},
      {"isa", "scalar"},  {"threads", 1},        {"mask", "window:100,0"}};
  for (const auto& [key, value] : expected.items()) EXPECT_EQ(json.at(key), value) << key;
  EXPECT_GT(json.at("workspace_bytes"), 0);
  for (const char* phase : {"read", "forward", "backward", "write"}) {
    EXPECT_GE(json.at("seconds").at(phase), 0) << phase;
  }
  ASSERT_EQ(json.at("tensors").size(), 5u);
  const nlohmann::json first = {{"name", "o"}, {"dtype", "F32"}, {"shape", {1, 2, 512, 64}}};
  EXPECT_EQ(json.at("tensors")[0], first);
}

TEST(CommandLine, FileNamesCannotBreakTheLine) {
  const Outcome outcome = run_tilewise(
      {"attend", "--input", "/missing\n\x1b[31m\xff", "--output", "/tmp/never", "--json"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.err.find('\x1b'), std::string::npos);
  EXPECT_EQ(outcome.err.find('\n'), outcome.err.size() - 1);
  EXPECT_TRUE(nlohmann::json::accept(outcome.out));
}

TEST(CommandLine, AFullStandardOutputIsAFailure) {
  const io::TemporaryDirectory directory;
  const Outcome outcome =
      run_tilewise({"attend", "--input", kLayer, "--output", directory.file("out"), "--json"},
                   [] { ::dup2(::open("/dev/full", O_WRONLY), STDOUT_FILENO); });
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(outcome.err.find("cannot write to the standard output"), std::string::npos);
}

}  // namespace
}  // namespace tilewise::cli
