// SPDX-License-Identifier: Apache-2.0
// Masks of the tests as kernels get them: tiles are classified by counting every pair.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "expr/bytecode.h"
#include "expr/eval_scalar.h"
#include "expr/recognise.h"
#include "expr/specialise.h"
#include "kernels/cpu/backward_case.h"
#include "schedule/tile_runs.h"

namespace tilewise::backward_test {

// What the heads of one class see: the pairs of the rule where the expression, if there is one, is
// true too.
struct TestMask {
  TileRule rule;
  expr::Expression expression = {};
};

// Tiles of one size. Owns what a launch points to.
class TiledMasks {
 public:
  template <class Launch>
  void set(Launch& launch) const {
    launch.mask_classes = classes_.data();
    launch.class_of_head = class_of_head_.data();
    launch.program_sizes = sizes_;
    launch.score = score_.register_count > 0 ? &score_ : nullptr;
  }
  [[nodiscard]] int64_t query_tiles() const { return classes_[0].by_query.rows; }
  [[nodiscard]] int64_t key_tiles() const { return classes_[0].by_key.rows; }

 private:
  friend class TestMasks;
  std::vector<TileRowList> rows_;  // by query and by key of each class
  std::vector<TileProgram> programs_;
  TileProgram score_;
  std::vector<MaskClass> classes_;
  std::vector<int32_t> class_of_head_;
  ProgramSizes sizes_;
};

class TestMasks {
 public:
  // Everybody sees the band of a mask of the library.
  TestMasks(const Mask& mask, int64_t queries, int64_t keys) : masks_(1) {
    if (mask.expression() == nullptr || queries == 0 || keys == 0) return;
    const expr::TileGrid grid = {.queries = queries, .keys = keys};
    expr::Values values;
    values.query_length = queries, values.kv_length = keys;
    masks_[0].rule =
        expr::recognise(expr::specialise(*mask.expression(), values, 0, 0, grid.box()), grid).rule;
  }
  // Head h of batch b has mask (b * heads + h) % masks.size(). Some full and some empty tiles are
  // called partial where `is_careless`, as a classification may.
  TestMasks(std::vector<TestMask> masks, bool is_narrow, bool is_careless)
      : masks_(std::move(masks)), is_careless_(is_careless) {
    for (const TestMask& mask : masks_) {
      programs_.push_back(mask.expression.graph
                              ? compile(mask.expression, {}, {.is_narrow = is_narrow})
                              : expr::ProgramStorage{});
    }
  }

  void set_score(const std::shared_ptr<expr::Graph>& graph, const std::vector<int32_t>& roots,
                 bool for_decode = false) {
    score_ = compile(*graph, roots, {}, {.is_narrow = true, .heads_are_queries = for_decode});
  }

  // Otherwise the bias of a case is there for the reference alone: it hides what the masks hide.
  [[nodiscard]] bool takes_bias() const { return programs_.empty() || !score_.code.empty(); }
  [[nodiscard]] const TestMask& of_head(size_t head) const { return masks_[head % masks_.size()]; }

  static std::vector<bool> visible(const TestMask& mask, int64_t queries, int64_t keys) {
    std::vector<bool> pairs;
    const TileRule& rule = mask.rule;
    std::unique_ptr<expr::ScalarEvaluator> evaluator;
    const expr::Values values;
    if (mask.expression.graph)
      evaluator = std::make_unique<expr::ScalarEvaluator>(mask.expression, values);
    for (int64_t q = 0; q < queries; ++q) {
      for (int64_t k = 0; k < keys; ++k) {
        pairs.push_back(rule.band.lo <= k - q && k - q <= rule.band.hi && rule.key_begin <= k &&
                        k < rule.key_end && rule.query_begin <= q && q < rule.query_end &&
                        (!evaluator || evaluator->boolean({0, 0, q, k, 0})));
      }
    }
    return pairs;
  }

  [[nodiscard]] TiledMasks tiles(const Case& c, int64_t query_tile, int64_t key_tile) const {
    TiledMasks tiled;
    for (size_t i = 0; i < masks_.size(); ++i) {
      const std::vector<bool> pairs = visible(masks_[i], c.queries, c.keys);
      const auto kind = [&](int64_t q0, int64_t k0) {
        return kind_of(pairs, c, q0, k0, query_tile, key_tile);
      };
      tiled.rows_.push_back(make_rows(c.queries, c.keys, query_tile, key_tile, kind));
      tiled.rows_.push_back(make_rows(c.keys, c.queries, key_tile, query_tile,
                                      [&](int64_t k0, int64_t q0) { return kind(q0, k0); }));
      tiled.programs_.push_back(programs_.empty() ? TileProgram{} : programs_[i].view());
      if (!programs_.empty()) tiled.sizes_ = expr::larger(tiled.sizes_, programs_[i].sizes);
    }
    for (size_t i = 0; i < masks_.size(); ++i) {
      tiled.classes_.push_back({tiled.rows_[2 * i].view(), tiled.rows_[2 * i + 1].view(),
                                &masks_[i].rule, &tiled.programs_[i]});
    }
    tiled.score_ = score_.view();
    tiled.sizes_ = expr::larger(tiled.sizes_, score_.sizes);
    for (int64_t head = 0; head < c.batch * c.query_heads; ++head) {
      tiled.class_of_head_.push_back(
          static_cast<int32_t>(static_cast<size_t>(head) % masks_.size()));
    }
    return tiled;
  }

 private:
  [[nodiscard]] TileKind kind_of(const std::vector<bool>& pairs, const Case& c, int64_t q0,
                                 int64_t k0, int64_t query_tile, int64_t key_tile) const {
    int64_t seen = 0, all = 0;
    for (int64_t q = q0; q < std::min(q0 + query_tile, c.queries); ++q) {
      for (int64_t k = k0; k < std::min(k0 + key_tile, c.keys); ++k, ++all) {
        seen += pairs[static_cast<size_t>(q * c.keys + k)];
      }
    }
    if (is_careless_ && (q0 / query_tile + k0 / key_tile) % 3 == 0) return TileKind::kPartial;
    return seen == 0 ? TileKind::kEmpty : seen == all ? TileKind::kFull : TileKind::kPartial;
  }

  template <class Kind>
  static TileRowList make_rows(int64_t rows, int64_t columns, int64_t tile_rows,
                               int64_t tile_columns, const Kind& kind) {
    TileRowList list;
    list.begin.push_back(0);
    for (int64_t i = 0; i < rows; i += tile_rows) {
      const auto row_begin = list.runs.size();
      for (int64_t j = 0; j < columns; j += tile_columns) {
        const TileKind is = kind(i, j);
        const auto tile = static_cast<int32_t>(j / tile_columns);
        if (is == TileKind::kEmpty) continue;
        if (list.runs.size() > row_begin && list.runs.back().last == tile &&
            list.runs.back().kind == is) {
          ++list.runs.back().last;
        } else {
          list.runs.push_back({tile, tile + 1, is});
        }
      }
      list.begin.push_back(static_cast<int64_t>(list.runs.size()));
    }
    return list;
  }

  std::vector<TestMask> masks_;
  std::vector<expr::ProgramStorage> programs_;
  expr::ProgramStorage score_;
  bool is_careless_ = false;
};

}  // namespace tilewise::backward_test
