// SPDX-License-Identifier: Apache-2.0
// Collects rectangles of tiles into run-length coded rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/tile_row_list.h"

namespace tilewise::expr {

// The tiles of one row must arrive from left to right; different rows in any order.
class TileRowBuilder {
 public:
  explicit TileRowBuilder(int64_t rows);
  // Tiles of rows [row, row_end) and columns [column, column_end), not empty.
  void add(int64_t row, int64_t row_end, int64_t column, int64_t column_end, TileKind kind,
           int32_t rule);
  // The rows; the builder is used up.
  [[nodiscard]] TileRowList take();

 private:
  // Where the open run of a row ends, and what its tiles are; 0: no run is open.
  static uint64_t key(int64_t column, TileKind kind, int32_t rule) {
    return static_cast<uint64_t>(column) << 32 | static_cast<uint64_t>(rule) << 2 |
           static_cast<uint64_t>(kind);
  }
  void close(size_t row);

  struct ClosedRun {
    int32_t row;
    TileRun run;
  };
  std::vector<uint64_t> open_;
  std::vector<int32_t> first_;  // column in which the open run of a row begins
  std::vector<int64_t> count_;  // closed runs of a row
  std::vector<ClosedRun> closed_;
};

}  // namespace tilewise::expr
