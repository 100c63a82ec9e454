// SPDX-License-Identifier: Apache-2.0
#include "expr/tokens.h"

#include <algorithm>
#include <iterator>

#include "base/message.h"
#include "tilewise/error.h"

namespace tilewise::expr {
namespace {

// <cctype> depends on the locale.
bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool begins_name(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool continues_name(char c) { return begins_name(c) || is_digit(c); }
bool is_printable(char c) { return c >= ' ' && c <= '~'; }

char at_or_nul(std::string_view text, size_t i) { return i < text.size() ? text[i] : '\0'; }

size_t skip_digits(std::string_view text, size_t i) {
  while (is_digit(at_or_nul(text, i))) ++i;
  return i;
}

// 128  0.5  .5  5.  1e-3. Python's other forms (0x80, 1_000, 1j, 007) are no numbers here.
Token scan_number(const Source& source, size_t at) {
  const std::string_view text = source.text;
  size_t end = skip_digits(text, at);
  bool is_real = false;
  if (at_or_nul(text, end) == '.') {
    is_real = true;
    end = skip_digits(text, end + 1);
  }
  if (at_or_nul(text, end) == 'e' || at_or_nul(text, end) == 'E') {
    size_t digits = end + 1;
    if (at_or_nul(text, digits) == '+' || at_or_nul(text, digits) == '-') ++digits;
    if (is_digit(at_or_nul(text, digits))) {
      is_real = true;
      end = skip_digits(text, digits);
    }
  }
  const bool is_octal = !is_real && end - at > 1 && text[at] == '0';
  if (is_octal || continues_name(at_or_nul(text, end)) || at_or_nul(text, end) == '.') {
    while (continues_name(at_or_nul(text, end)) || at_or_nul(text, end) == '.') ++end;
    source.reject(at, quoted({TokenKind::kName, text.substr(at, end - at), at}), "a number",
                  "numbers are written 128, 0.5 or 1e-3");
  }
  return {is_real ? TokenKind::kReal : TokenKind::kInteger, text.substr(at, end - at), at};
}

// What other languages have, and what to write instead.
struct Foreign {
  std::string_view text;
  const char* instead;
};
constexpr Foreign kForeign[] = {
    {"&&", "write 'and'"},
    {"||", "write 'or'"},
    {"!", "write 'not'"},
    {"=", "write =="},
    {"**", "write x * x"},
    {"^", "write !=, or (a or b) and not (a and b)"},
    {"<<", "write * and a power of 2"},
    {">>", "write // and a power of 2"},
    {"?", "write a if condition else b"},
};

constexpr std::string_view kOperators[] = {"//", "<=", ">=", "==", "!=", "+", "-", "*", "/", "%",
                                           "<",  ">",  "&",  "|",  "~",  "(", ")", "[", "]", ","};

Token scan_operator(const Source& source, size_t at) {
  const std::string_view rest = source.text.substr(at);
  for (const Foreign& foreign : kForeign) {
    const bool is_prefix = rest.starts_with("==") || rest.starts_with("!=");
    if (!rest.starts_with(foreign.text) || (is_prefix && foreign.text.size() == 1)) continue;
    source.reject(at, quoted({TokenKind::kOperator, foreign.text, at}),
                  "an operator of the language", foreign.instead);
  }
  for (const std::string_view text : kOperators) {
    if (rest.starts_with(text)) return {TokenKind::kOperator, rest.substr(0, text.size()), at};
  }
  source.reject(at, quoted({TokenKind::kOperator, rest.substr(0, 1), at}),
                "a character of the language");
}

// The line around `at`, cut to what fits on a screen, with a caret under that byte.
std::string pointed_line(std::string_view text, size_t at, size_t line_begin) {
  constexpr size_t kBefore = 60, kAfter = 30;
  const size_t line_end = std::min(text.find('\n', at), text.size());
  const size_t begin = at - line_begin > kBefore ? at - kBefore : line_begin;
  std::string line(text.substr(begin, std::min(line_end, at + kAfter) - begin));
  for (char& c : line) {
    if (is_space(c)) c = ' ';
    if (!is_printable(c)) c = '?';
  }
  return line.insert(0, "\n  ").append("\n  ").append(at - begin, ' ').append("^");
}

// Python's keywords, and what has a meaning here.
constexpr std::string_view kWords[] = {
    "False",        "None",      "True",         "and",        "as",   "assert", "async",  "await",
    "break",        "class",     "continue",     "def",        "del",  "elif",   "else",   "except",
    "finally",      "for",       "from",         "global",     "if",   "import", "in",     "is",
    "lambda",       "nonlocal",  "not",          "or",         "pass", "raise",  "return", "try",
    "while",        "with",      "yield",        "b",          "h",    "q",      "k",      "s",
    "query_length", "kv_length", "query_offset", "key_offset", "min",  "max",    "abs",    "where",
    "float",        "int",       "exp",          "log",        "tanh", "sqrt",   "inf",    "nan"};

}  // namespace

void Source::reject(size_t at, const std::string& got, const std::string& expected,
                    const std::string& hint) const {
  const std::string_view before = text.substr(0, at);
  const size_t newline = before.rfind('\n');
  const size_t line_begin = newline == std::string_view::npos ? 0 : newline + 1;
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const std::string place = "text at line " + std::to_string(line) + ", column " +
                            std::to_string(at - line_begin + 1) + ",";
  throw InvalidArgument(message(operation, place, got, expected, hint) +
                        pointed_line(text, at, line_begin));
}

Token next_token(const Source& source, size_t at) {
  const std::string_view text = source.text;
  while (at < text.size() && is_space(text[at])) ++at;
  if (at == text.size()) return {TokenKind::kEnd, text.substr(at), at};
  if (begins_name(text[at])) {
    size_t end = at;
    while (continues_name(at_or_nul(text, end))) ++end;
    return {TokenKind::kName, text.substr(at, end - at), at};
  }
  if (is_digit(text[at]) || (text[at] == '.' && is_digit(at_or_nul(text, at + 1))))
    return scan_number(source, at);
  return scan_operator(source, at);
}

std::string quoted(const Token& token) {
  constexpr size_t kMost = 40;
  if (token.kind == TokenKind::kEnd) return "the end of the text";
  if (!std::all_of(token.text.begin(), token.text.end(), is_printable)) {
    constexpr const char* kDigits = "0123456789abcdef";
    const auto byte = static_cast<unsigned char>(token.text[0]);
    return std::string("the byte 0x") + kDigits[byte >> 4] + kDigits[byte & 15];
  }
  std::string text = "'";
  text.append(token.text.substr(0, kMost)).append(token.text.size() > kMost ? "...'" : "'");
  return text;
}

bool is_name(std::string_view text) {
  return !text.empty() && begins_name(text[0]) &&
         std::all_of(text.begin(), text.end(), continues_name) &&
         std::find(std::begin(kWords), std::end(kWords), text) == std::end(kWords);
}

}  // namespace tilewise::expr
