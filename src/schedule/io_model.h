// SPDX-License-Identifier: Apache-2.0
// Words moved between slow and fast memory, exactly, by formula ([Dao22] section 3.2 and appendix
// B; docs/io_model.md has the tables). A word is one element, whatever its type.
//
// N, M, d, e = query_length, kv_length, head_dim, value_dim; the formulas in comments are per batch
// entry and query head, for N = M, d = e and no mask, where they are the paper's. T_r and T_c are
// the numbers of query and key tiles. A result that exceeds int64 is INT64_MAX.
#pragma once

#include <cstdint>
#include <vector>

#include "base/tile.h"
#include "schedule/tile_counts.h"

namespace tilewise::io_model {

struct Sizes {
  int64_t batch = 1;
  int64_t query_heads = 1;
  int64_t kv_heads = 1;
  int64_t query_length = 0;
  int64_t kv_length = 0;
  int64_t head_dim = 0;
  int64_t value_dim = 0;
};

struct Words {
  int64_t read = 0;
  int64_t written = 0;
  [[nodiscard]] int64_t total() const noexcept;
  friend bool operator==(const Words&, const Words&) = default;
};
[[nodiscard]] Words operator+(const Words& a, const Words& b) noexcept;

// Standard attention, S and P in slow memory. [Dao22] Algorithm 0: 4N^2 + 4Nd. Each separate
// elementwise pass over S or P (scale, mask, dropout) adds 2N^2. Masks save nothing.
[[nodiscard]] Words standard_forward(const Sizes& sizes, int64_t separate_passes = 0) noexcept;
// [Dao22] Algorithm 3, P kept from the forward: 7N^2 + 8Nd. Heads that share a key head add up dK
// and dV in slow memory.
[[nodiscard]] Words standard_backward(const Sizes& sizes, int64_t separate_passes = 0) noexcept;
// Megatron's form: scale, mask and softmax in one pass, so no separate one.
[[nodiscard]] inline Words megatron_forward(const Sizes& s) noexcept { return standard_forward(s); }
[[nodiscard]] inline Words megatron_backward(const Sizes& s) noexcept {
  return standard_backward(s);
}

// Our order, query tiles outside: Q read and O, LSE written once, K and V read per visited tile:
// 2Nd + 2Nd T_r + N. by_query: rows are query tiles.
[[nodiscard]] Words tiled_forward(const Sizes& sizes, const TileCounts& by_query) noexcept;
// Few queries against `keys` visible keys in chunks (kernels/launch.h): K and V read once for every
// tile of the rows that share them, Q once a chunk; each chunk but the first reads and each but the
// last writes O, m, l and the sum of rounded P: (d + e) keys, where Nd and Ne are small.
[[nodiscard]] Words decode_forward(const Sizes& sizes, int64_t keys, int64_t chunks,
                                   int64_t row_tiles) noexcept;
// Before the backward: O, dO and LSE read, Delta and LSE in base 2 written: 2Nd + 3N.
[[nodiscard]] Words tiled_backward_prepare(const Sizes& sizes) noexcept;
// Our order, key tiles outside: K, V read and dK, dV written once per key head; per visited tile Q,
// dO, LSE, Delta read and dQ read and written: 4Nd + T_c (4Nd + 2N). by_key: rows are key tiles.
[[nodiscard]] Words tiled_backward(const Sizes& sizes, const TileCounts& by_key) noexcept;

// The paper's order, one query head at a time. Algorithm 1: 2Nd + T_c (3Nd + 4N) and Nd + 2N to
// initialise O, l, m.
[[nodiscard]] Words algorithm1_forward(const Sizes& sizes, const TileCounts& by_key) noexcept;
// Algorithm 4: 4Nd + T_c (5Nd + 2N) and Nd to initialise dQ.
[[nodiscard]] Words algorithm4_backward(const Sizes& sizes, const TileCounts& by_key) noexcept;

// How often a kernel copies an operand into its own layout each time it reads it. The copies stay
// in fast memory, so they are a line of their own, in words copied.
struct PackedCopies {
  int64_t query = 0;
  int64_t key = 0;
  int64_t value = 0;
  int64_t grad_output = 0;
};
[[nodiscard]] int64_t packed_forward(const Sizes& sizes, const TileCounts& by_query,
                                     const PackedCopies& copies) noexcept;
[[nodiscard]] int64_t packed_backward(const Sizes& sizes, const TileCounts& by_key,
                                      const PackedCopies& copies) noexcept;

// pairs: visible, of all heads. 2 pairs (d + e), the two products of the forward; and 2.5 times
// that, the five products of the backward (exact for d = e, the convention otherwise).
[[nodiscard]] int64_t forward_flops(const Sizes& sizes, int64_t pairs) noexcept;
[[nodiscard]] int64_t backward_flops(const Sizes& sizes, int64_t pairs) noexcept;

// B_c = ceil(memory / 4d), B_r = min(B_c, d): [Dao22] Algorithm 1, line 1.
struct Blocks {
  int64_t queries = 0;
  int64_t keys = 0;
};
[[nodiscard]] Blocks paper_blocks(int64_t memory_words, int64_t head_dim) noexcept;

// What nobody can go below. Compulsory: inputs read and output written once, 4Nd. And for any order
// that multiplies whole rows: between two moments with `memory` words moved in between, at most
// 2 memory / d rows of Q and K are at hand, so at most (memory / d)^2 pairs are done; hence
// N^2 d^2 / memory - memory ([Dao22] Proposition 3 with its constant). The larger of the two.
[[nodiscard]] int64_t forward_lower_bound(const Sizes& sizes, int64_t memory_words) noexcept;

// [Dao22] Figure 2, middle: words moved against the block size.
struct BlockPoint {
  int64_t block = 0;
  Words tiled_forward;   // our orders: B_r = block in the forward,
  Words tiled_backward;  // B_c = block in the backward, with its preparation
  Words algorithm1;      // the paper's: B_c = block in both
  Words algorithm4;
};
// Blocks first, 2 first, ... up to last.
[[nodiscard]] std::vector<BlockPoint> block_size_sweep(const Sizes& sizes, const Band& band,
                                                       int64_t first = 16, int64_t last = 1024);

}  // namespace tilewise::io_model
