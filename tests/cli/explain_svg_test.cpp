// SPDX-License-Identifier: Apache-2.0
// tilewise explain --svg as a user runs it: the picture is well formed and shows what is visible.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "cli/program.h"
#include "io/temporary_directory.h"

namespace tilewise::cli {
namespace {

struct Picture {
  std::string text;
  nlohmann::json json;
};

Picture draw(std::vector<std::string> arguments) {
  const io::TemporaryDirectory directory;
  const std::string file = directory.file("picture.svg");
  arguments.insert(arguments.begin(), "explain");
  for (const char* extra : {"--json", "--svg", file.c_str()}) arguments.emplace_back(extra);
  const Outcome outcome = run_tilewise(arguments);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  return {io::read_bytes(file), nlohmann::json::parse(outcome.out)};
}

// Every element ends in the order in which it began, and text holds no bare < or &.
bool is_well_formed(const std::string& text) {
  std::vector<std::string> open;
  size_t at = 0;
  while (at < text.size()) {
    if (text[at] == '&') {
      static const std::regex kEntity("&(amp|lt|gt|quot);");
      if (!std::regex_search(text.begin() + at, text.end(), kEntity,
                             std::regex_constants::match_continuous))
        return false;
    }
    if (text[at] != '<') {
      ++at;
      continue;
    }
    static const std::regex kTag("<(/?)([a-z]+)(( [a-zA-Z-]+=\"[^\"<]*\")*)(/?)>");
    std::smatch tag;
    if (!std::regex_search(text.begin() + at, text.end(), tag, kTag,
                           std::regex_constants::match_continuous))
      return false;
    if (tag[1].length() > 0) {
      if (open.empty() || open.back() != tag[2]) return false;
      open.pop_back();
    } else if (tag[5].length() == 0) {
      open.push_back(tag[2]);
    }
    at += tag.length();
    if (open.empty()) return text.substr(at) == "\n";
  }
  return false;
}

using Cells = std::set<std::pair<int64_t, int64_t>>;  // row, column

// The cells of one kind in each panel.
std::vector<Cells> cells_of(const std::string& text, const std::string& kind) {
  std::vector<Cells> panels;
  const std::regex path_pattern("<path class=\"" + kind + "\" d=\"([^\"]*)\"/>");
  const std::regex run_pattern("M(\\d+) (\\d+)h(\\d+)v1H(\\d+)z");
  for (std::sregex_iterator path(text.begin(), text.end(), path_pattern), end; path != end;
       ++path) {
    const std::string data = (*path)[1];
    Cells cells;
    size_t read = 0;
    for (std::sregex_iterator run(data.begin(), data.end(), run_pattern); run != end; ++run) {
      const int64_t column = std::stoll((*run)[1]), row = std::stoll((*run)[2]);
      for (int64_t i = 0; i < std::stoll((*run)[3]); ++i) {
        EXPECT_TRUE(cells.emplace(row, column + i).second) << "drawn twice";
      }
      EXPECT_EQ((*run)[4], (*run)[1]);
      read += static_cast<size_t>(run->length());
    }
    EXPECT_EQ(read, data.size()) << "something else is drawn";
    panels.push_back(cells);
  }
  return panels;
}

TEST(ExplainSvg, ShortSequencesShowPairs) {
  const Picture picture =
      draw({"--seq", "20", "--kv-seq", "31", "--head-dim", "8", "--mask", "(q + k) % 3 < k // 9"});
  EXPECT_TRUE(is_well_formed(picture.text)) << picture.text;
  Cells expected;
  for (int64_t q = 0; q < 20; ++q) {
    for (int64_t k = 0; k < 31; ++k) {
      if ((q + k) % 3 < k / 9) expected.emplace(q, k);
    }
  }
  EXPECT_EQ(cells_of(picture.text, "full"), std::vector{expected});
  EXPECT_EQ(cells_of(picture.text, "partial"), std::vector{Cells{}});
  EXPECT_NE(picture.text.find("(q + k) % 3 &lt; k // 9"), std::string::npos);
}

TEST(ExplainSvg, CellsAreTheTilesOfTheForward) {
  for (const char* mask : {"none", "causal", "window:512,0", "(q + k) % 2 == 0 or k <= q"}) {
    const Picture picture = draw({"--seq", "4096", "--head-dim", "64", "--mask", mask});
    EXPECT_TRUE(is_well_formed(picture.text)) << mask;
    const auto full = cells_of(picture.text, "full"), partial = cells_of(picture.text, "partial");
    ASSERT_EQ(full.size(), 1U);
    ASSERT_EQ(partial.size(), 1U);
    EXPECT_EQ(full[0].size(), picture.json.at("tiles_full")) << mask;
    EXPECT_EQ(partial[0].size(), picture.json.at("tiles_partial")) << mask;
  }
}

TEST(ExplainSvg, LongSequencesHaveCoarserCells) {
  const Picture picture = draw({"--seq", "200000", "--head-dim", "64", "--mask", "causal"});
  EXPECT_TRUE(is_well_formed(picture.text));
  EXPECT_LT(picture.text.size(), 100000U);
  const Cells full = cells_of(picture.text, "full").at(0),
              partial = cells_of(picture.text, "partial").at(0);
  ASSERT_FALSE(full.empty());
  for (const Cells& cells : {full, partial}) {
    for (const auto& [row, column] : cells) {
      EXPECT_LT(row, 200);
      EXPECT_LT(column, 200);
    }
  }
  EXPECT_TRUE(full.contains({full.rbegin()->first, 0})) << "the last queries see the first keys";
  EXPECT_FALSE(full.contains({0, full.rbegin()->second})) << "the first do not see the last";
}

TEST(ExplainSvg, FewQueriesHaveARowEach) {
  const Picture picture =
      draw({"--seq", "3", "--kv-seq", "5000", "--head-dim", "64", "--mask", "causal"});
  EXPECT_TRUE(is_well_formed(picture.text));
  EXPECT_EQ(cells_of(picture.text, "full").at(0).rbegin()->first, 2);
}

TEST(ExplainSvg, EveryDistinctMaskHasAPanelUpToFour) {
  const std::vector<std::string> shape = {"--seq", "64",     "--head-dim",
                                          "8",     "--mask", "q - k < 8 * (h // 2 + 1)"};
  for (const auto& [heads, panels] : std::map<std::string, size_t>{{"2", 1}, {"6", 3}, {"20", 4}}) {
    std::vector<std::string> arguments = shape;
    arguments.insert(arguments.end(), {"--heads", heads});
    const Picture picture = draw(arguments);
    EXPECT_TRUE(is_well_formed(picture.text));
    const std::vector<Cells> full = cells_of(picture.text, "full");
    ASSERT_EQ(full.size(), panels) << heads;
    for (size_t i = 1; i < panels; ++i) EXPECT_GT(full[i].size(), full[i - 1].size());
    EXPECT_EQ(picture.text.find("4 more masks") != std::string::npos, heads == "20");
  }
}

TEST(ExplainSvg, NoKeysAreAnEmptyPicture) {
  const Picture picture = draw({"--seq", "40", "--kv-seq", "0", "--head-dim", "8"});
  EXPECT_TRUE(is_well_formed(picture.text));
  EXPECT_TRUE(cells_of(picture.text, "full").at(0).empty());
}

TEST(ExplainSvg, TheSameProblemHasTheSameBytes) {
  const std::vector<std::string> arguments = {"--seq", "3000",   "--head-dim",
                                              "64",    "--mask", "longformer:window=512,global=16"};
  EXPECT_EQ(draw(arguments).text, draw(arguments).text);
}

TEST(ExplainSvg, ThePicturesOfTheRulesAreUpToDate) {
  const std::string command =
      "python3 " TILEWISE_SOURCE_DIR "/tools/dev/draw_rules.py --check " TILEWISE_PROGRAM;
  EXPECT_EQ(std::system(command.c_str()), 0);
}

TEST(ExplainSvg, APlaceThatCannotBeWrittenIsAnError) {
  const io::TemporaryDirectory directory;
  const Outcome outcome = run_tilewise(
      {"explain", "--seq", "8", "--head-dim", "4", "--svg", directory.file("missing") + "/a.svg"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_NE(outcome.err.find("missing/a.svg"), std::string::npos) << outcome.err;
}

TEST(ExplainSvg, ARefusedProblemLeavesTheOldFile) {
  const io::TemporaryDirectory directory;
  const std::string file = directory.file("a.svg");
  io::write_bytes(file, "old");
  const Outcome outcome = run_tilewise(
      {"explain", "--seq", "8", "--head-dim", "4", "--mask", "doc[q] == doc[k]", "--svg", file});
  EXPECT_NE(outcome.exit_code, 0) << "doc has no data";
  EXPECT_EQ(io::read_bytes(file), "old");
  EXPECT_EQ(directory.names().size(), 1U);
}

}  // namespace
}  // namespace tilewise::cli
