// SPDX-License-Identifier: Apache-2.0
// The text of an expression cut into tokens, and errors that point into it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tilewise::expr {

enum class TokenKind {
  kEnd,
  kInteger,
  kReal,
  kName,
  kOperator,  // one of + - * / // % < <= > >= == != & | ~ ( ) [ ] ,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  std::string_view text;  // of the input
  size_t at = 0;          // where it begins, in bytes
  [[nodiscard]] bool is(std::string_view word) const noexcept {
    return (kind == TokenKind::kOperator || kind == TokenKind::kName) && text == word;
  }
};

// What is wrong at one place of a text. Throws InvalidArgument:
//   <operation>: text at line 1, column 6, is <got>, expected <expected>; <hint>
//     k <= )
//          ^
// Columns count bytes from 1; in the quoted line a byte that is not printable ASCII is shown as ?.
struct Source {
  const char* operation;
  std::string_view text;
  [[noreturn]] void reject(size_t at, const std::string& got, const std::string& expected,
                           const std::string& hint = "") const;
};

// The token that begins at the first byte from `at` on that is not white space. Line ends are white
// space, as inside Python's parentheses.
[[nodiscard]] Token next_token(const Source& source, size_t at);
// A token as errors name it: "'<='", "the end of the text".
[[nodiscard]] std::string quoted(const Token& token);

// Whether a symbol may have this name: letters, digits and _, no digit first, and not a word of the
// language or of Python.
[[nodiscard]] bool is_name(std::string_view text);

}  // namespace tilewise::expr
