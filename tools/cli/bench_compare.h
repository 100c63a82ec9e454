// SPDX-License-Identifier: Apache-2.0
// tilewise bench --compare: the cases of a results file, measured again.
#pragma once

#include <string>

namespace tilewise::cli {

// file: made by bench/run_cases.py on this kind of machine, else InvalidArgument. Prints the
// verdicts and returns how many cases are slower than recorded.
int compare_with_file(const std::string& file, int rounds, bool json);

}  // namespace tilewise::cli
