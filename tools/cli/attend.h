// SPDX-License-Identifier: Apache-2.0
// tilewise attend: attention on the tensors of a file.
#pragma once

#include <CLI/CLI.hpp>

namespace tilewise::cli {

void register_attend(CLI::App& app, int& exit_code);

}  // namespace tilewise::cli
