// SPDX-License-Identifier: Apache-2.0
// All that a kernel knows. Plain data, made by engine/: a kernel chooses nothing and reads no
// environment. This header is included by translation units with instruction-set flags, so it has
// no standard containers and no inline functions with a body worth sharing.
#pragma once

#include <cstdint>

#include "base/tile.h"
#include "base/tile_program.h"
#include "tilewise/tensor.h"

namespace tilewise {

struct AttentionShape {
  int64_t batch;
  int64_t query_heads;
  int64_t kv_heads;
  int64_t query_length;
  int64_t kv_length;
  int64_t head_dim;
  int64_t value_dim;
};

// Tile sizes of a kernel; no result depends on query_tile, key_tile or on how items are shared
// out, only speed does (kernels add up in index order and never look across a lane).
struct Geometry {
  int64_t query_tile;           // forward: queries of one item (B_r)
  int64_t key_tile;             // forward: keys of one tile (B_c)
  int64_t backward_query_tile;  // backward: queries of one tile
  int64_t backward_key_tile;    // backward: keys of one item
};

// Which pairs are dropped after the softmax (docs/notation.md); others are multiplied by
// keep_scale.
struct Dropout {
  uint64_t seed;
  uint32_t threshold;  // of 16 random bits; 0: no dropout, and the rest is not read
  double keep_scale;
};

// What some heads see: those whose masks fold to the same expression.
struct MaskClass {
  TileRows by_query;  // rows of query tiles, runs of key tiles
  TileRows by_key;    // the transpose; read by the backward only
  const TileRule* rules;
  const TileProgram* programs;  // that the rules name; the first output is what is visible
};

// The forward for few queries: its rows are the queries of all heads that share a key head, its
// keys come in chunks.
struct DecodeLaunch {
  int64_t chunk_keys;   // chunk c holds keys [c, c + 1) * chunk_keys; bits depend on it
  int64_t first_key;    // some query sees first_key and last_key - 1, none sees a key outside;
  int64_t last_key;     // equal where nothing is visible
  int64_t first_chunk;  // [first_chunk, last_chunk), at least one
  int64_t last_chunk;
  int64_t row_tiles;  // items of a group: tiles of its query_heads / kv_heads * query_length rows
  // Run state, in the workspace. Real [batch, query_heads, query_length][value_dim + 3]: O, m, l
  // and the sum of the rounded P of the chunks that are merged.
  void* sums;
  int32_t* turn;  // [batch, kv_heads, row_tiles]: chunks merged. Zero at start.
};

struct ForwardLaunch {
  AttentionShape shape;
  Geometry geometry;
  float scale;                                        // float32 kernels
  double scale_f64;                                   // float64 kernel
  Tensor query, key, value, bias, output, logsumexp;  // bias, logsumexp: data may be null
  Tensor sink;                                        // [1, query_heads, 1, 1]; data may be null
  const MaskClass* mask_classes;  // tiles of geometry.query_tile queries and key_tile keys
  const int32_t* class_of_head;   // [batch, query_heads]
  // [batch, query_heads][rows of tiles]: key tiles outside have probabilities of exactly 0, by the
  // bounds of the score, and change nothing. Null: none does. Not read by decode.
  const TileRange* significant;
  TileOrigin origin;
  // s becomes its first output; null: it stays. Decode: the head is one of the query's variables.
  const TileProgram* score;
  ProgramSizes program_sizes;  // of the largest program: what the scratch was sized for
  Dropout dropout;
  DecodeLaunch decode;  // read by decode only
};

// An item of the forward: one tile of queries of one query head. Items are independent.
struct ForwardItem {
  int64_t batch;
  int64_t head;
  int64_t query_tile;
  // Probably the next item of the same worker, for reading ahead; null: unknown.
  const ForwardItem* next = nullptr;
};

// An item of decode: a chunk of keys for one tile of rows. Items must be started in the order of
// chunks: a chunk waits to be merged until its predecessors, started before it, are.
struct DecodeItem {
  int64_t batch;
  int64_t kv_head;
  int64_t row_tile;
  int64_t chunk;
  // Probably the next item of the same worker, for reading ahead; null: unknown.
  const DecodeItem* next = nullptr;
};

// One lookup of a score in a real table. Outputs of the backward's program from `output` on: the
// derivative of the score by the value of the lookup, then its indices.
struct TableLookup {
  int32_t output;
  int32_t rank;
  int64_t first;      // element 0 of the table among the elements of all tables
  int64_t extent[4];  // of the first `rank` axes; every index is below
};

// Gradients of the real tables of a score. The sums of a part of the work that no tile size changes
// (a panel of keys, all queries of a group of heads) are complete before they are added to
// anything.
struct TableGradients {
  const TableLookup* lookups;  // null: no gradients are wanted
  int32_t lookup_count;
  int64_t elements;  // of all tables
  // Run state, in the workspace, zero at start.
  void* sums;  // Real [copies][elements]; an item adds to copy item.table_copy
  int64_t copies;
  int32_t* turn;  // [copies]: item.table_turn of the next to add
  // Real [workers][part_stride]: of the item at hand, [panels][elements], then for every lookup and
  // key [lookup_count][backward_key_tile]. Zero again when an item is done.
  void* parts;
  int64_t part_stride;
  int32_t* part_elements;  // [workers][lookup_count][backward_key_tile]: where the latter belong
};

struct BackwardLaunch {
  AttentionShape shape;
  Geometry geometry;
  float scale;
  double scale_f64;
  Tensor query, key, value, bias, output, logsumexp, grad_output, grad_logsumexp;
  Tensor grad_query, grad_key, grad_value, grad_bias;
  Tensor sink;                    // data may be null; its value is read for PrepareItem::grad_sink
  const MaskClass* mask_classes;  // tiles of backward_query_tile queries and backward_key_tile keys
  const int32_t* class_of_head;   // [batch, query_heads]
  const TileRange* significant;   // as in ForwardLaunch
  TileOrigin origin;
  const TileProgram* score;    // outputs: the score, its derivative by s, those of tables.lookups;
                               // null: s stays
  ProgramSizes program_sizes;  // as in ForwardLaunch
  Dropout dropout;             // that of the forward

