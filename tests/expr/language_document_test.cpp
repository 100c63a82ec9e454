// SPDX-License-Identifier: Apache-2.0
// The examples of docs/language.md: those of masks and scores are accepted, those of errors give
// exactly the words that stand there.
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "expr/parse.h"
#include "expr/tokens.h"
#include "tilewise/error.h"

namespace tilewise::expr {
namespace {

struct Block {
  std::string kind;  // what stands behind ```
  std::vector<std::string> lines;
};

std::vector<Block> blocks_of_document() {
  std::ifstream file(TILEWISE_SOURCE_DIR "/docs/language.md");
  std::vector<Block> blocks;
  bool is_inside = false;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("```")) {
      is_inside = !is_inside;
      if (is_inside) blocks.push_back({line.substr(3), {}});
    } else if (is_inside) {
      blocks.back().lines.push_back(line);
    }
  }
  return blocks;
}

void parse(const std::string& kind, const std::string& text) {
  if (kind == "mask")
    (void)parse_mask(text);
  else
    (void)parse_score(text);
}

TEST(LanguageDocument, ExamplesMeanSomething) {
  int examples = 0;
  for (const Block& block : blocks_of_document()) {
    if (block.kind == "error") continue;
    ASSERT_TRUE(block.kind == "mask" || block.kind == "score") << block.kind;
    for (const std::string& line : block.lines) {
      EXPECT_NO_THROW(parse(block.kind, line)) << line;
      ++examples;
    }
  }
  EXPECT_GT(examples, 10);
}

TEST(LanguageDocument, ErrorsAreWordForWord) {
  int examples = 0;
  for (const Block& block : blocks_of_document()) {
    if (block.kind != "error") continue;
    ASSERT_EQ(block.lines.size(), 4u);  // "mask TEXT" or "score TEXT", and the message
    const std::string& call = block.lines[0];
    const size_t space = call.find(' ');
    std::string message = "no error";
    try {
      parse(call.substr(0, space), call.substr(space + 1));
    } catch (const InvalidArgument& error) {
      message = error.what();
    }
    EXPECT_EQ(message, block.lines[1] + "\n" + block.lines[2] + "\n" + block.lines[3]);
    ++examples;
  }
  EXPECT_GT(examples, 3);
}

TEST(LanguageDocument, StatesTheBudgets) {
  std::ifstream file(TILEWISE_SOURCE_DIR "/docs/language.md");
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  const auto states = [&text](const std::string& what, int64_t most) {
    return text.find(what + " | " + std::to_string(most)) != std::string::npos;
  };
  EXPECT_TRUE(states("| text", kMaxTextBytes));
  EXPECT_TRUE(states("operators of one operand", kMaxDepth));
  EXPECT_TRUE(states("| different parts of an expression", Graph::kMaxNodes));
  EXPECT_TRUE(states("| names", Graph::kMaxSymbols));
  EXPECT_TRUE(states("| indices of a table", kMaxOperands));
}

}  // namespace
}  // namespace tilewise::expr
