// SPDX-License-Identifier: Apache-2.0
#include "schedule/tile_counts.h"

#include <cstddef>

namespace tilewise {

TileCounts count_tiles(const TileRowList& list, int64_t row_length, int64_t column_length) {
  TileCounts counts;
  counts.rows = list.view().rows;
  counts.columns = (column_length + list.tile_columns - 1) / list.tile_columns;
  counts.row_length = row_length;
  counts.column_length = column_length;
  counts.tile_rows = list.tile_rows;
  counts.tile_columns = list.tile_columns;
  for (const TileRun& run : list.runs) {
    (run.kind == TileKind::kFull ? counts.full : counts.partial) += run.last - run.first;
    counts.in_last_column += run.last == counts.columns;
  }
  if (counts.rows > 0) {
    const int64_t last = counts.rows - 1;
    for (int64_t i = list.begin[static_cast<size_t>(last)];
         i < list.begin[static_cast<size_t>(counts.rows)]; ++i) {
      const TileRun& run = list.runs[static_cast<size_t>(i)];
      counts.in_last_row += run.last - run.first;
    }
  }
  return counts;
}

}  // namespace tilewise
