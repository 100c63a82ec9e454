// SPDX-License-Identifier: Apache-2.0
// tilewise doctor as a user runs it. Speeds are only required to exist.
#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/cpu_features.h"
#include "cli/program.h"
#include "tilewise/attention.h"
#include "tilewise/version.h"

namespace tilewise::cli {
namespace {

using Json = nlohmann::json;

void clear_settings() {
  ::unsetenv("TILEWISE_ISA");
  ::unsetenv("TILEWISE_NUM_THREADS");
}

TEST(Doctor, TellsTheMachineAndItsSpeed) {
  const Outcome outcome = run_tilewise({"doctor", "--json"}, clear_settings);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const Json json = Json::parse(outcome.out);
  EXPECT_EQ(json.at("schema"), 1);
  EXPECT_EQ(json.at("version"), TILEWISE_VERSION);
  EXPECT_EQ(json.at("cpu"), cpu_name());
  EXPECT_EQ(json.at("isas"), available_isas());
  EXPECT_EQ(json.at("isa"), available_isas().front());
  EXPECT_EQ(json.at("caches").at("l2"), cache_sizes().l2);
  EXPECT_EQ(json.at("threads_allowed"), allowed_threads());
  for (const char* speed :
       {"peak_fp32_gflops", "peak_bf16_gflops", "copy_gbytes_per_second", "read_gbytes_per_second"})
    EXPECT_GT(json.at(speed), 0) << speed;
}

TEST(Doctor, BugReportMeasuresNothing) {
  const Outcome outcome = run_tilewise({"doctor", "--bug"}, clear_settings);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  for (const std::string& text :
       {std::string("tilewise " TILEWISE_VERSION), cpu_name(), std::string("TILEWISE_ISA: not set"),
        std::string("system: Linux"), std::string("## What happened")})
    EXPECT_NE(outcome.out.find(text), std::string::npos) << text << " in\n" << outcome.out;
  EXPECT_EQ(outcome.out.find("GFLOP"), std::string::npos);
}

TEST(Doctor, BadSettingsAreFindings) {
  const Outcome outcome = run_tilewise({"doctor", "--bug", "--json"}, [] {
    ::setenv("TILEWISE_ISA", "mmx", 1);
    ::setenv("TILEWISE_NUM_THREADS", "many", 1);
  });
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const Json json = Json::parse(outcome.out);
  EXPECT_EQ(json.at("isa"), "");
  const auto has = [](const Json& text, const char* part) {
    return text.get<std::string>().find(part) != std::string::npos;
  };
  EXPECT_TRUE(has(json.at("isa_problem"), "mmx"));
  EXPECT_EQ(json.at("environment").at("TILEWISE_ISA"), "mmx");
  EXPECT_TRUE(has(json.at("environment").at("TILEWISE_NUM_THREADS"), "many"));
}

TEST(Doctor, AnUnknownInstructionSetOnTheCommandLineIsAnError) {
  const Outcome outcome = run_tilewise({"doctor", "--bug", "--isa", "mmx"}, clear_settings);
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_NE(outcome.err.find("mmx"), std::string::npos) << outcome.err;
}

}  // namespace
}  // namespace tilewise::cli
