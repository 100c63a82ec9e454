// SPDX-License-Identifier: Apache-2.0
// tilewise explain as a user runs it; expected numbers are worked out here, from the tile sizes.
#include <gtest/gtest.h>

#include <cstdint>
#include <nlohmann/json.hpp>

#include "cli/program.h"

namespace tilewise::cli {
namespace {

using Json = nlohmann::json;

Json explain(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "explain");
  arguments.emplace_back("--json");
  const Outcome outcome = run_tilewise(arguments);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  return Json::parse(outcome.out);
}

TEST(Explain, FullAttentionInTheFormulasOfThePaper) {
  const int64_t n = 1000, m = 300, d = 64, e = 80, heads = 6, batch = 2;
  const Json json =
      explain({"--batch", "2", "--heads", "6", "--kv-heads", "2", "--seq", "1000", "--kv-seq",
               "300", "--head-dim", "64", "--value-dim", "80", "--isa", "scalar"});
  EXPECT_EQ(json.at("schema"), 1);
  EXPECT_EQ(json.at("command"), "explain");
  EXPECT_EQ(json.at("isa"), "scalar");
  EXPECT_EQ(json.at("pairs"), 2 * 6 * n * m);
  const auto tiles = [](int64_t length, const Json& tile) {
    return (length + tile.get<int64_t>() - 1) / tile.get<int64_t>();
  };

  const Json& forward = json.at("forward");
  const int64_t query_tiles = tiles(n, forward.at("tile_queries"));
  EXPECT_EQ(forward.at("tiles_full"), query_tiles * tiles(m, forward.at("tile_keys")));
  EXPECT_EQ(forward.at("tiles_partial"), 0);
  EXPECT_EQ(forward.at("tiles_empty"), 0);
  EXPECT_EQ(forward.at("flops"), 2 * batch * heads * n * m * (d + e));
  EXPECT_EQ(forward.at("words").at("read"), batch * heads * (n * d + query_tiles * m * (d + e)));
  EXPECT_EQ(forward.at("words").at("written"), batch * heads * n * (e + 1));
  EXPECT_EQ(forward.at("packed_words"), batch * heads * n * d) << "fp32: Q only";
  EXPECT_EQ(forward.at("standard_words").at("total"),
            batch * heads * (4 * n * m + (n + m) * (d + e)));

  const Json& backward = json.at("backward");
  const int64_t key_tiles = tiles(m, backward.at("tile_keys"));
  EXPECT_EQ(backward.at("tiles_full"), key_tiles * tiles(n, backward.at("tile_queries")));
  EXPECT_EQ(backward.at("flops"), 5 * batch * heads * n * m * (d + e));
  EXPECT_EQ(backward.at("words").at("total"),
            batch * heads * (2 * n * e + 3 * n) +  // Delta and LSE beforehand
                2 * batch * 2 * m * (d + e) +      // K, V, dK, dV of two kv heads
                batch * heads * key_tiles * n * (d + e + 2 + 2 * d));
  int64_t parts = 0;
  for (const auto& part : backward.at("workspace")) parts += part.get<int64_t>();
  EXPECT_LE(parts, backward.at("workspace_bytes").get<int64_t>());
  EXPECT_GE(json.at("workspace_bytes"), backward.at("workspace_bytes"));
}

TEST(Explain, MasksLeaveTilesOut) {
  const std::vector<std::string> shape = {"--seq", "4096", "--head-dim", "64", "--mask"};
  const auto with = [&](const std::string& mask) {
    std::vector<std::string> arguments = shape;
    arguments.push_back(mask);
    return explain(arguments).at("forward");
  };
  const Json none = with("none"), causal = with("causal"), window = with("window:128,0");
  EXPECT_EQ(none.at("tiles_empty"), 0);
  EXPECT_GT(causal.at("tiles_empty"), 0);
  EXPECT_GT(window.at("tiles_empty"), causal.at("tiles_empty"));
  EXPECT_GT(none.at("words").at("total"), causal.at("words").at("total"));
  EXPECT_GT(causal.at("words").at("total"), window.at("words").at("total"));
  EXPECT_EQ(causal.at("standard_words"), none.at("standard_words"));
}

TEST(Explain, PassChoosesWhatJsonHas) {
  const Json forward = explain({"--seq", "8", "--head-dim", "4", "--pass", "forward"});
  EXPECT_TRUE(forward.contains("forward"));
  EXPECT_FALSE(forward.contains("backward"));
  const Json backward = explain({"--seq", "8", "--head-dim", "4", "--pass", "backward"});
  EXPECT_FALSE(backward.contains("forward"));
  EXPECT_TRUE(backward.contains("backward"));
}

TEST(Explain, TextHasTilesAPictureWordsAndMemory) {
  const Outcome outcome = run_tilewise(
      {"explain", "--seq", "2048", "--head-dim", "64", "--mask", "causal", "--dtype", "bf16"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out.find("sink"), std::string::npos);
  for (const char* text : {"mask causal", "\n          #/.", "words read", "FLOP", "workspace",
                           "packing", "empty (never visited)"})
    EXPECT_NE(outcome.out.find(text), std::string::npos) << text << " in\n" << outcome.out;
}

TEST(Explain, NamesTheSink) {
  const Outcome outcome = run_tilewise({"explain", "--seq", "64", "--head-dim", "64", "--sink"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("\nsink      one more score"), std::string::npos) << outcome.out;
}

TEST(Explain, InvalidProblemsAreRefused) {
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"explain", "--seq", "8"},
           {"explain", "--head-dim", "8"},
           {"explain", "--seq", "8", "--head-dim", "0"},
           {"explain", "--seq", "-1", "--head-dim", "8"},
           {"explain", "--seq", "8", "--head-dim", "8", "--heads", "3", "--kv-heads", "2"},
           {"explain", "--seq", "8", "--head-dim", "8", "--pass", "sideways"},
           {"explain", "--seq", "8", "--head-dim", "8", "--dropout", "often"},
           {"explain", "--seq", "99999999999999999999", "--head-dim", "8"},
           {"explain", "--seq", "8", "--head-dim", "8", "--mask", "window:1"}}) {
    const Outcome outcome = run_tilewise(arguments);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.out;
    EXPECT_EQ(outcome.err.rfind("tilewise explain: ", 0), 0u) << outcome.err;
  }
}

