// SPDX-License-Identifier: Apache-2.0
#include "expr/range_index.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "expr/values.h"

namespace tilewise::expr {
namespace {

constexpr int64_t kBlock = 64;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

RangeIndex::RangeIndex(const int32_t* data, const int64_t* shape, int axes)
    : data_(data), shape_(shape, shape + axes) {
  for (const int64_t extent : shape_) size_ *= extent;
  if (axes == 2)
    build_pyramid();
  else if (std::is_sorted(data, data + size_))
    ascends_ = true;
  else
    build_blocks();
}

RangeIndex::Cell RangeIndex::join(const Cell& a, const Cell& b) {
  return {std::min(a.lo, b.lo), std::max(a.hi, b.hi), a.set | b.set};
}

void RangeIndex::join(ValueRange& range, const Cell& cell) {
  range.interval = hull(range.interval, {cell.lo, cell.hi});
  range.set |= cell.set;
}

RangeIndex::Cell RangeIndex::scan(int64_t first, int64_t last) const {
  Cell cell = cell_of(data_[first]);
  for (int64_t i = first + 1; i <= last; ++i) cell = join(cell, cell_of(data_[i]));
  return cell;
}

// Level j holds, for every block, that block and the 2^j - 1 after it.
void RangeIndex::build_blocks() {
  const int64_t blocks = divide_up(size_, kBlock);
  Level first{1, blocks, {}};
  first.cells.reserve(static_cast<size_t>(blocks));
  for (int64_t b = 0; b < blocks; ++b)
    first.cells.push_back(scan(b * kBlock, std::min(size_, (b + 1) * kBlock) - 1));
  levels_.push_back(std::move(first));
  for (int64_t half = 1; 2 * half <= blocks; half *= 2) {
    const std::vector<Cell>& below = levels_.back().cells;
    Level next{1, blocks - 2 * half + 1, {}};
    next.cells.reserve(static_cast<size_t>(next.columns));
    for (int64_t b = 0; b < next.columns; ++b)
      next.cells.push_back(
          join(below[static_cast<size_t>(b)], below[static_cast<size_t>(b + half)]));
    levels_.push_back(std::move(next));
  }
}

// Level 0 joins 2 x 2 elements of the table, level j + 1 joins 2 x 2 cells of level j.
void RangeIndex::build_pyramid() {
  Level below{shape_[0], shape_[1], {}};
  const auto at = [&](int64_t y, int64_t x) {
    const auto index = static_cast<size_t>(y * below.columns + x);
    return levels_.empty() ? cell_of(data_[index]) : levels_.back().cells[index];
  };
  do {
    Level next{divide_up(below.rows, 2), divide_up(below.columns, 2), {}};
    next.cells.reserve(static_cast<size_t>(next.rows * next.columns));
    for (int64_t y = 0; y < below.rows; y += 2) {
      for (int64_t x = 0; x < below.columns; x += 2) {
        const bool has_right = x + 1 < below.columns, has_lower = y + 1 < below.rows;
        Cell cell = at(y, x);
        if (has_right) cell = join(cell, at(y, x + 1));
        if (has_lower) cell = join(cell, at(y + 1, x));
        if (has_right && has_lower) cell = join(cell, at(y + 1, x + 1));
        next.cells.push_back(cell);
      }
    }
    below = {next.rows, next.columns, {}};
    levels_.push_back(std::move(next));
  } while (below.rows > 1 || below.columns > 1);
}

ValueRange RangeIndex::over_line(int64_t first, int64_t last) const {
  ValueRange range;
  if (ascends_) {
    range.interval = {data_[first], data_[last]};
    range.set = ~uint64_t{0};  // nobody asks, see has_sets()
    return range;
  }
  // Whole blocks [begin, end); the ragged last block counts as whole.
  const std::vector<Cell>& blocks = levels_[0].cells;
  const int64_t begin = divide_up(first, kBlock);
  const int64_t end = last == size_ - 1 ? static_cast<int64_t>(blocks.size()) : (last + 1) / kBlock;
  if (begin >= end) {
    join(range, scan(first, last));
    return range;
  }
  const int level = std::bit_width(static_cast<uint64_t>(end - begin)) - 1;
  const std::vector<Cell>& cells = levels_[static_cast<size_t>(level)].cells;
  join(range, cells[static_cast<size_t>(begin)]);
  join(range, cells[static_cast<size_t>(end - (int64_t{1} << level))]);
  if (first < begin * kBlock) join(range, scan(first, begin * kBlock - 1));
  if (last >= end * kBlock) join(range, scan(end * kBlock, last));
  return range;
}

// Joins what cell (y, x) of the level shares with the box; level -1 is the table itself.
void RangeIndex::over_rectangle(int level, int64_t y, int64_t x, const Interval* box,
                                ValueRange& range) const {
  const int64_t side = int64_t{1} << (level + 1);
  const Interval rows{y * side, std::min(shape_[0], (y + 1) * side) - 1};
  const Interval columns{x * side, std::min(shape_[1], (x + 1) * side) - 1};
  if (rows.lo > rows.hi || columns.lo > columns.hi) return;
  if (rows.lo > box[0].hi || rows.hi < box[0].lo) return;
  if (columns.lo > box[1].hi || columns.hi < box[1].lo) return;
  if (level < 0) return join(range, cell_of(data_[y * shape_[1] + x]));
  const Level& cells = levels_[static_cast<size_t>(level)];
  const Cell& cell = cells.cells[static_cast<size_t>(y * cells.columns + x)];
  if (range.interval.lo <= cell.lo && cell.hi <= range.interval.hi && (cell.set & ~range.set) == 0)
    return;  // adds nothing
  if (rows.lo >= box[0].lo && rows.hi <= box[0].hi && columns.lo >= box[1].lo &&
      columns.hi <= box[1].hi)
    return join(range, cell);
  for (int64_t quarter = 0; quarter < 4; ++quarter)
    over_rectangle(level - 1, 2 * y + quarter / 2, 2 * x + quarter % 2, box, range);
}

ValueRange RangeIndex::over(const Interval* box) const {
  Interval inside[4];
  Interval flat{0, 0};
  for (size_t i = 0; i < shape_.size(); ++i) {
    inside[i] = {std::clamp<int64_t>(box[i].lo, 0, shape_[i] - 1),
                 std::clamp<int64_t>(box[i].hi, 0, shape_[i] - 1)};
    flat = {flat.lo * shape_[i] + inside[i].lo, flat.hi * shape_[i] + inside[i].hi};
  }
  if (shape_.size() != 2) return over_line(flat.lo, flat.hi);
  ValueRange range;
  over_rectangle(static_cast<int>(levels_.size()) - 1, 0, 0, inside, range);
  return range;
}

const RangeIndex& RangeIndexCache::slice(const IntTable& table, int axes, int64_t offset) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::unique_ptr<const RangeIndex>& index = indices_[{axes, offset}];
  if (!index) {
    const int64_t* shape = table.shape.data() + (table.shape.size() - static_cast<size_t>(axes));
    index = std::make_unique<const RangeIndex>(table.data.data() + offset, shape, axes);
  }
  return *index;
}

}  // namespace tilewise::expr
