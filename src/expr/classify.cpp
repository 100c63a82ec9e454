// SPDX-License-Identifier: Apache-2.0
#include "expr/classify.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <string>

#include "base/message.h"
#include "expr/axis_bounds.h"
#include "expr/tile_row_builder.h"
#include "tilewise/error.h"

namespace tilewise::expr {
namespace {

// A rectangle of tiles, sides powers of two; it may reach over the end of the grid.
struct Rectangle {
  int64_t row, column, height, width;
};

class Descent {
 public:
  Descent(const Expression& mask, const Values& values, const TileGrid& grid,
          const DescentBudget& budget)
      : grid_(grid),
        rows_(grid.rows()),
        columns_(grid.columns()),
        program_(mask, values, IntervalProgram::Refine::kYes),
        registers_(program_.start()),
        rules_(mask, program_, grid),
        builder_(rows_),
        read_(registers_read()),
        query_axis_(program_, grid, AxisBounds::Axis::kQuery, read_),
        key_axis_(program_, grid, AxisBounds::Axis::kKey, read_),
        batches_left_(std::min(budget.batches,
                               budget.steps / static_cast<int64_t>(program_.steps().size()))) {
    if (!axes_are_worth_it()) return;
    query_axis_.fill(registers_);
    key_axis_.fill(registers_);
    has_axes_ = true;
  }

  MaskTiles run() {
    const Rectangle all{0, 0, power_of_two_from(rows_), power_of_two_from(columns_)};
    if (all.height == 1 && all.width == 1) {
      for (int l = 0; l < kLanes; ++l) set_box(l, grid_.box());
      evaluate();
      emit(all, verdict(0), 0);
    } else {
      descend(all);
    }
    MaskTiles tiles;
    tiles.rows = builder_.take();
    tiles.rows.tile_rows = grid_.tile_queries;
    tiles.rows.tile_columns = grid_.tile_keys;
    tiles.open_parts = rules_.open_parts();
    tiles.rules = rules_.take_rules();
    tiles.programs = rules_.take_programs();
    tiles.within_budget = batches_left_ >= 0;
    return tiles;
  }

 private:
  static int64_t power_of_two_from(int64_t n) {
    return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(n)));
  }

  // What must be in place before the mixed steps are evaluated, and for the rules.
  [[nodiscard]] std::vector<bool> registers_read() const {
    const std::vector<IntervalStep>& steps = program_.steps();
    std::vector<bool> read(steps.size(), false);
    for (size_t i = program_.mixed_begin(); i < steps.size(); ++i) {
      for (int j = 0; j < steps[i].count; ++j)
        read[static_cast<size_t>(steps[i].operand[j])] = true;
    }
    for (const int32_t index : rules_.read()) read[static_cast<size_t>(index)] = true;
    return read;
  }
  // Measured: arithmetic is as cheap as reading its result, a lookup is not.
  [[nodiscard]] bool axes_are_worth_it() const {
    const std::vector<IntervalStep>& steps = program_.steps();
    if (program_.mixed_begin() == steps.size()) return false;
    return std::any_of(steps.begin() + static_cast<int64_t>(program_.q_begin()),
                       steps.begin() + static_cast<int64_t>(program_.mixed_begin()),
                       [](const IntervalStep& step) { return step.op == IntervalOp::kLookup; });
  }

  void set_box(int lane, const Box& box) {
    IntervalRegister& q = registers_[IntervalProgram::kQuery];
    IntervalRegister& k = registers_[IntervalProgram::kKey];
    q.lo[lane] = box.q0;
    q.hi[lane] = box.q1;
    k.lo[lane] = box.k0;
    k.hi[lane] = box.k1;
  }
  void evaluate() {
    program_.evaluate(registers_, program_.q_begin());
    --batches_left_;
  }
  [[nodiscard]] TileKind verdict(int lane) const {
    const IntervalRegister& root = registers_[static_cast<size_t>(program_.root())];
    return root.hi[lane] == 0   ? TileKind::kEmpty
           : root.lo[lane] != 0 ? TileKind::kFull
                                : TileKind::kPartial;
  }

