// SPDX-License-Identifier: Apache-2.0
// The main job on the shortest lengths: report.json, and the page that Python makes of it.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "cli/program.h"
#include "cli/python.h"
#include "io/safetensors.h"

namespace tilewise::cli {
namespace {

using Json = nlohmann::json;

const std::string kSource = TILEWISE_SOURCE_DIR;
const std::string kLayer = kSource + "/data/gpt_layer.safetensors";

std::set<std::string> values(const Json& rows, const char* key) {
  std::set<std::string> result;
  for (const Json& row : rows) result.insert(row[key].get<std::string>());
  return result;
}

using Names = std::set<std::string>;

void check_machine(const Json& report) {
  EXPECT_EQ(report["schema"], 1);
  EXPECT_TRUE(report["quick"].get<bool>());
  for (const char* dtype : {"fp32", "bf16"}) {
    EXPECT_GT(report["machine"]["peak_gflops_before"][dtype].get<double>(), 0);
    EXPECT_GT(report["machine"]["peak_gflops_after"][dtype].get<double>(), 0);
  }
  EXPECT_EQ(report["machine"]["threads"], 2);
}

void check_real_input(const Json& report) {
  const Json& input = report["input"];
  EXPECT_EQ(input["mask"], "causal");
  EXPECT_TRUE(input["all_rows"].get<bool>());
  EXPECT_EQ(input["errors"].size(), 4U * 4U);
  EXPECT_EQ(values(input["errors"], "dtype"), (Names{"fp32", "bf16", "fp16", "fp64"}));
  EXPECT_EQ(values(input["errors"], "tensor"), (Names{"o", "dq", "dk", "dv"}));
  for (const Json& row : input["errors"]) EXPECT_TRUE(row["within_bound"].get<bool>()) << row;
  // The file's results are float64 of an independent program, rounded to fp32 once.
  EXPECT_EQ(input["results_in_file"].size(), 4U);
  for (const Json& row : input["results_in_file"]) {
    EXPECT_LE(row["max_difference"].get<double>(), 1e-7 * row["largest"].get<double>()) << row;
  }
}

void check_times_and_memory(const Json& report) {
  const Names implementations = {"tilewise", "standard", "megatron"};
  // 2 dtypes, 2 masks, lengths 128 and 256.
  for (const char* section : {"runtime", "memory"}) {
    const Json& rows = report[section];
    EXPECT_EQ(rows.size(), 2U * 2U * 2U * 3U) << section;
    EXPECT_EQ(values(rows, "implementation"), implementations);
    EXPECT_EQ(values(rows, "dtype"), (Names{"fp32", "bf16"}));
    EXPECT_EQ(values(rows, "mask"), (Names{"none", "causal"}));
  }
  for (const Json& row : report["runtime"]) {
    EXPECT_GT(row["forward_ms"].get<double>(), 0);
    EXPECT_GT(row["backward_ms"].get<double>(), 0);
    EXPECT_GE(row["rounds"].get<int>(), 2);
  }
  for (const Json& row : report["memory"]) {
    EXPECT_GT(row["total_peak_bytes"].get<int64_t>(), row["tensor_bytes"].get<int64_t>() / 2);
    EXPECT_GE(row["total_peak_bytes"].get<int64_t>(), row["forward_peak_bytes"].get<int64_t>());
  }
  EXPECT_EQ(values(report["latency"], "implementation"), implementations);
  for (const Json& row : report["latency"]) {
    EXPECT_GE(row["p99_us"].get<double>(), row["median_us"].get<double>());
    EXPECT_GE(row["calls"].get<int>(), 100);
  }
}

void check_counts(const Json& report) {
  const Json& counts = report["io"]["counts"];
  EXPECT_EQ(counts.size(), 2U * 2U * 3U * 2U);
  for (const Json& row : counts) {
    EXPECT_TRUE(row["equal"].get<bool>()) << row;
    EXPECT_EQ(row["formula_words"], row["counted_words"]) << row;
  }
  for (const Json& point : report["io"]["cache"]["points"]) {
    EXPECT_GE(point["tiled_words"].get<double>(), point["lower_bound_words"].get<double>());
  }
}

void check_tile_sizes(const Json& report) {
  int64_t before = INT64_MAX;
  for (const Json& point : report["blocks"]["points"]) {
    if (point["axis"] != "query_tile") continue;
    EXPECT_LT(point["words"].get<int64_t>(), before);
    before = point["words"].get<int64_t>();
  }
  EXPECT_LT(before, INT64_MAX);
}

void check_gpt2(const Json& report) {
  const Json& gpt2 = report["gpt2"];
  EXPECT_EQ(gpt2["dropout"], 0.1);
  EXPECT_EQ(gpt2["length"], 256);  // the longest of the report
  // 2 dtypes: Tilewise without dropout, and all three with it.
  EXPECT_EQ(gpt2["times"].size(), 2U * 4U);
  for (const Json& row : gpt2["times"]) EXPECT_GT(row["total_ms"].get<double>(), 0) << row;
  EXPECT_EQ(gpt2["errors"].size(), 2U * 4U);
  for (const Json& row : gpt2["errors"]) EXPECT_TRUE(row["within_bound"].get<bool>()) << row;
  EXPECT_EQ(gpt2["memory"].size(), 3U);
}

void check_masks(const Json& report) {
  const Json& masks = report["masks"];
  // 256 tokens are 2 blocks: dense, density 1 and 1/2 in 2 dtypes.
  EXPECT_EQ(masks["densities"].size(), 2U * 3U);
  for (const Json& row : masks["densities"]) EXPECT_TRUE(row["equal"].get<bool>()) << row;
  EXPECT_EQ(masks["densities"][2]["density"], 0.5);
  // 256, 512 and 1024 tokens are 2, 4 and 8 blocks, of which a row sees 2, 3 and 4.
  const Json& butterfly = masks["butterfly"];
  ASSERT_EQ(butterfly.size(), 3U);
  EXPECT_EQ(butterfly[0]["density"], 1);
  EXPECT_EQ(butterfly[1]["density"], 0.75);
  EXPECT_EQ(butterfly[2]["density"], 0.5);
  EXPECT_EQ(masks["plans"].size(), 5U);
  for (const Json& row : masks["plans"]) {
    EXPECT_GT(row["tiles_full"].get<int64_t>(), 0) << row;
    EXPECT_GT(row["tiles_partial"].get<int64_t>(), 0) << row;
  }
}

void check_table(const std::string& table) {
  for (const char* text : {"naive RMS", "megatron", "Latency", "counts equal the formula"}) {
    EXPECT_NE(table.find(text), std::string::npos) << text;
  }
  EXPECT_EQ(table.find("BEYOND"), std::string::npos);
}

size_t count(const std::string& text, const std::string& part) {
  size_t result = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++result;
  return result;
}

std::string make_page(const std::string& python, const std::string& folder) {
  const std::string command = python + " " + kSource + "/tools/report/page.py " + folder;
  EXPECT_EQ(std::system((command + " >/dev/null").c_str()), 0) << command;
  return io::read_bytes(folder + "/index.html");
}

void check_page(const std::string& python, const std::string& folder) {
  const std::string page = make_page(python, folder);
  // Errors, 2 of time, fraction of peak, 2 of memory, latency, words, tile sizes, masks.
  EXPECT_EQ(count(page, "<svg"), 10U);
  EXPECT_EQ(count(page, "<figcaption>"), 10U);
  EXPECT_EQ(count(page, "src="), 0U);
  EXPECT_EQ(count(page, "<link"), 0U);
  EXPECT_NE(page.find("All 16 results are within the bound"), std::string::npos);
  EXPECT_EQ(page.find("nan"), std::string::npos);
  EXPECT_EQ(page.find("Against other libraries"), std::string::npos);
}

void check_page_with_peers(const std::string& python, const std::string& folder) {
  const std::string path = folder + "/peers.json";
  const std::string command = python + " " + kSource + "/bench/peers.py --quick --only 'H1 N128' " +
                              "--build " TILEWISE_BUILD_DIR " --output " + path;
  ASSERT_EQ(std::system((command + " >/dev/null").c_str()), 0) << command;
  const std::string page = make_page(python, folder);
  EXPECT_EQ(count(page, "<svg"), 11U);
  EXPECT_NE(page.find("Against other libraries"), std::string::npos);
  EXPECT_NE(page.find("forward bf16 B1 H1 N128 d64 full"), std::string::npos);

  Json of_another_build = Json::parse(io::read_bytes(path));
  of_another_build["program_sha256"] = "0";
  std::ofstream(path) << of_another_build;
  EXPECT_EQ(make_page(python, folder).find("Against other libraries"), std::string::npos);
}

// One test, because a report takes seconds and every test is a process.
TEST(Report, ShortestReportIsCompleteAndItsPageToo) {
  const io::TemporaryDirectory directory;
  const std::string folder = directory.file("report");
  const Outcome outcome = run_tilewise({"report", "--output", folder, "--input", kLayer, "--quick",
                                        "--max-length", "256", "--threads", "2"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const Json report = Json::parse(io::read_bytes(folder + "/report.json"));
  check_machine(report);
  check_real_input(report);
  check_times_and_memory(report);
  check_counts(report);
  check_tile_sizes(report);
  check_gpt2(report);
  check_masks(report);
  check_table(outcome.out);
  const std::string python = python_with("numpy, matplotlib");
  if (python.empty()) GTEST_SKIP() << "no .venv, and no python3 with numpy and matplotlib";
  check_page(python, folder);
  check_page_with_peers(python, folder);
}

TEST(ReportErrors, UnwritableFolderIsKnownBeforeMeasuring) {
  const Outcome outcome = run_tilewise({"report", "--output", "/proc/nowhere", "--quick"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_NE(outcome.err.find("/proc/nowhere"), std::string::npos) << outcome.err;
}

TEST(ReportErrors, InputWithoutValues) {
  const io::TemporaryDirectory directory;
  const io::Array q(DType::kFloat32, {1, 1, 4, 8});
  io::write_safetensors(directory.file("in.safetensors"), {{"q", &q}, {"k", &q}});
  const Outcome outcome =
      run_tilewise({"report", "--output", directory.file("out"), "--input",
                    directory.file("in.safetensors"), "--quick", "--max-length", "128"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_NE(outcome.err.find("tensor \"v\" is missing"), std::string::npos) << outcome.err;
  EXPECT_FALSE(std::filesystem::exists(directory.file("out/report.json")));
}

}  // namespace
}  // namespace tilewise::cli
