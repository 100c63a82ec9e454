// SPDX-License-Identifier: Apache-2.0
// The named masks and scores: formulas in the language with parameters, which become literals.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "expr/ir.h"

namespace tilewise {

enum class ParameterKind {
  kCount,     // an integer, 0 or more
  kSize,      // an integer, 1 or more
  kPositive,  // a real number above 0
};

struct RuleParameter {
  const char* name;
  ParameterKind kind;
  const char* preset = nullptr;  // null: must be given
};

struct Rule {
  const char* name;
  bool is_score;
  std::vector<RuleParameter> parameters;
  const char* formula;
  const char* meaning;  // one line
};

// In the order of docs/rules.md.
[[nodiscard]] std::span<const Rule> rules();
// Null if there is none.
[[nodiscard]] const Rule* find_rule(std::string_view name, bool is_score);

// How a call of the rule is written: "window:left,right", "longformer:window=512,global=16".
[[nodiscard]] std::string usage_of(const Rule& rule);

// The expression for one argument per parameter, each a number as text. Throws InvalidArgument, in
// the name of the rule, if one is out of range.
[[nodiscard]] std::shared_ptr<const expr::Expression> make_rule(
    const Rule& rule, const std::vector<std::string>& arguments);

}  // namespace tilewise
