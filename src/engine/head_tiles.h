// SPDX-License-Identifier: Apache-2.0
// What the heads of a step see, as tiles: heads whose masks fold to the same expression share them.
#pragma once

#include <cstdint>
#include <vector>

#include "base/tile_row_list.h"
#include "expr/bytecode.h"
#include "expr/classify.h"
#include "expr/visible_pairs.h"
#include "kernels/launch.h"
#include "tilewise/problem.h"
#include "tilewise/step.h"

namespace tilewise {

// One mask on one grid of tiles, with all that a kernel reads of it.
struct HeadTiles {
  TileRowList by_query;
  TileRowList by_key;          // the backward's grid only
  std::vector<int32_t> order;  // tiles of queries, most key tiles first
  std::vector<TileRule> rules;
  std::vector<expr::ProgramStorage> storages;
  std::vector<TileProgram> programs;  // of the storages
  std::vector<expr::OpenPart> open_parts;
  bool within_budget = true;
  [[nodiscard]] MaskClass view() const noexcept {
    return {by_query.view(), by_key.view(), rules.data(), programs.data()};
  }
};

// The heads that share a mask.
struct HeadClass {
  expr::Expression mask;        // specialised; without a graph: every key is visible
  int64_t batch = 0, head = 0;  // global, of the first of them
  int64_t heads = 0;            // how many, of all batch entries
  expr::VisiblePairs pairs;     // of one head
};

struct HeadClasses {
  std::vector<HeadClass> classes;
  std::vector<int32_t> class_of_head;   // [batch, query_heads]
  [[nodiscard]] int64_t pairs() const;  // visible, of all heads
  [[nodiscard]] bool pairs_are_exact() const;
};

// The local grid of a step, not yet cut into tiles.
[[nodiscard]] expr::TileGrid grid_of(const Step& step);
[[nodiscard]] expr::TileGrid cut(const Step& step, int64_t tile_queries, int64_t tile_keys);

// values: of the mask's symbols; not read without a mask. Throws InvalidArgument where the mask
// may divide by 0 or leave a table.
[[nodiscard]] HeadClasses classify_heads(const Mask& mask, const expr::Values& values,
                                         const Step& step, int64_t query_heads,
                                         const char* operation);

// Visible pairs of all heads, exact: evaluates the mask where tiles need a program.
[[nodiscard]] int64_t count_visible_pairs(const Mask& mask, const Step& step, int64_t query_heads);

// Data of the right kinds for which the compiler finds no shortcut, so that programs become as
// large as with any other.
[[nodiscard]] expr::Values values_without_shortcuts(const expr::Expression& expression);

// The largest programs that any step of the mask may need: what a workspace is sized for.
[[nodiscard]] ProgramSizes largest_program(const Mask& mask);

// The pairs that a kernel computes; twice where it must look at each of them.
[[nodiscard]] int64_t expected_work(const expr::MaskTiles& tiles, const expr::TileGrid& grid);

enum class Direction { kForward, kBackward };
// Tiles of a class on a grid. No program is larger than `limit` = largest_program(mask): where
// pruning made it so, tiles keep the whole mask. tiles: of this grid and this mask.
[[nodiscard]] HeadTiles make_head_tiles(const Mask& mask, expr::MaskTiles tiles,
                                        const expr::Values& values, const expr::TileGrid& grid,
                                        const ProgramSizes& limit, Direction direction);

}  // namespace tilewise