  // Partial tiles get the rule of what the lane's registers leave open.
  void emit(const Rectangle& r, TileKind kind, int lane) {
    if (kind == TileKind::kEmpty) return;
    const bool is_partial = kind == TileKind::kPartial;
    add_tiles(r, kind, is_partial ? rules_.rule_of(registers_, lane, tiles_in(r)) : 0);
  }
  void emit_whole_mask(const Rectangle& r) {
    add_tiles(r, TileKind::kPartial, rules_.whole(tiles_in(r)));
  }
  void add_tiles(const Rectangle& r, TileKind kind, int32_t rule) {
    builder_.add(r.row, std::min(rows_, r.row + r.height), r.column,
                 std::min(columns_, r.column + r.width), kind, rule);
  }
  [[nodiscard]] int64_t tiles_in(const Rectangle& r) const {
    return (std::min(rows_, r.row + r.height) - r.row) *
           (std::min(columns_, r.column + r.width) - r.column);
  }

  // Evaluates the four quarters of size height x width from (row, column) on.
  void evaluate_quarters(const Rectangle& quarter) {
    if (has_axes_) {
      const auto level = [](int64_t side) { return std::countr_zero(static_cast<uint64_t>(side)); };
      query_axis_.load(registers_, level(quarter.height), quarter.row, {false, false, true, true});
      key_axis_.load(registers_, level(quarter.width), quarter.column, {false, true, false, true});
      program_.evaluate(registers_, program_.mixed_begin());
      --batches_left_;
      return;
    }
    // A quarter beyond the end takes the last tile: its verdict is not used.
    const auto span = [](int64_t first, int64_t count, int64_t tiles) {
      return std::pair(std::min(first, tiles - 1), std::min(first + count, tiles));
    };
    for (int l = 0; l < kLanes; ++l) {
      const auto [row, row_end] =
          span(quarter.row + (l / 2) * quarter.height, quarter.height, rows_);
      const auto [column, column_end] =
          span(quarter.column + (l % 2) * quarter.width, quarter.width, columns_);
      set_box(l, grid_.box(row, row_end, column, column_end));
    }
    evaluate();
  }

  // A rectangle of more than one tile about which nothing is known.
  void descend(const Rectangle& r) {
    if (batches_left_ < 0) return emit_whole_mask(r);
    if (is_strip_partial(r)) return;
    const Rectangle quarter{r.row, r.column, std::max<int64_t>(1, r.height / 2),
                            std::max<int64_t>(1, r.width / 2)};
    const bool has_lower = r.height > 1 && r.row + quarter.height < rows_;
    const bool has_right = r.width > 1 && r.column + quarter.width < columns_;
    evaluate_quarters(quarter);
    TileKind kinds[kLanes];
    for (int l = 0; l < kLanes; ++l) {
      const bool exists = (l < 2 || has_lower) && (l % 2 == 0 || has_right);
      kinds[l] = exists ? verdict(l) : TileKind::kEmpty;
    }
    const auto visit = [&](int l) {
      const Rectangle part{r.row + (l / 2) * quarter.height, r.column + (l % 2) * quarter.width,
                           quarter.height, quarter.width};
      const bool is_tile = quarter.height == 1 && quarter.width == 1;
      if (is_tile || kinds[l] != TileKind::kPartial)
        emit(part, kinds[l], l);
      else
        descend(part);
    };
    if (visit_half(r, quarter, kinds, visit)) return;
    for (int l = 0; l < kLanes; ++l) visit(l);
  }

  // An open half, beside a decided one, stays one rectangle: that makes long strips.
  template <class Visit>
  bool visit_half(const Rectangle& r, const Rectangle& quarter, const TileKind (&kinds)[kLanes],
                  const Visit& visit) {
    if (r.height == 1 || r.width == 1 || (quarter.height == 1 && quarter.width == 1)) return false;
    int open = 0;
    for (int l = 0; l < kLanes; ++l) open |= int{kinds[l] == TileKind::kPartial} << l;
    const Rectangle upper{r.row, r.column, quarter.height, r.width};
    const Rectangle lower{r.row + quarter.height, r.column, quarter.height, r.width};
    const Rectangle left{r.row, r.column, r.height, quarter.width};
    const Rectangle right{r.row, r.column + quarter.width, r.height, quarter.width};
    const auto both = [&](int a, int b) {
      visit(a);
      visit(b);
    };
    switch (open) {
      case 0b0011:
        descend(upper);
        both(2, 3);
        return true;
      case 0b1100:
        both(0, 1);
        descend(lower);
        return true;
      case 0b0101:
        descend(left);
        both(1, 3);
        return true;
      case 0b1010:
        both(0, 2);
        descend(right);
        return true;
      default:
        return false;
    }
  }

