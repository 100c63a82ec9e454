// SPDX-License-Identifier: Apache-2.0
// tilewise doctor: what this machine is, what of it is used, and how fast it is.
#pragma once

#include <CLI/CLI.hpp>

namespace tilewise::cli {

void register_doctor(CLI::App& app, int& exit_code);

}  // namespace tilewise::cli
