// SPDX-License-Identifier: Apache-2.0
#include "base/tile_row_list.h"

#include <algorithm>
#include <limits>

namespace tilewise {
namespace {

struct ClosedRun {
  int32_t row;
  TileRun run;
};

constexpr TileRun kNothing{0, 0, TileKind::kEmpty};

bool same_tiles(const TileRun& a, const TileRun& b) { return a.kind == b.kind && a.rule == b.rule; }

// The runs of one row, read column by column.
class RunReader {
 public:
  RunReader(const TileRun* run, const TileRun* end) : run_(run), end_(end) {}
  // What the tile in this column is, and the column from which on it is something else.
  TileRun at(int32_t column, int32_t& until) {
    while (run_ < end_ && run_->last <= column) ++run_;
    if (run_ == end_) {
      until = std::numeric_limits<int32_t>::max();
      return kNothing;
    }
    const bool inside = run_->first <= column;
    until = inside ? run_->last : run_->first;
    return inside ? *run_ : kNothing;
  }

 private:
  const TileRun* run_;
  const TileRun* end_;
};

// Counting sort by row; within a row the runs keep their order.
void sort_by_row(const std::vector<ClosedRun>& closed, int64_t rows, TileRowList& list) {
  list.begin.assign(static_cast<size_t>(rows + 1), 0);
  for (const ClosedRun& c : closed) ++list.begin[static_cast<size_t>(c.row) + 1];
  for (size_t r = 1; r < list.begin.size(); ++r) list.begin[r] += list.begin[r - 1];
  list.runs.resize(closed.size());
  std::vector<int64_t> next(list.begin.begin(), list.begin.end() - 1);
  for (const ClosedRun& c : closed)
    list.runs[static_cast<size_t>(next[static_cast<size_t>(c.row)]++)] = c.run;
}

}  // namespace

int64_t TileRowList::visited() const noexcept {
  int64_t tiles = 0;
  for (const TileRun& run : runs) tiles += run.last - run.first;
  return tiles;
}

TileRowList transpose(const TileRowList& list, int64_t columns) {
  const TileRows in = list.view();
  const auto width = static_cast<int32_t>(columns);
  // Per column: the run that the rows so far have left open. Only columns in which a row differs
  // from the one before it cost anything.
  std::vector<TileRun> open(static_cast<size_t>(columns), kNothing);
  std::vector<ClosedRun> closed;
  closed.reserve(list.runs.size() + static_cast<size_t>(columns));
  const auto runs_of = [&in](int64_t row) {
    return row < 0 || row >= in.rows
               ? RunReader(nullptr, nullptr)
               : RunReader(in.runs + in.begin[row], in.runs + in.begin[row + 1]);
  };
  for (int64_t row = 0; row <= in.rows; ++row) {
    RunReader before = runs_of(row - 1), now = runs_of(row);
    for (int32_t column = 0; column < width;) {
      int32_t until_before = 0, until_now = 0;
      const TileRun a = before.at(column, until_before);
      const TileRun b = now.at(column, until_now);
      const int32_t until = std::min({until_before, until_now, width});
      if (!same_tiles(a, b)) {
        for (int32_t x = column; x < until; ++x) {
          TileRun& run = open[static_cast<size_t>(x)];
          run.last = static_cast<int32_t>(row);
          if (run.kind != TileKind::kEmpty) closed.push_back({x, run});
          run = {static_cast<int32_t>(row), 0, b.kind, b.rule};
        }
      }
      column = until;
    }
  }
  TileRowList out;
  out.tile_rows = list.tile_columns;
  out.tile_columns = list.tile_rows;
  sort_by_row(closed, columns, out);
  return out;
}

}  // namespace tilewise
