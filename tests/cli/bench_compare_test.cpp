// SPDX-License-Identifier: Apache-2.0
// tilewise bench --compare. Recorded speeds that no machine has make the verdicts certain.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/program.h"

namespace tilewise::cli {
namespace {

using Json = nlohmann::json;

// Two small cases as bench/run_cases.py keeps them, as far as they are read.
Json recorded() {
  const Outcome doctor = run_tilewise({"doctor", "--bug", "--json"});
  EXPECT_EQ(doctor.exit_code, 0) << doctor.err;
  const Json here = Json::parse(doctor.out);
  Json file = Json::parse(R"({"schema": 2, "cases": [
    {"impl": "tilewise", "pass": "both", "batch": 1, "heads": 4, "kv_heads": 2, "seq": 40,
     "kv_seq": 56, "head_dim": 24, "value_dim": 24, "dtype": "bf16", "mask": "window:9,3",
     "scale": 0.25, "same_bits_as_prefill": false, "seed": 1, "isa": "scalar", "threads": 1, "fraction_of_peak": 0.5,
     "fraction_of_peak_low": 0.5, "fraction_of_peak_high": 0.5},
    {"impl": "standard", "pass": "forward", "batch": 2, "heads": 1, "kv_heads": 1, "seq": 40,
     "kv_seq": 40, "head_dim": 24, "value_dim": 16, "dtype": "fp32", "mask": "causal",
     "scale": 0.25, "same_bits_as_prefill": true, "seed": 7, "isa": "scalar", "threads": 1, "fraction_of_peak": 0.5,
     "fraction_of_peak_low": 0.5, "fraction_of_peak_high": 0.5}]})");
  file["machine"] = {
      {"cpu", here["cpu"]}, {"threads", here["threads_allowed"]}, {"isa", here["isa"]}};
  return file;
}

void set_speed(Json& row, double median, double low, double high) {
  row["fraction_of_peak"] = median;
  row["fraction_of_peak_low"] = low;
  row["fraction_of_peak_high"] = high;
}

struct Compared {
  Outcome outcome;
  std::string path;
};

Compared compare(const std::string& text, std::vector<std::string> more = {}) {
  const io::TemporaryDirectory directory;
  const std::string path = directory.file("results.json");
  std::ofstream(path) << text;
  more.insert(more.begin(), {"bench", "--compare", path, "--rounds", "1"});
  return {run_tilewise(more), path};
}

TEST(BenchCompare, SlowerFailsAndNoiseIsSaid) {
  Json file = recorded();
  set_speed(file["cases"][0], 1e9, 1e9, 1e9);
  set_speed(file["cases"][1], 0.5, 1e-9, 1e9);
  const Compared compared = compare(file.dump());
  EXPECT_EQ(compared.outcome.exit_code, 1) << compared.outcome.err;
  for (const std::string& text : {
           std::string("\nslower "),
           std::string(" tilewise both bf16 B1 H4/2 N40x56 d24 window:9,3 scalar\n"),
           std::string("\nunclear "),
           std::string(" standard forward fp32 B2 H1 N40 d24/16 causal scalar\n"),
           "\n1 of 2 cases slower than in " + compared.path + "; 1 too noisy to tell\n",
       }) {
    EXPECT_NE(compared.outcome.out.find(text), std::string::npos) << text << " in\n"
                                                                  << compared.outcome.out;
  }
}

TEST(BenchCompare, ReadsWhatRunCasesWrites) {
  const io::TemporaryDirectory directory;
  const std::string cases = directory.file("cases.txt"), results = directory.file("results.json");
  std::ofstream(cases) << "# a comment\n--seq 40 --head-dim 24 --heads 2 --isa scalar\n";
  const std::string command = std::string("python3 ") + TILEWISE_SOURCE_DIR +
                              "/bench/run_cases.py --repeat 2 --tilewise " + TILEWISE_PROGRAM +
                              " --cases " + cases + " --output " + results;
  ASSERT_EQ(std::system((command + " >/dev/null").c_str()), 0) << command;
  Json file = Json::parse(io::read_bytes(results));
  Json& row = file["cases"][0];
  EXPECT_LE(row["fraction_of_peak_low"], row["fraction_of_peak"]);
  EXPECT_LE(row["fraction_of_peak"], row["fraction_of_peak_high"]);
  set_speed(row, 1e-9, 1e-9, 1e-9);
  const Compared compared = compare(file.dump(), {"--json"});
  EXPECT_EQ(compared.outcome.exit_code, 0) << compared.outcome.err;
  const Json json = Json::parse(compared.outcome.out);
  EXPECT_EQ(json["schema"], 1);
  EXPECT_EQ(json["compare"], compared.path);
  EXPECT_EQ(json["slower"], 0);
  ASSERT_EQ(json["cases"].size(), 1U);
  EXPECT_EQ(json["cases"][0]["case"], "tilewise forward fp32 B1 H2 N40 d24 none scalar");
  EXPECT_EQ(json["cases"][0]["verdict"], "faster");
  EXPECT_EQ(json["cases"][0]["recorded"]["fraction_of_peak"], 1e-9);
  const Json& measured = json["cases"][0]["measured"];
  EXPECT_GT(measured["fraction_of_peak_low"], 1e-9);
  EXPECT_LE(measured["fraction_of_peak_low"], measured["fraction_of_peak"]);
  EXPECT_LE(measured["fraction_of_peak"], measured["fraction_of_peak_high"]);
}

