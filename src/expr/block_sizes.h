// SPDX-License-Identifier: Apache-2.0
// The lengths of blocks that a mask is written in: 128 for `layout[h, q // 128, k // 128]`. Tiles
// of a mask that follow its blocks need no look at single pairs.
#pragma once

#include <cstdint>

#include "expr/ir.h"

namespace tilewise::expr {

// 0: none. Blocks begin at multiples of their length, in global positions.
struct BlockSizes {
  int64_t queries = 0;
  int64_t keys = 0;
};

// Along each axis the largest constant by which its position is divided. A hint: nothing is proved
// of what the mask does with the quotient.
[[nodiscard]] BlockSizes block_sizes(const Expression& mask);

}  // namespace tilewise::expr
