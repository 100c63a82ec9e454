// SPDX-License-Identifier: Apache-2.0
// tilewise verify: random problems against the float64 reference.
#pragma once

#include <CLI/CLI.hpp>

namespace tilewise::cli {

void register_verify(CLI::App& app, int& exit_code);

}  // namespace tilewise::cli
