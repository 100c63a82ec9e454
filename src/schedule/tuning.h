// SPDX-License-Identifier: Apache-2.0
// Tile sizes that `tilewise tune` found on a machine, as a text file. The format, line by line:
//   tilewise-tuning 1                             the version of the format
//   cpu <name>
//   caches <L1 data> <L2> <L3>                    bytes, 0 where unknown
//   threads <count>
//   tiles <instruction set> <arithmetic> <dim class> <forward|backward> <queries> <keys>
//   end
// with any number of tiles lines, no two for the same class. Words are separated by one space.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "schedule/machine.h"

namespace tilewise {

// A class of problems: one kernel, one pass, head dims and value dims up to a size.
struct TileClass {
  std::string isa;
  std::string arithmetic;
  int64_t dim = 0;  // 64, 128 or 256
  bool is_backward = false;
  friend bool operator==(const TileClass&, const TileClass&) = default;
};
inline constexpr int64_t kTunedDims[] = {64, 128, 256};
// The smallest class that holds both; 0: none, such heads are rare and take the model's tiles.
[[nodiscard]] int64_t dim_class(int64_t head_dim, int64_t value_dim) noexcept;

struct TunedTiles {
  TileClass of;
  int64_t queries = 0;
  int64_t keys = 0;
  int line = 0;  // of the file, from 1
};

struct Tuning {
  Machine machine;  // name, caches and threads of where it was made
  std::vector<TunedTiles> tiles;
  [[nodiscard]] const TunedTiles* find(const TileClass& of) const noexcept;
};

inline constexpr int64_t kMaxTile = 65536;         // a size beyond is no tile of any kernel
inline constexpr int64_t kMaxTuningBytes = 65536;  // of a file

// Throws InvalidArgument with file, line and what it should be, unless the text is exactly of the
// format. Sizes are 1 to kMaxTile; what a kernel can take is checked by who knows kernels.
[[nodiscard]] Tuning parse_tuning(const std::string& text, const std::string& file);
[[nodiscard]] std::string tuning_text(const Tuning& tuning);
// "" if the choices of one hold for the other: the same CPU and private caches, whatever the number
// of threads. Else what differs, in words.
[[nodiscard]] std::string machine_difference(const Machine& made_on, const Machine& here);
[[noreturn]] void reject_tuning_line(const std::string& file, int line, const std::string& got,
                                     const std::string& expected);

}  // namespace tilewise
