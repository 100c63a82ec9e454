// SPDX-License-Identifier: Apache-2.0
// The tiles of the forward as a picture, for tilewise explain --svg.
#pragma once

#include <string>

#include "tilewise/plan.h"

namespace tilewise::cli {

// A self-contained SVG: a panel for each of the first 4 distinct masks of heads, queries downwards,
// keys to the right. A cell is a tile of the forward; a pair up to 128 queries and keys, where
// tiles would show nothing; several tiles where there are more than 200 in a row or column. The
// same schedule gives the same text.
[[nodiscard]] std::string explain_svg(const Plan& plan, const Schedule& schedule);

}  // namespace tilewise::cli
