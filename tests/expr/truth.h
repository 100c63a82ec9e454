// SPDX-License-Identifier: Apache-2.0
// What a mask is at every pair of a small box, by the oracle, and what tiles claim about it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "expr/classify.h"
#include "expr/eval_scalar.h"
#include "expr/row_evaluator.h"

namespace tilewise::expr {

class Truth {
 public:
  Truth(const Expression& mask, const Values& values, int64_t batch, int64_t head, const Box& box)
      : Truth(box) {
    ScalarEvaluator evaluator(mask, values);
    fill([&](int64_t q, int64_t k) { return evaluator.boolean({batch, head, q, k}); });
  }
  // By the evaluator of rows.
  Truth(RowEvaluator evaluator, const Box& box) : Truth(box) {
    const std::vector<int64_t>* row = nullptr;
    fill([&](int64_t q, int64_t k) {
      if (k == box.k0) row = &evaluator.row(q);
      return (*row)[static_cast<size_t>(k - box.k0)] != 0;
    });
  }
  [[nodiscard]] bool at(int64_t q, int64_t k) const {
    return visible_[static_cast<size_t>((q - box_.q0) * columns_ + (k - box_.k0))];
  }
  // Visible pairs of a box inside.
  [[nodiscard]] int64_t count(const Box& b) const {
    const int64_t i0 = b.q0 - box_.q0, i1 = b.q1 - box_.q0 + 1;
    const int64_t j0 = b.k0 - box_.k0, j1 = b.k1 - box_.k0 + 1;
    return sum(i1, j1) - sum(i0, j1) - sum(i1, j0) + sum(i0, j0);
  }
  [[nodiscard]] TileKind kind(const Box& b) const {
    const int64_t visible = count(b);
    return visible == 0                                       ? TileKind::kEmpty
           : visible == (b.q1 - b.q0 + 1) * (b.k1 - b.k0 + 1) ? TileKind::kFull
                                                              : TileKind::kPartial;
  }

 private:
  explicit Truth(const Box& box)
      : box_(box), rows_(box.q1 - box.q0 + 1), columns_(box.k1 - box.k0 + 1) {}
  template <class Sees>
  void fill(const Sees& sees) {
    visible_.reserve(static_cast<size_t>(rows_ * columns_));
    sums_.assign(static_cast<size_t>((rows_ + 1) * (columns_ + 1)), 0);
    for (int64_t i = 0; i < rows_; ++i) {
      int64_t in_row = 0;
      for (int64_t j = 0; j < columns_; ++j) {
        visible_.push_back(sees(box_.q0 + i, box_.k0 + j));
        in_row += int64_t{visible_.back()};
        sum(i + 1, j + 1) = sum(i, j + 1) + in_row;
      }
    }
  }
  int64_t& sum(int64_t i, int64_t j) { return sums_[static_cast<size_t>(i * (columns_ + 1) + j)]; }
  [[nodiscard]] int64_t sum(int64_t i, int64_t j) const {
    return sums_[static_cast<size_t>(i * (columns_ + 1) + j)];
  }
  Box box_;
  int64_t rows_, columns_;
  std::vector<bool> visible_;
  std::vector<int64_t> sums_;
};

// What is wrong with the tiles; empty: nothing. Every pair of every tile is looked at.
struct TilesAgainstTruth {
  std::string problem;
  int64_t tiles = 0, uniform = 0, proved = 0;  // all; truly empty or full; of these, said to be so
};

inline TilesAgainstTruth compare(const MaskTiles& tiles, const Truth& truth, const TileGrid& grid,
                                 const Values& values, int64_t batch, int64_t head) {
  TilesAgainstTruth result;
  std::vector<ScalarEvaluator> programs;
  programs.reserve(tiles.programs.size());
  for (const Expression& program : tiles.programs) programs.emplace_back(program, values);

  const auto says = [&](const TileRule& rule, int64_t i, int64_t j) {
    if (j - i < rule.band.lo || j - i > rule.band.hi || j < rule.key_begin || j >= rule.key_end ||
        i < rule.query_begin || i >= rule.query_end)
      return false;
    return rule.program < 0 || programs[static_cast<size_t>(rule.program)].boolean(
                                   {batch, head, i + grid.query_offset, j + grid.key_offset});
  };
  const auto rule_is_right = [&](const TileRule& rule, const Box& box) {
    for (int64_t q = box.q0; q <= box.q1; ++q) {
      for (int64_t k = box.k0; k <= box.k1; ++k) {
        if (says(rule, q - grid.query_offset, k - grid.key_offset) != truth.at(q, k)) return false;
      }
    }
    return true;
  };
  const TileRows rows = tiles.rows.view();
  if (rows.rows != grid.rows()) result.problem = "number of rows";
  for (int64_t row = 0; row < rows.rows && result.problem.empty(); ++row) {
    const TileRun* run = rows.runs + rows.begin[row];
    const TileRun* const end = rows.runs + rows.begin[row + 1];
    for (const TileRun* r = run; r < end; ++r) {
      if (r->first >= r->last || r->last > grid.columns() || (r > run && r->first < r[-1].last))
        result.problem = "order of runs";
      if (r > run && r->first == r[-1].last && r->kind == r[-1].kind && r->rule == r[-1].rule)
        result.problem = "two runs that are one";
    }
    for (int64_t column = 0; column < grid.columns() && result.problem.empty(); ++column) {
      while (run < end && run->last <= column) ++run;
      const bool inside = run < end && run->first <= column;
      const TileKind said = inside ? run->kind : TileKind::kEmpty;
      const Box box = grid.box(row, row + 1, column, column + 1);
      const TileKind is = truth.kind(box);
      ++result.tiles;
      result.uniform += is != TileKind::kPartial;
      result.proved += is != TileKind::kPartial && said == is;
      if (said != TileKind::kPartial && said != is) result.problem = "a wrong verdict";
      if (said == TileKind::kPartial &&
          !rule_is_right(tiles.rules[static_cast<size_t>(run->rule)], box))
        result.problem = "a wrong rule";
      if (!result.problem.empty())
        result.problem += " in row " + std::to_string(row) + ", column " + std::to_string(column);
    }
  }
  return result;
}

}  // namespace tilewise::expr
