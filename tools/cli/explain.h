// SPDX-License-Identifier: Apache-2.0
// tilewise explain: tiles, words, memory of one problem, and why. Nothing is computed.
#pragma once

#include <CLI/CLI.hpp>

namespace tilewise::cli {

void register_explain(CLI::App& app, int& exit_code);

}  // namespace tilewise::cli
