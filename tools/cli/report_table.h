// SPDX-License-Identifier: Apache-2.0
// What a report says in one screen.
#pragma once

#include "cli/output.h"

namespace tilewise::cli {

// Every error of the input section is within its bound.
[[nodiscard]] bool is_within_bound(const Json& report);
void print_report_table(const Json& report);

}  // namespace tilewise::cli