  // Run state, in the workspace. Real is float, or double in the float64 kernel.
  void* lse;    // Real [batch, query_heads, query_length]: logsumexp
  void* delta;  // Real, the same shape: rowsum(dO * O) - grad_logsumexp
  // bias_turn[key tile]: how many (batch, kv head) have added to that column of grad_bias. Zero at
  // start.
  int32_t* bias_turn;
  // careful[batch * kv_heads + kv head] is set to 1 by a kernel that met NaN or infinity where
  // masked pairs may have mixed it into other rows; such heads run again with item.careful.
  int32_t* careful;
  TableGradients tables;
};

// An item of the backward: one tile of keys of one kv head, all query heads of its group.
// Items wait for the turns of others, which must have been *started* before: those of the lower key
// tiles of the head, and those that add to grad_bias or to tables before it.
struct BackwardItem {
  int64_t batch;
  int64_t kv_head;
  int64_t key_tile;
  bool careful;
  int64_t worker;  // picks the part of tables
  // Of the head. Real [query_heads / kv_heads][query_length][head_dim]: where dQ is summed that
  // grad_query cannot hold.
  void* grad_query_sums;
  // [head in group][query tile]: how many key tiles have added to dQ of that tile. Zero at start.
  int32_t* turn;
  int32_t bias_turn;  // when it may add to grad_bias; -1: no other head adds where it does
  // When it may add to sums of tables, and whose turn is next.
  int64_t table_copy;
  int32_t table_turn, next_table_turn;
};

// Rows [row_begin, row_end) of one query head: fills lse and delta, and zeroes grad_query rows that
// no key tile visits. All rows are prepared before the first BackwardItem starts.
struct PrepareItem {
  int64_t batch;
  int64_t head;
  int64_t row_begin;
  int64_t row_end;
  // What these rows add to the gradient of the head's sink; null: not wanted.
  double* grad_sink = nullptr;
};

// C = alpha * A * B for one pair of matrices, operands of any strides: element (i, j) of A is
// a[i * a_row + j * a_column]. a, b and c have dtypes of their own; sums are float32 (float64 in
// the float64 kernel) in index order. accumulate: C += instead of =.
struct MatmulLaunch {
  int64_t rows, columns, depth;
  const void* a;
  DType a_dtype;
  int64_t a_row, a_column;
  const void* b;
  DType b_dtype;
  int64_t b_row, b_column;
  void* c;
  DType c_dtype;
  int64_t c_row, c_column;
  double alpha;
  bool accumulate;
};

}  // namespace tilewise
