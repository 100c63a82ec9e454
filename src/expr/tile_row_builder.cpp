// SPDX-License-Identifier: Apache-2.0
#include "expr/tile_row_builder.h"

#include <algorithm>

namespace tilewise::expr {

TileRowBuilder::TileRowBuilder(int64_t rows)
    : open_(static_cast<size_t>(rows), 0),
      first_(static_cast<size_t>(rows)),
      count_(static_cast<size_t>(rows) + 1, 0) {
  closed_.reserve(static_cast<size_t>(rows) * 2);
}

void TileRowBuilder::close(size_t row) {
  const uint64_t key = open_[row];
  closed_.push_back({static_cast<int32_t>(row),
                     {first_[row], static_cast<int32_t>(key >> 32), static_cast<TileKind>(key & 3),
                      static_cast<int32_t>((key & 0xFFFFFFFF) >> 2)}});
  ++count_[row];
}

void TileRowBuilder::add(int64_t row, int64_t row_end, int64_t column, int64_t column_end,
                         TileKind kind, int32_t rule) {
  const uint64_t wanted = key(column, kind, rule), extended = key(column_end, kind, rule);
  // Most rectangles extend the open runs of all their rows: 32 rows are compared at once, in a loop
  // that compilers vectorise.
  for (int64_t begin = row; begin < row_end; begin += 32) {
    const int64_t end = std::min(row_end, begin + 32);
    uint64_t differs = 0;
    for (int64_t r = begin; r < end; ++r) differs |= open_[static_cast<size_t>(r)] ^ wanted;
    for (int64_t r = begin; differs != 0 && r < end; ++r) {
      const auto i = static_cast<size_t>(r);
      if (open_[i] == wanted) continue;
      if (open_[i] != 0) close(i);
      first_[i] = static_cast<int32_t>(column);
    }
    std::fill(open_.begin() + begin, open_.begin() + end, extended);
  }
}

TileRowList TileRowBuilder::take() {
  for (size_t r = 0; r < open_.size(); ++r) {
    if (open_[r] != 0) close(r);
  }
  TileRowList list;
  list.begin.resize(count_.size());
  int64_t sum = 0;
  for (size_t r = 0; r < count_.size(); ++r) {
    list.begin[r] = sum;
    sum += count_[r];
    count_[r] = list.begin[r];  // where the next run of the row goes
  }
  list.runs.resize(closed_.size());
  for (const ClosedRun& c : closed_)
    list.runs[static_cast<size_t>(count_[static_cast<size_t>(c.row)]++)] = c.run;
  return list;
}

}  // namespace tilewise::expr
