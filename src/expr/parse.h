// SPDX-License-Identifier: Apache-2.0
// Text to expression: Python's expression syntax and meaning (docs/language.md).
//
// What a name stands for: in a mask every table and named number is an integer. In a score it is
// real, unless it stands inside an index or int() (there it is real inside float()), or is declared
// an integer.
#pragma once

#include <string_view>
#include <vector>

#include "expr/ir.h"

namespace tilewise::expr {

// Budgets of a text, besides those of the graph. A level is a pair of parentheses or brackets, an
// argument, a branch of `if`, or an operator of one operand.
inline constexpr size_t kMaxTextBytes = size_t{1} << 16;
inline constexpr int kMaxDepth = 200;

// A bool. Total on any bytes: returns or throws InvalidArgument, which says where and what.
[[nodiscard]] Expression parse_mask(std::string_view text,
                                    const std::vector<Symbol>& declared = {});
// A real.
[[nodiscard]] Expression parse_score(std::string_view text,
                                     const std::vector<Symbol>& declared = {});

}  // namespace tilewise::expr
