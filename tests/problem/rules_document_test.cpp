// SPDX-License-Identifier: Apache-2.0
// docs/rules.md lists every rule as it is, with its picture, and counts right.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "problem/rules.h"

namespace tilewise {
namespace {

std::vector<std::string> lines_of_document() {
  std::ifstream file(TILEWISE_SOURCE_DIR "/docs/rules.md");
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

TEST(RulesDocument, ListsEveryRuleWithItsFormulaAndMeaning) {
  const std::vector<std::string> lines = lines_of_document();
  ASSERT_FALSE(lines.empty());
  const auto count = [&lines](const std::string& text, bool at_start) {
    int found = 0;
    for (const std::string& line : lines) {
      const size_t at = line.find(text);
      found += at_start ? at == 0 : at != std::string::npos;
    }
    return found;
  };
  for (const Rule& rule : rules()) {
    EXPECT_EQ(count("| `" + usage_of(rule) + "` | `" + rule.formula + "` |", false), 1)
        << rule.name;
    EXPECT_EQ(count(std::string("| `") + rule.name + "` | " + (rule.is_score ? "score" : "mask") +
                        " | " + rule.meaning + " |",
                    true),
              1)
        << rule.name;
  }
}

TEST(RulesDocument, EveryRuleHasItsPictureAndEveryPictureItsRule) {
  std::set<std::string> expected, linked, drawn;
  for (const Rule& rule : rules()) expected.insert(std::string(rule.name) + ".svg");
  for (const auto& entry : std::filesystem::directory_iterator(TILEWISE_SOURCE_DIR "/docs/rules")) {
    drawn.insert(entry.path().filename().string());
  }
  const std::string link = "](rules/";
  for (const std::string& line : lines_of_document()) {
    for (size_t at = line.find(link); at != std::string::npos; at = line.find(link, at + 1)) {
      const size_t first = at + link.size();
      linked.insert(line.substr(first, line.find(')', first) - first));
    }
  }
  EXPECT_EQ(drawn, expected);
  EXPECT_EQ(linked, expected);
}

TEST(RulesDocument, CountsItsVariants) {
  int yes = 0, no = 0, next = 1;
  for (const std::string& line : lines_of_document()) {
    if (!line.starts_with("| " + std::to_string(next) + " |")) continue;
    ++next;
    yes += line.find(" | yes | ") != std::string::npos;
    no += line.find(" | no | ") != std::string::npos;
  }
  EXPECT_EQ(yes + no, 40);
  bool is_stated = false;
  for (const std::string& line : lines_of_document())
    is_stated = is_stated || line.starts_with("Of the forty, " + std::to_string(yes) + " can");
  EXPECT_TRUE(is_stated) << yes;
}

}  // namespace
}  // namespace tilewise
