// SPDX-License-Identifier: Apache-2.0
// What tilewise bench says: fields, sums that can be checked by hand, memory, errors.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/program.h"

namespace tilewise::cli {
namespace {

using Json = nlohmann::json;

const std::vector<std::string> kSmall = {"--batch",     "2",  "--heads",   "4",  "--kv-heads", "2",
                                         "--seq",       "40", "--kv-seq",  "56", "--head-dim", "24",
                                         "--value-dim", "16", "--threads", "2",  "--rounds",   "2"};

Json bench(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "bench");
  arguments.push_back("--json");
  const Outcome outcome = run_tilewise(arguments);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  return Json::parse(outcome.out);
}

Json bench_small(const std::vector<std::string>& more) {
  std::vector<std::string> arguments = kSmall;
  arguments.insert(arguments.end(), more.begin(), more.end());
  return bench(arguments);
}

// ulp of the magnitude 1 covers values below 2, as sums of products of N(0, 1) with softmax are.
void expect_within_bound(const Json& result, const std::string& pass) {
  for (const Json& error : result["errors"]) {
    SCOPED_TRACE(error.dump());
    EXPECT_TRUE(error["within_bound"].get<bool>());
    EXPECT_LE(error["max_error"].get<double>(), error["max_bound"].get<double>());
    EXPECT_LE(error["rms_error"].get<double>(), error["rms_bound"].get<double>());
    EXPECT_GT(error["naive_error"].get<double>(), 0);
    EXPECT_LE(error["naive_rms_error"].get<double>(), error["naive_error"].get<double>());
  }
  const size_t tensors = pass == "forward" ? 1 : pass == "backward" ? 3 : 4;
  EXPECT_EQ(result["errors"].size(), tensors);
  EXPECT_GT(result["max_error"].get<double>(), 0);
  EXPECT_GT(result["rms_error"].get<double>(), 0);
}

TEST(Bench, EveryDtypeAndPassHasItsFields) {
  for (const std::string dtype : {"fp32", "bf16", "fp16", "fp64"}) {
    for (const std::string pass : {"forward", "backward", "both"}) {
      SCOPED_TRACE(dtype + " " + pass);
      const Json result =
          bench_small({"--dtype", dtype, "--pass", pass, "--mask", "causal", "--seed", "7"});
      EXPECT_EQ(result["schema"], 1);
      EXPECT_EQ(result["command"], "bench");
      EXPECT_EQ(result["impl"], "tilewise");
      EXPECT_EQ(result["dtype"], dtype);
      EXPECT_EQ(result["pass"], pass);
      EXPECT_EQ(result["mask"], "causal");
      EXPECT_EQ(result["seed"], 7);
      EXPECT_EQ(result["kv_heads"], 2);
      EXPECT_EQ(result["threads"], 2);
      // Causal, bottom right: query q sees q + 1 + (56 - 40) keys.
      EXPECT_EQ(result["pairs"], 2 * 4 * (40 * 17 + 40 * 39 / 2));
      EXPECT_GE(result["rounds"].get<int>(), 2);
      const double seconds = result["median_ms"].get<double>() / 1e3;
      EXPECT_GE(result["median_ms"].get<double>(), result["min_ms"].get<double>());
      const double flops = 2.0 * result["pairs"].get<double>() * (24 + 16) *
                           (pass == "forward"    ? 1
                            : pass == "backward" ? 2.5
                                                 : 3.5);
      EXPECT_NEAR(result["gflops"].get<double>() / (flops / seconds / 1e9), 1, 1e-6);
      const double peak = std::max(result["peak_gflops_before"].get<double>(),
                                   result["peak_gflops_after"].get<double>());
      EXPECT_EQ(result["peak_gflops"].get<double>(), peak);
      EXPECT_NEAR(result["fraction_of_peak"].get<double>(), result["gflops"].get<double>() / peak,
                  1e-9);
      EXPECT_EQ(result["rows_compared"], 2 * 4 * 40);
      expect_within_bound(result, pass);
    }
  }
}

TEST(Bench, EveryImplementationRuns) {
  for (const std::string impl : {"standard", "megatron", "reference"}) {
    SCOPED_TRACE(impl);
    const Json result = bench_small({"--impl", impl, "--pass", "both", "--mask", "window:9,3"});
    EXPECT_EQ(result["impl"], impl);
    EXPECT_GT(result["gflops"].get<double>(), 0);
    EXPECT_GT(result["peak_gflops"].get<double>(), 0);
    EXPECT_EQ(result["threads"], impl == "reference" ? 1 : 2);
    expect_within_bound(result, "both");
  }
}

TEST(Bench, WithSinks) {
  for (const std::string impl : {"tilewise", "standard", "megatron", "reference"}) {
    SCOPED_TRACE(impl);
    const Json result = bench_small({"--impl", impl, "--sink", "--pass", "both"});
    EXPECT_EQ(result["sink"], true);
    EXPECT_EQ(result["dropout"], 0);
    expect_within_bound(result, "both");
  }
}

TEST(Bench, WithDropout) {
  for (const std::string impl : {"tilewise", "standard", "megatron", "reference"}) {
    SCOPED_TRACE(impl);
    const Json result = bench_small({"--impl", impl, "--dropout", "0.1", "--pass", "both"});
    EXPECT_NEAR(result["dropout"].get<double>(), 0.1, 0x1p-17);
    expect_within_bound(result, "both");
  }
}

TEST(Bench, ForcedInstructionSetIsUsed) {
  const Json result = bench_small({"--isa", "scalar"});
  EXPECT_EQ(result["isa"], "scalar");
  expect_within_bound(result, "forward");
}

int64_t extra_bytes(const std::string& impl, int length) {
  return bench({"--seq", std::to_string(length), "--head-dim", "16", "--heads", "2", "--threads",
                "2", "--rounds", "1", "--pass", "both", "--mask", "causal", "--impl",
                impl})["extra_bytes"]
      .get<int64_t>();
}

// Equal steps in length are equal steps in memory; the matrices grow with the square.
TEST(Bench, ExtraBytesAreLinearInLength) {
  const int64_t at_1024 = extra_bytes("tilewise", 1024), at_2048 = extra_bytes("tilewise", 2048),
                at_3072 = extra_bytes("tilewise", 3072);
  EXPECT_GT(at_2048, at_1024);
  EXPECT_NEAR(static_cast<double>(at_3072 - at_2048) / static_cast<double>(at_2048 - at_1024), 1,
              0.05);
  // logsumexp, rowsum(dO o O) and the accumulator of dQ: the linear term, per head and query.
  EXPECT_LE(at_2048 - at_1024, 1024 * 2 * 4 * (3 + 16 + 16));
  const int64_t matrices = 2 * 1024 * 1024 * 4;
  EXPECT_GE(extra_bytes("standard", 1024), 2 * matrices);
  EXPECT_GE(extra_bytes("standard", 2048), 2 * 4 * matrices);
}

TEST(Bench, LongProblemsAreComparedInSampledRows) {
  const Json result = bench({"--seq", "2048", "--head-dim", "16", "--heads", "2", "--rounds", "1",
                             "--pass", "both", "--mask", "causal"});
  EXPECT_GE(result["rows_compared"].get<int>(), 64);
  EXPECT_LT(result["rows_compared"].get<int>(), 2048);
  expect_within_bound(result, "both");
}

TEST(Bench, InputsDependOnTheSeedOnly) {
  const Json first = bench_small({"--seed", "3"}), again = bench_small({"--seed", "3"}),
             other = bench_small({"--seed", "4"});
  EXPECT_EQ(first["errors"], again["errors"]);
  EXPECT_NE(first["errors"], other["errors"]);
}

TEST(Bench, PrintsATableForPeople) {
  std::vector<std::string> arguments = kSmall;
  arguments.insert(arguments.begin(), "bench");
  const Outcome outcome = run_tilewise(arguments);
  EXPECT_EQ(outcome.exit_code, 0);
  for (const char* text : {"problem", "GFLOP/s", "of the peak", "naive max", "within the bound"}) {
    EXPECT_NE(outcome.out.find(text), std::string::npos) << text;
  }
}

TEST(Bench, RefusesWhatItDoesNotKnow) {
  for (const auto& [option, value] :
       {std::pair{"--impl", "fast"}, std::pair{"--pass", "sideways"}, std::pair{"--rounds", "0"},
        std::pair{"--isa", "mmx"}, std::pair{"--dtype", "int8"}, std::pair{"--dropout", "often"},
        std::pair{"--dropout", "1"}, std::pair{"--dropout", "nan"}}) {
    std::vector<std::string> arguments = kSmall;
    arguments.insert(arguments.begin(), "bench");
    arguments.insert(arguments.end(), {option, value});
    const Outcome outcome = run_tilewise(arguments);
    EXPECT_EQ(outcome.exit_code, 2) << option;
    EXPECT_NE(outcome.err.find("tilewise bench: "), std::string::npos) << outcome.err;
  }
}

TEST(Bench, FewQueriesAreMeasuredByWhatTheyRead) {
  const Json result = bench({"--heads", "4", "--kv-heads", "2", "--seq", "1", "--kv-seq", "66000",
                             "--head-dim", "64", "--rounds", "2", "--same-bits-as-prefill"});
  EXPECT_TRUE(result["same_bits_as_prefill"].get<bool>());
  const double bytes = 2. * 66000 * 128 * 4;
  EXPECT_NEAR(result["kv_gbytes_per_second"].get<double>(),
              bytes / result["median_ms"].get<double>() * 1e-6, 1e-6 * bytes);
  EXPECT_NEAR(
      result["fraction_of_read"].get<double>(),
      result["kv_gbytes_per_second"].get<double>() / result["read_gbytes_per_second"].get<double>(),
      1e-9);
  EXPECT_FALSE(bench_small({}).contains("fraction_of_read"));
}

TEST(Bench, RaggedBatchIsTimed) {
  const Json result = bench({"--lengths", "7,0,40,19", "--heads", "2", "--head-dim", "8", "--mask",
                             "causal", "--pass", "both", "--rounds", "2"});
  EXPECT_EQ(result["batch"], 4);
  EXPECT_EQ(result["seq"], 40);
  EXPECT_EQ(result["starts"], Json({0, 7, 7, 47, 66}));
  EXPECT_EQ(result["pairs"], 2 * (7 * 8 + 40 * 41 + 19 * 20) / 2);
  EXPECT_EQ(result["tensor_bytes"], 8 * 2 * 66 * 8 * 4);
  EXPECT_EQ(result["errors"], Json::array());
  EXPECT_GT(result["gflops"], 0);
}

TEST(Bench, LengthsReplaceBatchAndSeq) {
  const auto error_of = [](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"bench", "--head-dim", "8"});
    const Outcome outcome = run_tilewise(arguments);
    EXPECT_EQ(outcome.exit_code, 2);
    return outcome.err;
  };
  EXPECT_NE(error_of({}).find("--seq is required"), std::string::npos);
  EXPECT_NE(error_of({"--lengths", "5", "--seq", "5"}).find("--lengths"), std::string::npos);
  EXPECT_NE(error_of({"--lengths", "5,-1"}).find("--lengths"), std::string::npos);
  EXPECT_NE(error_of({"--lengths", "5", "--impl", "standard"})
                .find("--impl: value is standard, expected tilewise with --lengths"),
            std::string::npos);
}

}  // namespace
}  // namespace tilewise::cli
