// SPDX-License-Identifier: Apache-2.0
#include "expr/block_sizes.h"

#include <algorithm>

namespace tilewise::expr {

BlockSizes block_sizes(const Expression& mask) {
  const Graph& graph = *mask.graph;
  const std::vector<bool> reached = reachable(graph, mask.root);
  BlockSizes sizes;
  for (int32_t i = 0; i <= mask.root; ++i) {
    const Node& node = graph.node(i);
    if (!reached[static_cast<size_t>(i)] || node.op != Op::kFloorDiv) continue;
    const Node &position = graph.node(node.operand[0]), &divisor = graph.node(node.operand[1]);
    if (!divisor.is_const()) continue;
    if (position.is(Variable::kQuery)) sizes.queries = std::max(sizes.queries, divisor.immediate);
    if (position.is(Variable::kKey)) sizes.keys = std::max(sizes.keys, divisor.immediate);
  }
  return sizes;
}

}  // namespace tilewise::expr