TEST(Explain, RaggedBatchIsTheSumOfItsSequences) {
  const auto with = [](const std::vector<std::string>& lengths) {
    std::vector<std::string> arguments = {"--head-dim", "64", "--heads", "2", "--mask", "causal"};
    arguments.insert(arguments.end(), lengths.begin(), lengths.end());
    return explain(arguments);
  };
  const Json ragged = with({"--lengths", "700,0,90"});
  const Json one = with({"--seq", "700"}), other = with({"--seq", "90"});
  EXPECT_EQ(ragged.at("starts"), Json({0, 700, 700, 790}));
  EXPECT_EQ(ragged.at("pairs"), one.at("pairs").get<int64_t>() + other.at("pairs").get<int64_t>());
  EXPECT_EQ(ragged.at("pairs_are_exact"), true);
  const auto& words = ragged.at("backward").at("words");
  EXPECT_EQ(words.at("total"), one.at("backward").at("words").at("total").get<int64_t>() +
                                   other.at("backward").at("words").at("total").get<int64_t>());
  EXPECT_EQ(ragged.at("backward").at("tiles_full"),
            one.at("backward").at("tiles_full").get<int64_t>() +
                other.at("backward").at("tiles_full").get<int64_t>());
  EXPECT_NE(ragged.at("text").get<std::string>().find("3 sequences in 790 queries"),
            std::string::npos);
  const Outcome drawn = run_tilewise(
      {"explain", "--lengths", "5", "--head-dim", "8", "--svg", "/nowhere/ragged.svg"});
  EXPECT_EQ(drawn.exit_code, 2);
  EXPECT_NE(drawn.err.find("--svg"), std::string::npos);
}

}  // namespace
}  // namespace tilewise::cli
