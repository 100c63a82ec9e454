// SPDX-License-Identifier: Apache-2.0
// The rules of partial tiles: what a box decides is dropped from the mask, and the rest becomes a
// rule that all tiles share on which the same is left.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "base/tile.h"
#include "expr/interval_program.h"
#include "expr/tile_grid.h"

namespace tilewise::expr {

// A comparison that left tiles partial, and how many.
struct OpenPart {
  Expression part;
  int64_t tiles = 0;
};

class TileRules {
 public:
  // `mask` is specialised for the grid's box, `program` compiled from it. All must outlive it.
  TileRules(const Expression& mask, const IntervalProgram& program, const TileGrid& grid);

  // The rule of `tiles` tiles that lie in the box which this lane was evaluated on.
  int32_t rule_of(const std::vector<IntervalRegister>& registers, int lane, int64_t tiles);
  // The rule of tiles about which nothing is known: the whole mask.
  int32_t whole(int64_t tiles);

  // The registers whose bounds rule_of() reads.
  [[nodiscard]] const std::vector<int32_t>& read() const noexcept { return registers_; }

  [[nodiscard]] std::vector<TileRule> take_rules() { return std::move(rules_); }
  [[nodiscard]] std::vector<Expression> take_programs() { return std::move(programs_); }
  [[nodiscard]] std::vector<OpenPart> open_parts() const;

 private:
  // What is known of the mask's boolean parts: two bits each, may be false, may be true.
  using Signature = uint64_t;
  struct Case {
    Signature signature;
    int32_t rule;
    int64_t tiles;
  };
  static constexpr size_t kMaxParts = 32;  // two bits each in 64
  // Beyond this many, tiles keep the whole mask: planning stays cheap, and so do the kernels'
  // programs.
  static constexpr size_t kMaxCases = 64;

  int32_t count(size_t index, int64_t tiles);
  [[nodiscard]] int32_t add_rule(const Expression& mask);

  const Expression& mask_;
  const TileGrid& grid_;
  std::vector<int32_t> parts_;      // nodes
  std::vector<int32_t> registers_;  // of the parts
  std::vector<Case> cases_;
  size_t latest_ = 0;  // the case of the last tile, which is often that of the next
  std::vector<TileRule> rules_;
  std::vector<Expression> programs_;
};

}  // namespace tilewise::expr