struct Damage {
  const char* text;  // of the error
  std::function<void(Json&)> make;
};

TEST(BenchCompare, RefusesDamageAndOtherMachines) {
  const Json good = recorded();
  for (const Damage& damage : std::vector<Damage>{
           {"schema is 1, expected 2; make it anew", [](Json& f) { f["schema"] = 1; }},
           {"schema is missing", [](Json& f) { f.erase("schema"); }},
           {"machine is missing", [](Json& f) { f.erase("machine"); }},
           {"machine.cpu is Abacus, expected", [](Json& f) { f["machine"]["cpu"] = "Abacus"; }},
           {"machine.threads is 4095, expected", [](Json& f) { f["machine"]["threads"] = 4095; }},
           {"machine.isa is mmx, expected", [](Json& f) { f["machine"]["isa"] = "mmx"; }},
           {"cases is [], expected a list", [](Json& f) { f["cases"] = Json::array(); }},
           {"cases is 3, expected a list", [](Json& f) { f["cases"] = 3; }},
           {"cases[1].impl is missing", [](Json& f) { f["cases"][1] = "x"; }},
           {"cases[1].mask is missing", [](Json& f) { f["cases"][1].erase("mask"); }},
           {"cases[1].mask: ", [](Json& f) { f["cases"][1]["mask"] = "casual"; }},
           {"cases[1].score: ", [](Json& f) { f["cases"][1]["score"] = "s +"; }},
           {"cases[0].pass: ", [](Json& f) { f["cases"][0]["pass"] = "sideways"; }},
           {"cases[0].dtype is int8", [](Json& f) { f["cases"][0]["dtype"] = "int8"; }},
           {"cases[0].seq is 1.5, expected an integer",
            [](Json& f) { f["cases"][0]["seq"] = 1.5; }},
           {"head_dim is 513", [](Json& f) { f["cases"][0]["head_dim"] = 513; }},
           {"cases[1]: make_plan: isa is 'mmx'", [](Json& f) { f["cases"][1]["isa"] = "mmx"; }},
           {"cases[0].scale is 0, expected a positive number",
            [](Json& f) { f["cases"][0]["scale"] = 0; }},
           {"cases[0].same_bits_as_prefill is 1, expected true or false",
            [](Json& f) { f["cases"][0]["same_bits_as_prefill"] = 1; }},
           {"cases[1].fraction_of_peak is 0.5, expected 0.6 to 0.7",
            [](Json& f) {
              f["cases"][1]["fraction_of_peak_low"] = 0.6;
              f["cases"][1]["fraction_of_peak_high"] = 0.7;
            }},
           {"cases[1].fraction_of_peak_low is missing",
            [](Json& f) { f["cases"][1].erase("fraction_of_peak_low"); }}}) {
    SCOPED_TRACE(damage.text);
    Json file = good;
    damage.make(file);
    const Compared compared = compare(file.dump());
    EXPECT_EQ(compared.outcome.exit_code, 2);
    EXPECT_EQ(compared.outcome.out, "");
    EXPECT_NE(compared.outcome.err.find("--compare " + compared.path + ": "), std::string::npos)
        << compared.outcome.err;
    EXPECT_NE(compared.outcome.err.find(damage.text), std::string::npos) << compared.outcome.err;
  }
}

TEST(BenchCompare, RefusesWhatIsNoJsonFile) {
  for (const char* text : {"", "{", "schema", "[1, 2"}) {
    const Compared compared = compare(text);
    EXPECT_EQ(compared.outcome.exit_code, 2) << text;
    EXPECT_NE(compared.outcome.err.find("not JSON"), std::string::npos) << compared.outcome.err;
  }
  for (const char* path : {"/nowhere/results.json", "/tmp", ""}) {
    const Outcome outcome = run_tilewise({"bench", "--compare", path});
    EXPECT_EQ(outcome.exit_code, 2) << path;
    EXPECT_NE(outcome.err.find("--compare"), std::string::npos) << outcome.err;
  }
}

TEST(BenchCompare, TakesNoProblemBesides) {
  for (const auto& [option, value] :
       {std::pair{"--seq", "64"}, std::pair{"--mask", "causal"}, std::pair{"--isa", "scalar"},
        std::pair{"--impl", "standard"}, std::pair{"--seed", "2"}}) {
    for (const std::vector<std::string>& arguments :
         std::vector<std::vector<std::string>>{{"bench", "--compare", "x.json", option, value},
                                               {"bench", option, value, "--compare", "x.json"}}) {
      const Outcome outcome = run_tilewise(arguments);
      EXPECT_EQ(outcome.exit_code, 2);
      EXPECT_NE(outcome.err.find("--compare excludes " + std::string(option)), std::string::npos)
          << outcome.err;
    }
  }
}

TEST(BenchCompare, WithoutItAProblemIsRequired) {
  const Outcome outcome = run_tilewise({"bench", "--seq", "64"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_NE(outcome.err.find("--head-dim is required"), std::string::npos) << outcome.err;
}

}  // namespace
}  // namespace tilewise::cli
