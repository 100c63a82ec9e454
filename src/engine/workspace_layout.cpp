// SPDX-License-Identifier: Apache-2.0
#include "engine/workspace_layout.h"

#include <initializer_list>

#include "base/checked.h"
#include "engine/tiling.h"
#include "expr/interval_program.h"
#include "problem/reject.h"

namespace tilewise {
namespace {

constexpr int64_t kAlignment = 64;  // a cache line: parts of different workers share none
constexpr int64_t kMaxBytes = int64_t{1} << 62;

class LayoutBuilder {
 public:
  // A part of the product of the factors, in bytes.
  WorkspacePart add(std::initializer_list<int64_t> factors) {
    int64_t bytes = 1;
    for (const int64_t factor : factors) {
      if (!checked_multiply(bytes, factor, bytes)) fail();
    }
    if (bytes > kMaxBytes - total_ - kAlignment) fail();
    const WorkspacePart part = {total_, bytes};
    total_ += round_up(bytes, kAlignment);
    return part;
  }
  [[nodiscard]] int64_t total() const { return total_; }

 private:
  [[noreturn]] static void fail() {
    reject("make_plan", "the workspace", "2^62 bytes or more", "less",
           "lower max_batch or the largest lengths");
  }
  int64_t total_ = 0;
};

NegligibleLayout add_negligible(LayoutBuilder& builder, const AttentionShape& shape, int64_t batch,
                                int64_t tile_rows, int64_t steps, int workers) {
  NegligibleLayout layout;
  if (steps == 0) return layout;
  layout.is_searched = builder.add({sizeof(int32_t), batch});
  layout.norms = builder.add({2 * sizeof(double), batch, shape.kv_heads});
  layout.ranges = builder.add({sizeof(TileRange), shape.query_heads, tile_rows});
  layout.registers = builder.add({sizeof(expr::IntervalRegister), workers, steps});
  layout.register_stride = steps;
  return layout;
}

}  // namespace

ForwardLayout forward_layout(const AttentionShape& shape, const ForwardExtents& extents,
                             int64_t bound_steps, int workers, int64_t real_bytes) {
  ForwardLayout layout;
  LayoutBuilder builder;
  layout.counter = builder.add({kAlignment});
  layout.scratch_stride = round_up(extents.scratch_bytes, kAlignment);
  layout.scratch = builder.add({workers, layout.scratch_stride});
  layout.decode_sums =
      builder.add({real_bytes, shape.query_heads, extents.decode_queries, shape.value_dim + 3});
  layout.decode_turn = builder.add({sizeof(int32_t), shape.kv_heads, extents.decode_tiles});
  layout.negligible =
      add_negligible(builder, shape, extents.batch, extents.tile_rows, bound_steps, workers);
  layout.bytes = builder.total();
  return layout;
}

BackwardLayout backward_layout(const Kernel& kernel, const AttentionShape& shape,
                               const BackwardExtents& extents, const TableSizes& tables,
                               int64_t bound_steps, int workers, int64_t real_bytes) {
  const int64_t group = shape.query_heads / shape.kv_heads;
  constexpr int64_t kInt = sizeof(int32_t);
  BackwardLayout layout;
  LayoutBuilder builder;
  layout.counter = builder.add({kAlignment});
  layout.lse = builder.add({real_bytes, shape.query_heads, extents.queries});
  layout.delta = builder.add({real_bytes, shape.query_heads, extents.queries});
  layout.grad_sink = builder.add(
      {int64_t{sizeof(double)}, shape.query_heads, extents.queries / kRowsPerItem + extents.batch});
  layout.accumulator = builder.add({real_bytes, group, extents.slot_queries, shape.head_dim});
  layout.turn = builder.add({kInt, group, extents.slot_tiles});
  layout.bias_turn = builder.add({kInt, extents.key_tiles});
  layout.careful = builder.add({kInt, extents.batch, shape.kv_heads});
  const int64_t heads = extents.batch * shape.kv_heads, key_tile = extents.key_tile;
  const int64_t panels = key_tile / kernel.limits.unit.backward_key_tile;
  layout.table_sums = builder.add({real_bytes, max_table_sums(tables.elements, heads)});
  layout.table_turn = builder.add({kInt, tables.elements > 0 ? kMaxTableCopies : 0});
  layout.table_stride = round_up(panels * tables.elements + tables.lookups * key_tile, kAlignment);
  layout.table_parts = builder.add({real_bytes, workers, layout.table_stride});
  layout.table_elements = builder.add({kInt, workers, tables.lookups, key_tile});
  layout.negligible =
      add_negligible(builder, shape, extents.batch, extents.tile_rows, bound_steps, workers);
  layout.scratch_stride = round_up(extents.scratch_bytes, kAlignment);
  layout.scratch = builder.add({workers, layout.scratch_stride});
  layout.bytes = builder.total();
  return layout;
}

}  // namespace tilewise
