// SPDX-License-Identifier: Apache-2.0
// What the values of an integer table can be over a box of its indices, without reading them all.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "expr/interval.h"

namespace tilewise::expr {

struct IntTable;

// Least and largest value, and the set of values by class.
struct ValueRange {
  Interval interval{kMaxInt, kMinInt};
  uint64_t set = 0;
};

// Of a slice of a table: its leading indices are fixed, 1 to 4 axes remain. One axis: blocks of 64
// elements under a sparse table, or nothing at all where the values ascend. Two axes: a pyramid of
// 2 x 2 cells. More: the flat range from the first to the last element of the box, which contains
// the box. Immutable; any number of threads may ask. The table must outlive it.
class RangeIndex {
 public:
  RangeIndex(const int32_t* data, const int64_t* shape, int axes);
  // Contains every value at indices of the box, which is clamped into the table; exact for one and
  // two axes. box[i] has lo <= hi.
  [[nodiscard]] ValueRange over(const Interval* box) const;
  // Whether over() tells more in its set than in its interval.
  [[nodiscard]] bool has_sets() const { return !ascends_; }

 private:
  struct Cell {
    int32_t lo, hi;
    uint64_t set;
  };
  struct Level {
    int64_t rows, columns;
    std::vector<Cell> cells;
  };
  static Cell join(const Cell& a, const Cell& b);
  static void join(ValueRange& range, const Cell& cell);
  static Cell cell_of(int32_t value) { return {value, value, set_of_value(value)}; }
  void build_blocks();
  void build_pyramid();
  [[nodiscard]] Cell scan(int64_t first, int64_t last) const;
  [[nodiscard]] ValueRange over_line(int64_t first, int64_t last) const;
  void over_rectangle(int level, int64_t y, int64_t x, const Interval* box,
                      ValueRange& range) const;

  const int32_t* data_;
  std::vector<int64_t> shape_;
  int64_t size_ = 1;
  bool ascends_ = false;
  std::vector<Level> levels_;
};

// The indices of one table, each built when it is first asked for. Thread-safe. A copy of a table
// starts with none: an index points into its own table.
class RangeIndexCache {
 public:
  RangeIndexCache() = default;
  RangeIndexCache(const RangeIndexCache&) noexcept {}
  RangeIndexCache& operator=(const RangeIndexCache&) noexcept { return *this; }
  // The slice of the last `axes` axes that starts at this element.
  const RangeIndex& slice(const IntTable& table, int axes, int64_t offset);

 private:
  std::mutex mutex_;
  std::map<std::pair<int, int64_t>, std::unique_ptr<const RangeIndex>> indices_;
};

}  // namespace tilewise::expr
