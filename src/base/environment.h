// SPDX-License-Identifier: Apache-2.0
// The one place that reads environment variables; docs/environment.md lists them.
#pragma once

#include <string>

namespace tilewise::environment {

[[nodiscard]] std::string isa();  // TILEWISE_ISA, "" if unset
[[nodiscard]] int
num_threads();  // TILEWISE_NUM_THREADS; 0 if unset; throws InvalidArgument unless 1..4096
[[nodiscard]] bool verbose();  // TILEWISE_VERBOSE=1: one line per plan on stderr

}  // namespace tilewise::environment
