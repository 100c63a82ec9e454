// SPDX-License-Identifier: Apache-2.0
// The one place that reads environment variables; docs/environment.md lists them.
#pragma once

#include <string>

namespace tilewise::environment {

[[nodiscard]] std::string isa();  // TILEWISE_ISA, "" if unset
// TILEWISE_NUM_THREADS; 0 if unset. Throws InvalidArgument unless it is 1 to 4096.
[[nodiscard]] int num_threads();
[[nodiscard]] bool verbose();  // TILEWISE_VERBOSE=1: one line per plan on stderr

}  // namespace tilewise::environment
