// SPDX-License-Identifier: Apache-2.0
// What goes to stdout and stderr.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace tilewise::cli {

using Json = nlohmann::ordered_json;

// Prints {"schema": 1, "command": command, ...object} as indented JSON. Numbers that JSON does not
// have (NaN, infinity) become null.
void print_json(const std::string& command, const Json& object);

// One line on stderr, "tilewise <command>: <text>"; with json also an object with "error" on
// stdout. kind: "invalid_argument", "device", "internal".
void print_error(const std::string& command, const std::string& kind, const std::string& text,
                 bool json);

// Control characters (from file names and files) and line ends become spaces.
[[nodiscard]] std::string one_line(const std::string& text);

// "12.3 ms", "4.56 s"; "512 B", "2.1 MB".
[[nodiscard]] std::string duration_text(double seconds);
[[nodiscard]] std::string bytes_text(double bytes);

}  // namespace tilewise::cli
