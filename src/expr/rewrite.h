// SPDX-License-Identifier: Apache-2.0
// Makes one expression from another, node by node, in the normal form of simplify.h. Linear in the
// size of the graph: every node is rewritten once, and once more where its negation is needed, for
// `not` is moved inwards to the leaves.
#pragma once

#include <cstdint>

#include "expr/simplify.h"

namespace tilewise::expr {

// What a rewrite knows of the source's nodes beyond algebra.
class Replacement {
 public:
  virtual ~Replacement() = default;
  // A node, made by the simplifier, that the node of the source is equal to; -1: none.
  virtual int32_t replace(int32_t index, const Node& node, Simplifier& simplifier) const = 0;
  // The operand (a node of the source, of the same type) that it is equal to; -1: none.
  [[nodiscard]] virtual int32_t alias(int32_t /*index*/, const Node& /*node*/) const { return -1; }
};

// A new graph with the symbols of the source, in their order, so that the same Values fit.
[[nodiscard]] Expression rewrite(const Expression& source, const Replacement& replacement);
[[nodiscard]] Expression simplify(const Expression& source);

}  // namespace tilewise::expr
