// SPDX-License-Identifier: Apache-2.0
// Where everything lies in a workspace. The same functions give the size that a plan asks for (at
// its maxima, with room for the turns of shorter tiles that follow blocks) and the parts that a run
// carves out; a schedule that needs more than its plan has is refused.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/kernel_table.h"

namespace tilewise {

inline constexpr int64_t kRowsPerItem = 256;  // of the phases of the backward that only stream rows

struct WorkspacePart {
  int64_t offset = 0;  // bytes, a multiple of 64
  int64_t bytes = 0;
  template <class T>
  [[nodiscard]] T* in(void* workspace) const noexcept {
    return reinterpret_cast<T*>(static_cast<std::byte*>(workspace) + offset);
  }
};

// What gradients of tables take.
struct TableSizes {
  int64_t elements = 0;  // of all tables
  int64_t lookups = 0;
};

// The lengths that memory depends on, of all parts of a step together: the whole step, or the
// sequences of a ragged batch.
struct ForwardExtents {
  int64_t batch = 0;           // entries, or sequences
  int64_t tile_rows = 0;       // tiles of queries of one head, in all entries
  int64_t scratch_bytes = 0;   // of a worker
  int64_t decode_queries = 0;  // in all entries that decode
  int64_t decode_tiles = 0;    // tiles of rows of a kv head, likewise
};
struct BackwardExtents {
  int64_t batch = 0;
  int64_t queries = 0;  // in all entries
  int64_t tile_rows = 0;
  int64_t slot_queries = 0;  // rows that the accumulators of dQ have for each head of a group
  int64_t slot_tiles = 0;    // the same in tiles
  int64_t key_tiles = 0;     // of the longest entry
  int64_t key_tile = 0;      // keys of a tile
  int64_t scratch_bytes = 0;
};

// What finding negligible tiles takes (negligible_tiles.h); nothing without a program of bounds.
struct NegligibleLayout {
  WorkspacePart is_searched;  // int32 [parts]
  WorkspacePart norms;        // double [batch, kv_heads][2]: the largest of keys, of values
  WorkspacePart ranges;       // TileRange [query_heads][tile_rows], of each part
  WorkspacePart registers;    // IntervalRegister [workers][register_stride]
  int64_t register_stride = 0;
};

struct ForwardLayout {
  WorkspacePart counter;  // int64: the next item to claim
  WorkspacePart scratch;  // [workers][scratch_stride]
  int64_t scratch_stride = 0;
  WorkspacePart decode_sums;  // Real [query_heads][decode_queries][value_dim + 3], of each part
  WorkspacePart decode_turn;  // int32 [kv_heads][decode_tiles], of each part
  NegligibleLayout negligible;
  int64_t bytes = 0;
};

struct BackwardLayout {
  WorkspacePart counter;         // int64
  WorkspacePart lse;             // Real [query_heads][queries], of each part
  WorkspacePart delta;           // Real, the same shape
  WorkspacePart grad_sink;       // double, of each prepare item
  WorkspacePart accumulator;     // Real [group][slot_queries][head_dim], of each slot
  WorkspacePart turn;            // int32 [group][slot_tiles], of each slot
  WorkspacePart bias_turn;       // int32 [key_tiles]
  WorkspacePart careful;         // int32 [batch, kv_heads]
  WorkspacePart table_sums;      // Real [table_copies()][elements]
  WorkspacePart table_turn;      // int32 [table_copies()]
  WorkspacePart table_parts;     // Real [workers][table_stride]
  WorkspacePart table_elements;  // int32 [workers][lookups][key_tile]
  int64_t table_stride = 0;      // numbers
  NegligibleLayout negligible;
  WorkspacePart scratch;  // [workers][scratch_stride]
  int64_t scratch_stride = 0;
  int64_t bytes = 0;
};

// Both throw InvalidArgument when the sum leaves 62 bits. shape: heads and dims are read.
// real_bytes: 4, or 8 in the float64 kernel. bound_steps: of ScoreBounds.
[[nodiscard]] ForwardLayout forward_layout(const AttentionShape& shape,
                                           const ForwardExtents& extents, int64_t bound_steps,
                                           int workers, int64_t real_bytes);
[[nodiscard]] BackwardLayout backward_layout(const Kernel& kernel, const AttentionShape& shape,
                                             const BackwardExtents& extents,
                                             const TableSizes& tables, int64_t bound_steps,
                                             int workers, int64_t real_bytes);

}  // namespace tilewise
