// SPDX-License-Identifier: Apache-2.0
// tilewise tune: measures which tiles suit this machine and writes them where plans find them.
#pragma once

#include <CLI/CLI.hpp>

namespace tilewise::cli {

void register_tune(CLI::App& app, int& exit_code);

}  // namespace tilewise::cli
