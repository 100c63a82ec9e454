// SPDX-License-Identifier: Apache-2.0
// Which kernel tables this build has and this CPU runs.
#pragma once

#include <string>
#include <vector>

#include "kernels/cpu/kernel_table.h"

namespace tilewise {

// Compiled and supported by this CPU, best first. Never empty: "scalar" runs anywhere.
[[nodiscard]] const std::vector<const KernelTable*>& supported_kernels();
// "": TILEWISE_ISA, else the best. Throws InvalidArgument for a name that is unknown, not compiled
// in or not supported by this CPU, and says which.
[[nodiscard]] const KernelTable& choose_kernels(const std::string& isa);

}  // namespace tilewise
