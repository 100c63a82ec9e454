// SPDX-License-Identifier: Apache-2.0
#include "expr/axis_bounds.h"

#include <algorithm>

namespace tilewise::expr {

AxisBounds::AxisBounds(const IntervalProgram& program, const TileGrid& grid, Axis axis,
                       const std::vector<bool>& read)
    : program_(program), axis_(axis) {
  const bool is_query = axis == Axis::kQuery;
  tile_ = is_query ? grid.tile_queries : grid.tile_keys;
  length_ = is_query ? grid.queries : grid.keys;
  offset_ = is_query ? grid.query_offset : grid.key_offset;
  tiles_ = is_query ? grid.rows() : grid.columns();
  const int32_t input = is_query ? IntervalProgram::kQuery : IntervalProgram::kKey;
  if (read[static_cast<size_t>(input)]) registers_.push_back(input);
  const size_t begin = is_query ? program.q_begin() : program.k_begin();
  const size_t end = is_query ? program.k_begin() : program.mixed_begin();
  for (size_t i = begin; i < end; ++i) {
    if (read[i]) registers_.push_back(static_cast<int32_t>(i));
  }
}

void AxisBounds::set_range(IntervalRegister& input, int lane, int64_t first, int64_t last) const {
  const int64_t begin = std::min(first * tile_, length_ - 1);
  input.lo[lane] = offset_ + begin;
  input.hi[lane] = offset_ + std::max(begin, std::min(last * tile_, length_) - 1);
}

void AxisBounds::fill(std::vector<IntervalRegister>& registers) {
  const bool is_query = axis_ == Axis::kQuery;
  // One range more than there are, so that load() may read the one after the last.
  int64_t total = 0;
  for (int64_t width = 1;; width *= 2) {
    level_begin_.push_back(total);
    total += (tiles_ + width - 1) / width + 1;
    if (width >= tiles_) break;
  }
  level_begin_.push_back(total);
  cells_.resize(static_cast<size_t>(total) * registers_.size());
  IntervalRegister& input = registers[is_query ? IntervalProgram::kQuery : IntervalProgram::kKey];
  for (size_t level = 0; level + 1 < level_begin_.size(); ++level) {
    const int64_t begin = level_begin_[level], ranges = level_begin_[level + 1] - begin;
    for (int64_t i = 0; i < ranges; i += kLanes) {
      for (int l = 0; l < kLanes; ++l) set_range(input, l, (i + l) << level, (i + l + 1) << level);
      program_.evaluate(registers, is_query ? program_.q_begin() : program_.k_begin(),
                        is_query ? program_.k_begin() : program_.mixed_begin());
      for (size_t f = 0; f < registers_.size(); ++f) {
        const IntervalRegister& r = registers[static_cast<size_t>(registers_[f])];
        Cell* cells = &cells_[f * static_cast<size_t>(total) + static_cast<size_t>(begin + i)];
        for (int l = 0; l < kLanes && i + l < ranges; ++l) cells[l] = {r.lo[l], r.hi[l], r.set[l]};
      }
    }
  }
}

void AxisBounds::load(std::vector<IntervalRegister>& registers, int level, int64_t first,
                      const bool (&second)[kLanes]) const {
  const auto total = static_cast<size_t>(level_begin_.back());
  auto at = static_cast<size_t>(level_begin_[static_cast<size_t>(level)] + (first >> level));
  for (const int32_t index : registers_) {
    IntervalRegister& r = registers[static_cast<size_t>(index)];
    for (int l = 0; l < kLanes; ++l) {
      const Cell& cell = cells_[at + (second[l] ? 1 : 0)];
      r.lo[l] = cell.lo;
      r.hi[l] = cell.hi;
      r.set[l] = cell.set;
    }
    at += total;
  }
}

}  // namespace tilewise::expr
