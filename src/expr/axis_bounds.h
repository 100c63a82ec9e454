// SPDX-License-Identifier: Apache-2.0
// One axis of a grid: the registers that depend on q alone, or on k alone, for every aligned
// power-of-two range of tiles, computed once instead of once per box.
#pragma once

#include <cstdint>
#include <vector>

#include "expr/interval_program.h"
#include "expr/tile_grid.h"

namespace tilewise::expr {

class AxisBounds {
 public:
  enum class Axis : bool { kQuery, kKey };
  // Of those steps of the axis that `read` marks. All must outlive it.
  AxisBounds(const IntervalProgram& program, const TileGrid& grid, Axis axis,
             const std::vector<bool>& read);
  // Evaluates the axis' steps for all ranges; overwrites the registers.
  void fill(std::vector<IntervalRegister>& registers);
  // The registers of the ranges of 2^level tiles that begin with tile `first` and with the tile
  // after that range go into the lanes that `second` says are of the second range.
  void load(std::vector<IntervalRegister>& registers, int level, int64_t first,
            const bool (&second)[kLanes]) const;

 private:
  struct Cell {
    int64_t lo, hi;
    uint64_t set;
  };
  void set_range(IntervalRegister& input, int lane, int64_t first, int64_t last) const;

  const IntervalProgram& program_;
  Axis axis_;
  int64_t tile_, length_, offset_, tiles_;
  std::vector<int32_t> registers_;
  std::vector<int64_t> level_begin_;  // in a register's cells
  std::vector<Cell> cells_;           // [register][level][range]
};

}  // namespace tilewise::expr
