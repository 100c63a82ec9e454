// SPDX-License-Identifier: Apache-2.0
// The one place that reads environment variables; docs/environment.md lists them.
#pragma once

#include <string>

namespace tilewise::environment {

[[nodiscard]] std::string isa();  // TILEWISE_ISA, "" if unset
// TILEWISE_NUM_THREADS; 0 if unset. Throws InvalidArgument unless it is 1 to 4096.
[[nodiscard]] int num_threads();
[[nodiscard]] std::string tuning();  // TILEWISE_TUNING: a file, "none", or "" if unset
[[nodiscard]] bool verbose();        // TILEWISE_VERBOSE=1: one line per plan on stderr

// Where the user keeps settings: XDG_CONFIG_HOME, else $HOME/.config; "" if neither is an absolute
// path.
[[nodiscard]] std::string config_folder();

}  // namespace tilewise::environment
