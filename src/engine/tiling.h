// SPDX-License-Identifier: Apache-2.0
// Which tiles a plan uses and how much work one worker gets at a time. Pure functions; no result
// depends on them, only speed (docs/adr/0010), but for the two constants of decode.
#pragma once

#include <cstdint>
#include <vector>

#include "expr/block_sizes.h"
#include "kernels/cpu/kernel_table.h"
#include "schedule/machine.h"

namespace tilewise {

[[nodiscard]] constexpr int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }
[[nodiscard]] constexpr int64_t round_up(int64_t a, int64_t unit) {
  return ceil_divide(a, unit) * unit;
}

// Tiles of queries, and of keys in the forward, take an eighth of the second level of a core each,
// of queries rounded up to units; the backward's tile of keys with its gradients takes half.
constexpr int64_t kL2Share = 8;
constexpr int64_t kMaxQueries = 512;  // beyond, longer tiles of queries gained nothing,
constexpr int64_t kMaxKeys = 192;     // nor did longer tiles of keys in the backward

// Up to so many queries the rows of a group are taken together and the keys in chunks (decode).
constexpr int64_t kDecodeQueries = 16;
// Not a tile size: results depend on it, so it is the same on every machine. Merging a chunk costs
// a thousandth of reading it.
constexpr int64_t kDecodeChunk = 1024;
[[nodiscard]] constexpr int64_t decode_row_tiles(const Kernel& kernel,
                                                 const AttentionShape& shape) {
  return ceil_divide(shape.query_heads / shape.kv_heads * shape.query_length,
                     kernel.limits.unit.query_tile);
}

// The tiles of a problem's plan, chosen from what the kernel keeps and what the machine has:
//   query_tile: K and V come from behind L2 once per tile of queries, so as many queries as L2
//     holds beside the keys.
//   key_tile: a block of queries reads K and V from L2. P is read again for each register block of
//     O, at most 16 bytes a cycle, so it may lie in L2 too.
//   backward_key_tile: dQ, Q and dO come from behind L2 once per tile of keys.
//   backward_query_tile: two products read P and dS of a panel, which therefore stay in L1.
[[nodiscard]] Geometry model_geometry(const Kernel& kernel, int64_t head_dim, int64_t value_dim,
                                      const Machine& machine);

// A plan's tiles with a forward query_tile that divides the queries of a step evenly and, for
// several workers, gives every one about kItemsPerWorker items to even out the load.
constexpr int64_t kItemsPerWorker = 4;
[[nodiscard]] Geometry choose_geometry(const Geometry& tiles, const Kernel& kernel,
                                       const AttentionShape& shape, int workers);
// The longest tiles that choose_geometry() makes of these up to a length.
[[nodiscard]] Geometry longest_geometry(const Geometry& tiles, const Kernel& kernel,
                                        int64_t query_length);

// A plan's tiles made to follow the blocks of a mask: multiples of short blocks, equal parts of
// long ones. An axis without blocks, or whose blocks no tile of the kernel can follow, keeps its
// tile; none gets longer.
constexpr int64_t kMinBlockTile = 64;  // shorter tiles lose more to their fixed costs
constexpr int64_t kLeastTile = 8;      // no tile of queries is shorter
[[nodiscard]] Geometry follow_blocks(const Geometry& tiles, const Kernel& kernel,
                                     const expr::BlockSizes& blocks);
// No follow_blocks() makes a tile of this length shorter.
[[nodiscard]] int64_t shortest_block_tile(int64_t tile);

// Waking a thread costs the caller 2 us, and it starts 5 to 10 us later (measured): it must find
// about as much work, which is 7 us with AVX-512.
constexpr int64_t kFlopsPerWorker = 1'000'000;
// A word from memory takes a core as long as so many FLOPs.
constexpr int64_t kFlopsPerWord = 32;
// At most one worker per item, at least one.
[[nodiscard]] int choose_workers(int64_t flops, int64_t items, int threads);

// How the heads of a part of a step are shared out in the backward. Heads here are (batch, kv head)
// pairs. Whole heads come first, each owned by one worker whose accumulator of dQ stays in its
// caches; what would keep one worker busy when the others are done is shared tile by tile, each
// such head with an accumulator of its own.
struct BackwardShares {
  int64_t whole_heads = 0;   // claims [0, whole_heads)
  int64_t shared_heads = 0;  // then shared_heads * key_tiles claims
  int64_t key_tiles = 0;
  [[nodiscard]] int64_t heads() const { return whole_heads + shared_heads; }
  [[nodiscard]] int64_t claims() const { return whole_heads + shared_heads * key_tiles; }
};
// Shares out the heads of one part after another, in the order of claims. A head is whole if the
// worker that has least to do can take it without doing more than its share of all work.
class HeadBalance {
 public:
  // work: of all heads of all parts
  HeadBalance(double work, int workers);
  // work: of each of these heads
  [[nodiscard]] BackwardShares share(int64_t heads, int64_t key_tiles, double work);

 private:
  [[nodiscard]] bool fits(double load, double work) const;
  double total_;
  std::vector<double> loads_;  // of workers; a heap, the least first
  int64_t may_share_;          // heads
};
// Copies of the sums of the tables' gradients, one for each head that may be at work at a time;
// bits depend on it. No more than kTableSums numbers for tables of which kMinTableCopies take less.
constexpr int64_t kTableSums = int64_t{1} << 20;
constexpr int64_t kMinTableCopies = 4, kMaxTableCopies = 64;
[[nodiscard]] int64_t table_copies(int64_t elements, int64_t heads);
// At least table_copies(n, heads) * n for every n up to `elements`.
[[nodiscard]] int64_t max_table_sums(int64_t elements, int64_t heads);

// The most accumulators of dQ that so many heads and workers can need: one for each shared head,
// and for whole heads one for each worker or each head.
[[nodiscard]] int64_t max_slots(int64_t heads, int workers);

}  // namespace tilewise
