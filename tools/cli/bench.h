// SPDX-License-Identifier: Apache-2.0
// tilewise bench: time, memory and error of one problem.
#pragma once

#include <CLI/CLI.hpp>

namespace tilewise::cli {

void register_bench(CLI::App& app, int& exit_code);

}  // namespace tilewise::cli
