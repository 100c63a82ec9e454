// SPDX-License-Identifier: Apache-2.0
// Options that several subcommands share, spelled and explained once. The value given is the
// default; what the user wrote is in it after parsing. A bad value throws InvalidArgument or
// CLI::ParseError; main() turns both into exit code 2.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "tilewise/problem.h"
#include "tilewise/tensor.h"

namespace tilewise::cli {

void add_scale(CLI::App& app, std::optional<double>& scale);  // --scale
CLI::Option* add_dropout(CLI::App& app, double& dropout);     // --dropout
void add_dtype(CLI::App& app, DType& dtype);                  // --dtype
void add_dtype(CLI::App& app, std::optional<DType>& dtype,    // --dtype, with the meaning of no
               const std::string& default_text);              // value in words
void add_isa(CLI::App& app, std::string& isa);                // --isa
void add_threads(CLI::App& app, int& threads);                // --threads
void add_json(CLI::App& app, bool& json);                     // --json

}  // namespace tilewise::cli
