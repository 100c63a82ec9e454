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

NegligibleLayout add_negligible(LayoutBuilder& builder, const AttentionShape& shape, int64_t steps,
                                int workers) {
  NegligibleLayout layout;
  if (steps == 0) return layout;
  layout.norms = builder.add({2 * sizeof(double), shape.batch, shape.kv_heads});
  layout.ranges = builder.add({sizeof(TileRange), shape.batch, shape.query_heads,
                               ceil_divide(shape.query_length, kLeastTile)});
  layout.registers = builder.add({sizeof(expr::IntervalRegister), workers, steps});
  return layout;
}

}  // namespace

ForwardLayout forward_layout(const Kernel& kernel, const AttentionShape& shape,
                             const Geometry& geometry, const ProgramSizes& programs,
                             int64_t bound_steps, int workers) {
  ForwardLayout layout;
  LayoutBuilder builder;
  layout.counter = builder.add({kAlignment});
  layout.scratch_stride =
      round_up(kernel.forward_scratch_bytes(shape, geometry, programs), kAlignment);
  layout.scratch = builder.add({workers, layout.scratch_stride});
  layout.negligible = add_negligible(builder, shape, bound_steps, workers);
  layout.bytes = builder.total();
  return layout;
}

ForwardLayout decode_layout(const Kernel& kernel, const AttentionShape& shape,
                            const ProgramSizes& programs, int workers, int64_t real_bytes) {
  ForwardLayout layout;
  LayoutBuilder builder;
  layout.counter = builder.add({kAlignment});
  layout.scratch_stride = round_up(kernel.decode_scratch_bytes(shape, programs), kAlignment);
  layout.scratch = builder.add({workers, layout.scratch_stride});
  layout.decode_sums = builder.add(
      {real_bytes, shape.batch, shape.query_heads, shape.query_length, shape.value_dim + 3});
  layout.decode_turn = builder.add(
      {int64_t{sizeof(int32_t)}, shape.batch, shape.kv_heads, decode_row_tiles(kernel, shape)});
  layout.bytes = builder.total();
  return layout;
}

BackwardLayout backward_layout(const Kernel& kernel, const AttentionShape& shape,
                               const Geometry& geometry, const ProgramSizes& programs,
                               const TableSizes& tables, int64_t bound_steps, int workers,
                               int64_t slots, int64_t real_bytes) {
  const int64_t group = shape.query_heads / shape.kv_heads;
  const int64_t query_tiles = ceil_divide(shape.query_length, geometry.backward_query_tile);
  const int64_t key_tiles = ceil_divide(shape.kv_length, geometry.backward_key_tile);
  constexpr int64_t kInt = sizeof(int32_t);
  BackwardLayout layout;
  LayoutBuilder builder;
  layout.counter = builder.add({kAlignment});
  layout.lse = builder.add({real_bytes, shape.batch, shape.query_heads, shape.query_length});
  layout.delta = builder.add({real_bytes, shape.batch, shape.query_heads, shape.query_length});
  layout.grad_sink = builder.add({int64_t{sizeof(double)}, shape.batch, shape.query_heads,
                                  ceil_divide(shape.query_length, kRowsPerItem)});
  layout.accumulator = builder.add({real_bytes, slots, group, shape.query_length, shape.head_dim});
  layout.turn = builder.add({kInt, slots, group, query_tiles});
  layout.bias_turn = builder.add({kInt, key_tiles});
  layout.careful = builder.add({kInt, shape.batch, shape.kv_heads});
  const int64_t heads = shape.batch * shape.kv_heads, key_tile = geometry.backward_key_tile;
  const int64_t panels = key_tile / kernel.limits.unit.backward_key_tile;
  layout.table_sums = builder.add({real_bytes, max_table_sums(tables.elements, heads)});
  layout.table_turn = builder.add({kInt, tables.elements > 0 ? kMaxTableCopies : 0});
  layout.table_stride = round_up(panels * tables.elements + tables.lookups * key_tile, kAlignment);
  layout.table_parts = builder.add({real_bytes, workers, layout.table_stride});
  layout.table_elements = builder.add({kInt, workers, tables.lookups, key_tile});
  layout.negligible = add_negligible(builder, shape, bound_steps, workers);
  layout.scratch_stride =
      round_up(kernel.backward_scratch_bytes(shape, geometry, programs), kAlignment);
  layout.scratch = builder.add({workers, layout.scratch_stride});
  layout.bytes = builder.total();
  return layout;
}

}  // namespace tilewise
