// SPDX-License-Identifier: Apache-2.0
// tilewise tune as a user runs it. Which tiles are faster depends on the machine; that a choice is
// one the kernels can take, is written, and is what plans then use, does not.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/program.h"
#include "engine/tuned_tiles.h"
#include "tilewise/attention.h"

namespace tilewise::cli {
namespace {

using Json = nlohmann::json;

void clear_settings() {
  for (const char* name : {"TILEWISE_ISA", "TILEWISE_NUM_THREADS", "TILEWISE_TUNING"}) {
    ::unsetenv(name);
  }
}

TEST(Tune, WritesAFileThatPlansUse) {
  const io::TemporaryDirectory directory;
  const auto prepare = [&directory] {
    clear_settings();
    ::setenv("XDG_CONFIG_HOME", directory.path().c_str(), 1);
  };
  const Outcome outcome = run_tilewise({"tune", "--quick", "--json"}, prepare);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const Json json = Json::parse(outcome.out);
  EXPECT_EQ(json.at("command"), "tune");
  const std::string file = directory.file("tilewise/tuning");
  EXPECT_EQ(json.at("file"), file);

  const Tuning tuning = parse_tuning(io::read_bytes(file), file);
  EXPECT_NO_THROW(validate_tuning(tuning, file));
  EXPECT_EQ(machine_difference(tuning.machine, this_machine()), "");
  ASSERT_EQ(tuning.tiles.size(), json.at("classes").size());
  std::set<int64_t> dims;
  for (const Json& entry : json.at("classes")) {
    EXPECT_EQ(entry.at("isa"), available_isas().front());
    const TunedTiles* tiles = tuning.find(
        {entry.at("isa"), entry.at("arithmetic"), entry.at("dim"), entry.at("pass") == "backward"});
    ASSERT_NE(tiles, nullptr) << entry;
    EXPECT_EQ(tiles->queries, entry.at("tuned").at("queries"));
    EXPECT_EQ(tiles->keys, entry.at("tuned").at("keys"));
    EXPECT_GT(entry.at("candidates"), 1);
    EXPECT_GE(entry.at("rounds"), 5);
    EXPECT_LE(entry.at("time_ratio"), 1) << "kept unless faster";
    EXPECT_EQ(entry.at("tuned") == entry.at("model"), entry.at("time_ratio") == 1) << entry;
    dims.insert(entry.at("dim").get<int64_t>());
  }
  EXPECT_EQ(dims, (std::set<int64_t>{64, 128, 256}));

  const Outcome explained = run_tilewise({"explain", "--seq", "4096", "--head-dim", "64"}, prepare);
  EXPECT_NE(explained.out.find("tuning    " + file + "\n"), std::string::npos) << explained.out;
  EXPECT_NE(explained.out.find("measured by tilewise tune"), std::string::npos) << explained.out;
  const Outcome doctor = run_tilewise({"doctor", "--bug", "--json"}, prepare);
  EXPECT_EQ(Json::parse(doctor.out).at("tuning"), file);
}

TEST(Tune, ModelsChoiceIsWhatPlansUseWithoutAFile) {
  const auto prepare = [] {
    clear_settings();
    ::setenv("TILEWISE_TUNING", "none", 1);
  };
  const Outcome outcome = run_tilewise({"explain", "--seq", "4096", "--head-dim", "64"}, prepare);
  EXPECT_NE(outcome.out.find("tuning    none\n"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("from the sizes of the caches"), std::string::npos) << outcome.out;
}

TEST(Tune, AFileOfAnotherMachineIsIgnoredAndDoctorAndExplainSayWhy) {
  const io::TemporaryDirectory directory;
  const auto prepare = [&directory] {
    clear_settings();
    ::setenv("XDG_CONFIG_HOME", directory.path().c_str(), 1);
  };
  std::filesystem::create_directory(directory.file("tilewise"));
  io::write_bytes(directory.file("tilewise/tuning"),
                  "tilewise-tuning 1\ncpu abacus\ncaches 0 0 0\nthreads 1\nend\n");
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"explain", "--seq", "64", "--head-dim", "64"},
        std::vector<std::string>{"doctor", "--bug"}}) {
    const Outcome outcome = run_tilewise(command, prepare);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_NE(outcome.out.find("is ignored: made on \"abacus\""), std::string::npos) << outcome.out;
  }
}

TEST(Tune, ABadFileIsAnErrorWhereItIsNamedAndAFindingOfTheDoctor) {
  const io::TemporaryDirectory directory;
  const std::string file = directory.file("tuning");
  const auto prepare = [&file] {
    clear_settings();
    ::setenv("TILEWISE_TUNING", file.c_str(), 1);
  };
  io::write_bytes(file, "tilewise-tuning 1\ncpu x\ncaches many\n");
  const Outcome explained = run_tilewise({"explain", "--seq", "64", "--head-dim", "64"}, prepare);
  EXPECT_EQ(explained.exit_code, 2);
  EXPECT_NE(explained.err.find("line 3 of " + file), std::string::npos) << explained.err;
  const Outcome doctor = run_tilewise({"doctor", "--bug"}, prepare);
  EXPECT_EQ(doctor.exit_code, 0) << doctor.err;
  EXPECT_NE(doctor.out.find("line 3 of " + file), std::string::npos) << doctor.out;
}

TEST(Tune, APlaceThatCannotBeWrittenIsAnErrorBeforeTheWork) {
  const Outcome outcome = run_tilewise({"tune", "--output", "/nowhere/tuning"}, clear_settings);
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_NE(outcome.err.find("/nowhere/tuning"), std::string::npos) << outcome.err;
  const Outcome homeless = run_tilewise({"tune"}, [] {
    clear_settings();
    ::unsetenv("XDG_CONFIG_HOME");
    ::unsetenv("HOME");
  });
  EXPECT_EQ(homeless.exit_code, 2);
  EXPECT_NE(homeless.err.find("--output"), std::string::npos) << homeless.err;
}

}  // namespace
}  // namespace tilewise::cli
