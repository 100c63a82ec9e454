// SPDX-License-Identifier: Apache-2.0
// tilewise report: everything measured, as one file that the page is made of.
#pragma once

#include <CLI/CLI.hpp>

namespace tilewise::cli {

void register_report(CLI::App& app, int& exit_code);

}  // namespace tilewise::cli
