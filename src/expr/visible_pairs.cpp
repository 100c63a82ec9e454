// SPDX-License-Identifier: Apache-2.0
#include "expr/visible_pairs.h"

#include <algorithm>
#include <vector>

#include "expr/eval_scalar.h"

namespace tilewise::expr {
namespace {

// The sum of clamp(x, 0, width) over all x <= last.
int64_t clamped_sum(int64_t last, int64_t width) {
  if (last <= 0) return 0;
  const int64_t ramp = std::min(last, width);
  return ramp * (ramp + 1) / 2 + (last - ramp) * width;
}

// Pairs of the rectangle with j - i <= limit: a row i has clamp(i + limit + 1 - j0, 0, width).
int64_t pairs_below(int64_t limit, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
  // Beyond the corners nothing changes, and sums stay small.
  limit = std::clamp(limit, j0 - i1, j1 - i0);
  const int64_t first = i0 + limit + 1 - j0;
  return clamped_sum(first + (i1 - i0) - 1, j1 - j0) - clamped_sum(first - 1, j1 - j0);
}

// Calls body(run, i0, i1, j0, j1) with the local rectangle of every run.
template <class Body>
void for_each_run(const MaskTiles& tiles, const TileGrid& grid, const Body& body) {
  const TileRows rows = tiles.rows.view();
  for (int64_t row = 0; row < rows.rows; ++row) {
    const int64_t i0 = row * grid.tile_queries, i1 = std::min(i0 + grid.tile_queries, grid.queries);
    for (int64_t r = rows.begin[row]; r < rows.begin[row + 1]; ++r) {
      const TileRun& run = rows.runs[r];
      body(run, i0, i1, run.first * grid.tile_keys, std::min(run.last * grid.tile_keys, grid.keys));
    }
  }
}

}  // namespace

int64_t pairs_in(const TileRule& rule, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
  i0 = std::max(i0, rule.query_begin);
  i1 = std::min(i1, rule.query_end);
  j0 = std::max(j0, rule.key_begin);
  j1 = std::min(j1, rule.key_end);
  if (i0 >= i1 || j0 >= j1 || rule.band.lo > rule.band.hi) return 0;
  return pairs_below(rule.band.hi, i0, i1, j0, j1) - pairs_below(rule.band.lo - 1, i0, i1, j0, j1);
}

VisiblePairs visible_pairs(const MaskTiles& tiles, const TileGrid& grid) {
  VisiblePairs visible;
  for_each_run(tiles, grid,
               [&](const TileRun& run, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
                 if (run.kind == TileKind::kFull) {
                   visible.pairs += (i1 - i0) * (j1 - j0);
                   return;
                 }
                 const TileRule& rule = tiles.rules[static_cast<size_t>(run.rule)];
                 const int64_t pairs = pairs_in(rule, i0, i1, j0, j1);
                 visible.pairs += rule.program < 0 ? pairs : pairs / 2;
                 visible.is_exact &= rule.program < 0;
               });
  return visible;
}

int64_t count_visible_pairs(const MaskTiles& tiles, const TileGrid& grid, const Values& values,
                            int64_t batch, int64_t head) {
  std::vector<ScalarEvaluator> programs;
  programs.reserve(tiles.programs.size());
  for (const Expression& program : tiles.programs) programs.emplace_back(program, values);
  int64_t pairs = 0;
  for_each_run(
      tiles, grid, [&](const TileRun& run, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
        if (run.kind == TileKind::kFull) {
          pairs += (i1 - i0) * (j1 - j0);
          return;
        }
        const TileRule& rule = tiles.rules[static_cast<size_t>(run.rule)];
        if (rule.program < 0) {
          pairs += pairs_in(rule, i0, i1, j0, j1);
          return;
        }
        ScalarEvaluator& program = programs[static_cast<size_t>(rule.program)];
        for (int64_t i = std::max(i0, rule.query_begin); i < std::min(i1, rule.query_end); ++i) {
          const int64_t begin = std::max({j0, rule.key_begin, i + rule.band.lo});
          const int64_t end = std::min({j1, rule.key_end, i + rule.band.hi + 1});
          for (int64_t j = begin; j < end; ++j)
            pairs += program.boolean({batch, head, i + grid.query_offset, j + grid.key_offset});
        }
      });
  return pairs;
}

}  // namespace tilewise::expr
