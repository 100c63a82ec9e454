// SPDX-License-Identifier: Apache-2.0
// A kernel as data: one table of function pointers per (instruction set, arithmetic).
#pragma once

#include <cstdint>

#include "kernels/launch.h"
#include "kernels/rows.h"

namespace tilewise {

// The tiles that a kernel can take: multiples of unit, up to max. Those that follow the blocks of a
// mask need not be multiples (engine/tiling.h): register blocks are then not filled.
struct TileLimits {
  Geometry unit;
  Geometry max;
};

// What a tile keeps in the caches of a core, in bytes for each of its queries or keys.
struct TileBytes {
  int64_t query;            // forward: Q^T and O^T
  int64_t key;              // forward: K and V, which every block of queries reads again
  int64_t backward_query;   // Q and dO, as rows and as words
  int64_t backward_key;     // K^T, V^T, dK^T, dV^T, and dS of the longest tile of queries
  int64_t backward_scores;  // of each query: P of one panel of keys, read again for every
                            // register block of dV
};

// The kernel of one arithmetic on one instruction set. scratch: 64-byte aligned, one per worker,
// contents arbitrary at the start of an item.
struct Kernel {
  const char* arithmetic;  // "fp32": inputs of any dtype up to 32 bits, converted as they are
                           // packed; "bf16"; "fp64"
  TileLimits limits;       // what the engine chooses from (engine/tiling.h)
  TileBytes (*tile_bytes)(int64_t head_dim, int64_t value_dim);
  int64_t (*forward_scratch_bytes)(const AttentionShape&, const Geometry&, const ProgramSizes&);
  void (*forward)(const ForwardLaunch&, const ForwardItem&, void* scratch);
  // Few queries: lanes are the rows of a group, limits.unit.query_tile of them in an item.
  int64_t (*decode_scratch_bytes)(const AttentionShape&, const ProgramSizes&);
  void (*decode)(const ForwardLaunch&, const DecodeItem&, void* scratch);
  int64_t (*backward_scratch_bytes)(const AttentionShape&, const Geometry&, const ProgramSizes&);
  void (*backward_prepare)(const BackwardLaunch&, const PrepareItem&);
  void (*backward)(const BackwardLaunch&, const BackwardItem&, void* scratch);
  int64_t (*matmul_scratch_bytes)(const MatmulLaunch&);
  void (*matmul)(const MatmulLaunch&, void* scratch);

  // The row passes of standard attention (standard/standard.h).
  int64_t (*rows_scratch_bytes)(int64_t columns, const ProgramSizes&);
  // to = from * factor + bias where visible, -infinity elsewhere.
  void (*mask_rows)(const RowsLaunch&, void* scratch);
  // to = softmax(from * factor + bias) of the visible columns, 0 elsewhere; logsumexp; dropped.
  void (*softmax_rows)(const RowsLaunch&, void* scratch);
  // from: P, to: dO V^T, which becomes dS = P (dP - rowsum(P dP) + grad_logsumexp) with dP = Z o
  // dO V^T; Z is read off `dropped`.
  void (*softmax_backward_rows)(const RowsLaunch&, void* scratch);
  void (*sum_rows)(const SumRowsLaunch&, void* scratch);
};

enum class Isa : int32_t { kScalar = 0, kAvx2 = 1, kAvx512 = 2, kAvx512Bf16 = 3, kAmx = 4 };

struct KernelTable {
  Isa isa;
  const char* name;          // "scalar", "avx2", "avx512", "avx512bf16", "amx"
  const Kernel* kernels[4];  // by DType; never null: float64 is the scalar kernel everywhere
};

}  // namespace tilewise
