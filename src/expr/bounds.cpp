// SPDX-License-Identifier: Apache-2.0
#include "expr/bounds.h"

#include <bit>
#include <limits>
#include <string>

#include "base/message.h"
#include "tilewise/error.h"

namespace tilewise::expr {
namespace {

std::string text_of(Interval interval) {
  if (interval == kAnyInteger) return "any integer (it may overflow)";
  if (interval.is_one()) return std::to_string(interval.lo);
  return std::to_string(interval.lo) + " to " + std::to_string(interval.hi);
}

void check_indices(const Graph& graph, const Node& node, const Values& values, const Bounds& bounds,
                   const char* operation) {
  const Values::Entry& entry = values.symbols[static_cast<size_t>(node.immediate)];
  for (int i = 0; i < node.count; ++i) {
    const int64_t extent = node.type == Type::kInt ? entry.table->shape[static_cast<size_t>(i)]
                                                   : entry.real_table.shape[4 - node.count + i];
    const bool is_known = extent > 0;  // real tables come later, with a run
    const Interval index = bounds.integer(node.operand[i]);
    if (index.lo >= 0 && (!is_known || index.hi < extent)) continue;
    throw InvalidArgument(
        message(operation, "index " + std::to_string(i) + " of table " + graph.symbol_of(node).name,
                text_of(index), is_known ? "0 to " + std::to_string(extent - 1) : "0 or more",
                "keep it inside with min and max, or bind a larger table"));
  }
}

}  // namespace

Bounds::Bounds(const Expression& expression, const Values& values, const Domain& domain)
    : program_(expression, values, IntervalProgram::Refine::kNo), registers_(program_.start()) {
  const auto set = [this](int32_t input, int64_t lo, int64_t hi) {
    for (int l = 0; l < kLanes; ++l) {
      registers_[static_cast<size_t>(input)].lo[l] = lo;
      registers_[static_cast<size_t>(input)].hi[l] = hi;
    }
  };
  set(IntervalProgram::kBatch, domain.batch.lo, domain.batch.hi);
  set(IntervalProgram::kHead, domain.head.lo, domain.head.hi);
  set(IntervalProgram::kQuery, domain.box.q0, domain.box.q1);
  set(IntervalProgram::kKey, domain.box.k0, domain.box.k1);
  program_.evaluate(registers_, program_.q_begin());
}

Interval Bounds::integer(int32_t node) const {
  const IntervalRegister& r = registers_[static_cast<size_t>(program_.register_of(node))];
  return {r.lo[0], r.hi[0]};
}

RealInterval Bounds::real(int32_t node) const {
  const IntervalRegister& r = registers_[static_cast<size_t>(program_.register_of(node))];
  return {std::bit_cast<double>(r.lo[0]), std::bit_cast<double>(r.hi[0])};
}

void check_bound(const Expression& expression, const Values& values, const Domain& domain,
                 const char* operation) {
  if (domain.box.is_empty()) return;
  const Graph& graph = *expression.graph;
  const Bounds bounds(expression, values, domain);
  for (int32_t i = 0; i <= expression.root; ++i) {
    if (!bounds.has(i)) continue;
    const Node& node = graph.node(i);
    if (node.op == Op::kLookup) check_indices(graph, node, values, bounds, operation);
    if (node.op != Op::kFloorDiv && node.op != Op::kMod) continue;
    const Interval divisor = bounds.integer(node.operand[1]);
    if (!divisor.contains(0)) continue;
    throw InvalidArgument(message(operation, node.op == Op::kMod ? "divisor of %" : "divisor of //",
                                  text_of(divisor), "no range that contains 0",
                                  "keep it away from 0 with max(1, ...)"));
  }
}

bool fits_32_bits(const Expression& expression, const Values& values, const Domain& domain) {
  if (domain.box.is_empty()) return true;
  const Bounds bounds(expression, values, domain);
  for (int32_t i = 0; i <= expression.root; ++i) {
    if (!bounds.has(i) || expression.graph->node(i).type != Type::kInt) continue;
    const Interval range = bounds.integer(i);
    if (range.lo < std::numeric_limits<int32_t>::min() ||
        range.hi > std::numeric_limits<int32_t>::max())
      return false;
  }
  return true;
}

}  // namespace tilewise::expr