  // A strip one tile thick, all of whose tiles are partial, is emitted at once. Looking must pay:
  // credit is earned by strips found and spent by strips that are not.
  bool is_strip_partial(const Rectangle& r) {
    constexpr int64_t kShortest = 8, kPrice = 8;
    const bool is_row = r.height == 1;
    const int64_t length = is_row ? r.width : r.height;
    if ((r.height != 1 && r.width != 1) || length < kShortest || strip_credit_ <= 0) return false;
    const Box box = grid_.box(r.row, std::min(rows_, r.row + r.height), r.column,
                              std::min(columns_, r.column + r.width));
    if (!has_opposite_lines(box, is_row)) {
      strip_credit_ -= kPrice;
      return false;
    }
    strip_credit_ += length / 2;
    for (int l = 0; l < kLanes; ++l) set_box(l, box);
    evaluate();
    emit(r, TileKind::kPartial, 0);
    return true;
  }

  // Whether some line along the strip is true all the way and another one false: then every tile
  // has both. Looks at quarters of the thickness, then into the last one that is open.
  bool has_opposite_lines(const Box& box, bool is_row) {
    int64_t lo = is_row ? box.q0 : box.k0, hi = is_row ? box.q1 : box.k1;
    bool has_false = false, has_true = false;
    for (;;) {
      const int64_t thickness = hi - lo + 1;
      int64_t from[kLanes], to[kLanes];
      for (int l = 0; l < kLanes; ++l) {
        from[l] = std::min(hi, lo + thickness * l / kLanes);
        to[l] = std::max(from[l], lo + thickness * (l + 1) / kLanes - 1);
        set_box(l,
                is_row ? Box{from[l], to[l], box.k0, box.k1} : Box{box.q0, box.q1, from[l], to[l]});
      }
      evaluate();
      int next = -1;
      for (int l = 0; l < kLanes; ++l) {
        const TileKind kind = verdict(l);
        has_false |= kind == TileKind::kEmpty;
        has_true |= kind == TileKind::kFull;
        if (kind == TileKind::kPartial && from[l] < to[l]) next = l;
      }
      if (has_false && has_true) return true;
      if (next < 0) return false;
      lo = from[next];
      hi = to[next];
    }
  }

  const TileGrid& grid_;
  const int64_t rows_, columns_;
  IntervalProgram program_;
  std::vector<IntervalRegister> registers_;
  TileRules rules_;
  TileRowBuilder builder_;
  std::vector<bool> read_;
  AxisBounds query_axis_, key_axis_;
  bool has_axes_ = false;
  int64_t strip_credit_ = 256;
  int64_t batches_left_;
};

void require_countable(const char* argument, int64_t length, int64_t tile, int64_t tiles) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  if (tiles <= kMost) return;
  throw InvalidArgument(
      message("classify", argument, std::to_string(length),
              "at most " + std::to_string(kMost) + " tiles of " + std::to_string(tile),
              "use larger tiles"));
}

// Every tile of one kind.
MaskTiles uniform_tiles(const TileGrid& grid, TileKind kind) {
  MaskTiles tiles;
  TileRowBuilder builder(grid.rows());
  if (kind == TileKind::kFull && grid.rows() > 0 && grid.columns() > 0)
    builder.add(0, grid.rows(), 0, grid.columns(), kind, 0);
  tiles.rows = builder.take();
  tiles.rows.tile_rows = grid.tile_queries;
  tiles.rows.tile_columns = grid.tile_keys;
  return tiles;
}

}  // namespace

MaskTiles classify(const Expression& mask, const Values& values, const TileGrid& grid,
                   const DescentBudget& budget) {
  require_countable("queries", grid.queries, grid.tile_queries, grid.rows());
  require_countable("keys", grid.keys, grid.tile_keys, grid.columns());
  if (!mask.graph) return uniform_tiles(grid, TileKind::kFull);
  const bool is_constant = mask.node().is_const();
  if (grid.rows() == 0 || grid.columns() == 0 || is_constant) {
    const bool is_true = is_constant && mask.node().immediate != 0;
    return uniform_tiles(grid, is_true ? TileKind::kFull : TileKind::kEmpty);
  }
  return Descent(mask, values, grid, budget).run();
}

}  // namespace tilewise::expr
