// SPDX-License-Identifier: Apache-2.0
// Algebra that keeps the value of every expression at every point: integers wrap, so x + 0 = x but
// nothing about x + 1 > x; of reals only what is exact for NaN and signed zeros as well.
//
// Normal form, so that equal meaning hashes alike where that is cheap: constants folded, and to the
// right of + and *; x - c as x + (-c); operands of commutative operators in an order that depends
// on their structure alone; integer < with a constant as <=.
#pragma once

#include <cstdint>
#include <vector>

#include "expr/ir.h"

namespace tilewise::expr {

// Adds nodes to a graph in normal form.
class Simplifier {
 public:
  // The graph must outlive it and is changed through it only.
  explicit Simplifier(Graph& graph) : graph_(graph) {}

  // A node whose value is that of this one. Its operands are nodes that add() returned.
  int32_t add(Node node);
  int32_t constant(bool value) { return keep(graph_.constant(value)); }
  int32_t constant(int64_t value) { return keep(graph_.constant(value)); }
  int32_t constant(double value) { return keep(graph_.constant(value)); }
  // not a, for a leaf: a comparison turns round, anything else gets a kNot.
  int32_t negate(int32_t a);

 private:
  int32_t keep(int32_t index);
  int32_t emit(Op op, Type type, int32_t a, int32_t b = -1, int32_t c = -1);
  [[nodiscard]] const Node& at(int32_t index) const { return graph_.node(index); }
  [[nodiscard]] bool is_int(int32_t index, int64_t value) const;
  [[nodiscard]] bool is_bool(int32_t index, bool value) const;
  [[nodiscard]] bool is_real(int32_t index, double value) const;
  [[nodiscard]] bool is_int_constant(int32_t index) const;
  [[nodiscard]] bool are_opposite(int32_t a, int32_t b) const;
  void sort_operands(Node& node) const;
  int32_t add_int(const Node& node);
  int32_t add_sum(int32_t a, int32_t b);
  int32_t add_difference(int32_t a, int32_t b);
  int32_t add_product(int32_t a, int32_t b);
  int32_t add_extremum(const Node& node);
  int32_t add_real(const Node& node);
  int32_t add_comparison(const Node& node);
  int32_t add_connective(const Node& node);
  int32_t add_where(const Node& node);

  Graph& graph_;
  std::vector<uint64_t> hash_;  // of every node's structure
};

}  // namespace tilewise::expr
