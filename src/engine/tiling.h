// SPDX-License-Identifier: Apache-2.0
// How much work one worker gets at a time. Pure functions; no result depends on them, only speed.
#pragma once

#include <cstdint>

#include "kernels/cpu/kernel_table.h"

namespace tilewise {

[[nodiscard]] constexpr int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }
[[nodiscard]] constexpr int64_t round_up(int64_t a, int64_t unit) {
  return ceil_divide(a, unit) * unit;
}

// The kernel's proposal, with a forward query_tile no longer than the queries and, for several
// workers, short enough that every one has about kItemsPerWorker items to even out the load.
constexpr int64_t kItemsPerWorker = 4;
[[nodiscard]] Geometry choose_geometry(const Kernel& kernel, const AttentionShape& shape,
                                       int workers);

// Up to so many queries the rows of a group are taken together and the keys in chunks (decode).
constexpr int64_t kDecodeQueries = 16;
// Not a tile size: results depend on it, so it is the same on every machine. Merging a chunk costs
// a thousandth of reading it.
constexpr int64_t kDecodeChunk = 1024;
[[nodiscard]] constexpr int64_t decode_row_tiles(const Kernel& kernel,
                                                 const AttentionShape& shape) {
  return ceil_divide(shape.query_heads / shape.kv_heads * shape.query_length, kernel.decode_unit);
}

// Waking another worker costs a few microseconds: it must find as much work.
constexpr int64_t kFlopsPerWorker = 200'000;
// A word from memory takes a core as long as so many FLOPs.
constexpr int64_t kFlopsPerWord = 32;
// At most one worker per item, at least one.
[[nodiscard]] int choose_workers(int64_t flops, int64_t items, int threads);

// How the backward is shared out. Heads here are (batch, kv head) pairs. Whole heads come first,
// each owned by one worker whose accumulator of dQ stays in its caches; what does not divide by
// the workers is shared tile by tile, each such head with an accumulator of its own.
struct BackwardShares {
  int64_t whole_heads = 0;   // claims [0, whole_heads): slot = worker
  int64_t shared_heads = 0;  // then shared_heads * key_tiles claims: slot = worker_slots + index
  int64_t worker_slots = 0;
  int64_t key_tiles = 0;
  [[nodiscard]] int64_t slots() const { return worker_slots + shared_heads; }
  [[nodiscard]] int64_t claims() const { return whole_heads + shared_heads * key_tiles; }
};
[[nodiscard]] BackwardShares share_backward(int64_t heads, int64_t key_tiles, int workers);
// The most slots of any share_backward() with at most so many heads and workers.
[[nodiscard]] int64_t max_slots(int64_t heads, int workers);

}  // namespace tilewise
