// SPDX-License-Identifier: Apache-2.0
// The value of an expression at one point: the oracle that every other evaluator is judged by.
#pragma once

#include <vector>

#include "expr/values.h"

namespace tilewise::expr {

// Reuse one object for many points: it keeps the memory.
class ScalarEvaluator {
 public:
  // Both must outlive it.
  ScalarEvaluator(const Expression& expression, const Values& values);

  [[nodiscard]] bool boolean(const Point& point);
  [[nodiscard]] int64_t integer(const Point& point);
  [[nodiscard]] double real(const Point& point);

 private:
  union Value {
    int64_t integer;
    double real;
  };
  const Value& evaluate(const Point& point);
  [[nodiscard]] Value look_up(const Node& node) const;

  const Expression& expression_;
  const Values& values_;
  std::vector<int32_t> order_;  // the nodes that the root depends on
  std::vector<Value> value_;    // of every node
};

}  // namespace tilewise::expr
