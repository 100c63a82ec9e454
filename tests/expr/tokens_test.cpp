// SPDX-License-Identifier: Apache-2.0
#include "expr/tokens.h"

#include <gtest/gtest.h>

#include <vector>

#include "support/error_of.h"
#include "tilewise/error.h"

namespace tilewise::expr {
namespace {

std::vector<std::string> scan(std::string_view text) {
  const Source source{"test", text};
  std::vector<std::string> result;
  for (Token token = next_token(source, 0); token.kind != TokenKind::kEnd;
       token = next_token(source, token.at + token.text.size())) {
    EXPECT_EQ(text.substr(token.at, token.text.size()), token.text);
    result.emplace_back(token.text);
  }
  return result;
}

std::string error_of(std::string_view text) {
  return test::error_of([text] { (void)scan(text); });
}

using Texts = std::vector<std::string>;

TEST(Tokens, LongestFirst) {
  EXPECT_EQ(scan("a<=b//2-c[1]"), (Texts{"a", "<=", "b", "//", "2", "-", "c", "[", "1", "]"}));
  EXPECT_EQ(scan("+ - * / // % < <= > >= == != & | ~ ( ) [ ] ,"),
            (Texts{"+",  "-",  "*", "/", "//", "%", "<", "<=", ">", ">=",
                   "==", "!=", "&", "|", "~",  "(", ")", "[",  "]", ","}));
  EXPECT_EQ(scan(" \t\r\n x \v\f"), (Texts{"x"}));
  EXPECT_EQ(scan(""), Texts{});
}

TEST(Tokens, Numbers) {
  EXPECT_EQ(scan("0 12 0.5 .5 5. 1e-3 1E+9 2e5 1.5e3"),
            (Texts{"0", "12", "0.5", ".5", "5.", "1e-3", "1E+9", "2e5", "1.5e3"}));
  const auto kind = [](std::string_view text) { return next_token({"test", text}, 0).kind; };
  EXPECT_EQ(kind("12"), TokenKind::kInteger);
  EXPECT_EQ(kind("0"), TokenKind::kInteger);
  EXPECT_EQ(kind("12."), TokenKind::kReal);
  EXPECT_EQ(kind("1e3"), TokenKind::kReal);
  EXPECT_EQ(kind("e3"), TokenKind::kName);
  for (const char* text : {"0x80", "1_000", "12abc", "1e", "007", "1.2.3", "1j"}) {
    EXPECT_EQ(error_of(text), std::string("test: text at line 1, column 1, is '") + text +
                                  "', expected a number; numbers are written 128, 0.5 or 1e-3\n  " +
                                  text + "\n  ^")
        << text;
  }
}

TEST(Tokens, OperatorsOfOtherLanguages) {
  const struct {
    const char* text;
    const char* got;
    const char* instead;
  } kCases[] = {{"a && b", "&&", "write 'and'"},
                {"a || b", "||", "write 'or'"},
                {"a ! b", "!", "write 'not'"},
                {"a = b", "=", "write =="},
                {"a ** b", "**", "write x * x"},
                {"a ^ b", "^", "write !=, or (a or b) and not (a and b)"},
                {"a << b", "<<", "write * and a power of 2"},
                {"a >> b", ">>", "write // and a power of 2"},
                {"a ? b", "?", "write a if condition else b"}};
  for (const auto& c : kCases) {
    EXPECT_EQ(error_of(c.text), std::string("test: text at line 1, column 3, is '") + c.got +
                                    "', expected an operator of the language; " + c.instead +
                                    "\n  " + c.text + "\n    ^");
  }
}

TEST(Tokens, BytesThatBelongToNoToken) {
  EXPECT_EQ(error_of("q $ k"),
            "test: text at line 1, column 3, is '$', expected a character of the language\n"
            "  q $ k\n"
            "    ^");
  EXPECT_EQ(error_of("q \xE2\x89\xA4 k"),  // UTF-8 of <=
            "test: text at line 1, column 3, is the byte 0xe2, expected a character of the "
            "language\n"
            "  q ??? k\n"
            "    ^");
  EXPECT_EQ(error_of(std::string_view("q\0k", 3)),
            "test: text at line 1, column 2, is the byte 0x00, expected a character of the "
            "language\n"
            "  q?k\n"
            "   ^");
}

TEST(Tokens, ErrorsPointIntoTheLine) {
  EXPECT_EQ(error_of("first\n\tsecond $\nthird"),
            "test: text at line 2, column 9, is '$', expected a character of the language\n"
            "   second $\n"
            "          ^");
  const std::string wide(100, 'a');
  EXPECT_EQ(error_of(wide + "$" + wide),
            "test: text at line 1, column 101, is '$', expected a character of the language\n  " +
                wide.substr(0, 60) + "$" + wide.substr(0, 29) + "\n  " + std::string(60, ' ') +
                "^");
}

TEST(Tokens, QuotedIsCut) {
  const std::string text(60, 'x');
  EXPECT_EQ(quoted({TokenKind::kName, text, 0}), "'" + std::string(40, 'x') + "...'");
  EXPECT_EQ(quoted({TokenKind::kEnd, "", 0}), "the end of the text");
}

TEST(Tokens, NamesOfSymbols) {
  for (const char* name : {"doc", "window_2", "_", "Q", "minimum", "e"}) EXPECT_TRUE(is_name(name));
  for (const char* name : {"", "2a", "a-b", "a b", "q", "s", "min", "where", "and", "lambda",
                           "None", "query_length", "inf", "\xC3\xA9"})
    EXPECT_FALSE(is_name(name)) << name;
}

}  // namespace
}  // namespace tilewise::expr
