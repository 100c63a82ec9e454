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

// What finding negligible tiles takes (negligible_tiles.h); nothing without a program of bounds.
struct NegligibleLayout {
  WorkspacePart norms;      // double [batch, kv_heads][2]: the largest of keys, of values
  WorkspacePart ranges;     // TileRange [batch, query_heads][tiles of queries, at most]
  WorkspacePart registers;  // IntervalRegister [workers][steps]
};

struct ForwardLayout {
  WorkspacePart counter;  // int64: the next item to claim
  WorkspacePart scratch;  // [workers][scratch_stride]
  int64_t scratch_stride = 0;
  WorkspacePart decode_sums;  // Real [batch, query_heads, queries][value_dim + 3]
  WorkspacePart decode_turn;  // int32 [batch, kv_heads, row tiles]
  NegligibleLayout negligible;
  int64_t bytes = 0;
};

struct BackwardLayout {
  WorkspacePart counter;         // int64
  WorkspacePart lse;             // Real [batch, query_heads, query_length]
  WorkspacePart delta;           // Real [batch, query_heads, query_length]
  WorkspacePart grad_sink;       // double [batch, query_heads][prepare items of a head]
  WorkspacePart accumulator;     // Real [slots][group][query_length][head_dim]
  WorkspacePart turn;            // int32 [slots][group][query tiles]
  WorkspacePart bias_turn;       // int32 [key tiles]
  WorkspacePart careful;         // int32 [batch, kv_heads]
  WorkspacePart table_sums;      // Real [table_copies()][elements]
  WorkspacePart table_turn;      // int32 [table_copies()]
  WorkspacePart table_parts;     // Real [workers][table_stride]
  WorkspacePart table_elements;  // int32 [workers][lookups][backward_key_tile]
  int64_t table_stride = 0;      // numbers
  NegligibleLayout negligible;
  WorkspacePart scratch;  // [workers][scratch_stride]
  int64_t scratch_stride = 0;
  int64_t bytes = 0;
};

// All throw InvalidArgument when the sum leaves 62 bits. real_bytes: 4, or 8 in the float64
// kernel. bound_steps: of ScoreBounds.
[[nodiscard]] ForwardLayout forward_layout(const Kernel& kernel, const AttentionShape& shape,
                                           const Geometry& geometry, const ProgramSizes& programs,
                                           int64_t bound_steps, int workers);
// That of a step that decodes. shape.query_length is at most kDecodeQueries.
[[nodiscard]] ForwardLayout decode_layout(const Kernel& kernel, const AttentionShape& shape,
                                          const ProgramSizes& programs, int workers,
                                          int64_t real_bytes);
[[nodiscard]] BackwardLayout backward_layout(const Kernel& kernel, const AttentionShape& shape,
                                             const Geometry& geometry, const ProgramSizes& programs,
                                             const TableSizes& tables, int64_t bound_steps,
                                             int workers, int64_t slots, int64_t real_bytes);

}  // namespace tilewise
