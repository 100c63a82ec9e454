// SPDX-License-Identifier: Apache-2.0
#include "cli/output.h"

#include <fmt/format.h>

#include <cstdio>

namespace tilewise::cli {

void print_json(const std::string& command, const Json& object) {
  Json result = {{"schema", 1}, {"command", command}};
  result.update(object);
  // replace: a file name need not be UTF-8.
  fmt::print("{}\n", result.dump(2, ' ', false, Json::error_handler_t::replace));
}

void print_error(const std::string& command, const std::string& kind, const std::string& text,
                 bool json) {
  const std::string line = one_line(text);
  fmt::print(stderr, "tilewise{}{}: {}\n", command.empty() ? "" : " ", command, line);
  if (json) print_json(command, {{"error", {{"kind", kind}, {"message", line}}}});
}

std::string one_line(const std::string& text) {
  std::string result = text;
  for (char& c : result) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  while (!result.empty() && result.back() == ' ') result.pop_back();
  return result;
}

std::string duration_text(double seconds) {
  if (seconds >= 1) return fmt::format("{:.2f} s", seconds);
  if (seconds >= 1e-3) return fmt::format("{:.1f} ms", seconds * 1e3);
  return fmt::format("{:.0f} us", seconds * 1e6);
}

std::string bytes_text(double bytes) {
  constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  int unit = 0;
  while (bytes >= 1000 && unit < 4) {
    bytes /= 1000;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, kUnits[unit]);
}

}  // namespace tilewise::cli
