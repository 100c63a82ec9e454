// SPDX-License-Identifier: Apache-2.0
#include "engine/head_tiles.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <unordered_map>

#include "expr/specialise.h"
#include "problem/bind.h"
#include "problem/ragged.h"

namespace tilewise {
namespace {

using expr::Expression;

// Rows with the most tiles first, so that the last items of a head are short; equal rows ascend.
std::vector<int32_t> longest_first(const TileRowList& rows) {
  const TileRows view = rows.view();
  std::vector<int64_t> tiles(static_cast<size_t>(view.rows));
  for (int64_t row = 0; row < view.rows; ++row) {
    for (int64_t run = view.begin[row]; run < view.begin[row + 1]; ++run) {
      tiles[static_cast<size_t>(row)] += view.runs[run].last - view.runs[run].first;
    }
  }
  std::vector<int32_t> order(tiles.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&tiles](int32_t a, int32_t b) {
    return tiles[static_cast<size_t>(a)] > tiles[static_cast<size_t>(b)];
  });
  return order;
}

expr::Domain domain_of(const Step& step, int64_t query_heads, const expr::Box& box) {
  return {{step.batch_offset, step.batch_offset + step.batch - 1},
          {step.head_offset, step.head_offset + query_heads - 1},
          box};
}

expr::ProgramStorage compile_mask(const Expression& mask, const expr::Values& values,
                                  const expr::Domain& domain) {
  return expr::compile(mask, values, {.is_narrow = expr::fits_32_bits(mask, values, domain)});
}

}  // namespace

int64_t HeadClasses::pairs() const {
  int64_t sum = 0;
  for (const HeadClass& one : classes) sum += one.heads * one.pairs.pairs;
  return sum;
}

bool HeadClasses::pairs_are_exact() const {
  return std::all_of(classes.begin(), classes.end(),
                     [](const HeadClass& one) { return one.pairs.is_exact; });
}

expr::TileGrid grid_of(const Step& step) {
  return {.queries = step.query_length,
          .keys = step.kv_length,
          .query_offset = step.query_offset,
          .key_offset = step.key_offset};
}

HeadClasses classify_heads(const Mask& mask, const expr::Values& values, const Step& step,
                           int64_t query_heads, const char* operation) {
  HeadClasses result;
  const int64_t heads = step.batch * query_heads;
  result.class_of_head.assign(static_cast<size_t>(heads), 0);
  const Expression* expression = mask.expression();
  if (expression == nullptr || heads == 0 || step.query_length == 0 || step.kv_length == 0) {
    result.classes.push_back({{}, step.batch_offset, step.head_offset, heads, {}});
    return result;
  }
  const expr::Box box = grid_of(step).box();
  expr::check_bound(*expression, values, domain_of(step, query_heads, box), operation);
  const bool by_batch = expr::depends_on(*expression, expr::Variable::kBatch);
  const bool by_head = expr::depends_on(*expression, expr::Variable::kHead);
  std::unordered_map<uint64_t, int32_t> known;  // hash of the specialised mask
  for (int64_t b = 0; b < step.batch; ++b) {
    for (int64_t h = 0; h < query_heads; ++h) {
      int32_t& index = result.class_of_head[static_cast<size_t>(b * query_heads + h)];
      const int64_t same = (by_batch ? b : 0) * query_heads + (by_head ? h : 0);
      if (same != b * query_heads + h) {
        index = result.class_of_head[static_cast<size_t>(same)];
      } else {
        const int64_t batch = step.batch_offset + b, head = step.head_offset + h;
        Expression special = expr::specialise(*expression, values, batch, head, box);
        const auto count = static_cast<int32_t>(result.classes.size());
        index = known.emplace(expr::hash_of(*special.graph, special.root), count).first->second;
        if (index == count) result.classes.push_back({std::move(special), batch, head, 0, {}});
      }
      ++result.classes[static_cast<size_t>(index)].heads;
    }
  }
  return result;
}

int64_t count_visible_pairs(const Mask& mask, const Step& step, int64_t query_heads) {
  if (is_ragged(step)) {
    int64_t sum = 0;
    for (int64_t i = 0; i < step.batch; ++i) {
      Step one = sequence_step(step, i);
      one.tables = step.tables;
      one.scalars = step.scalars;
      sum += count_visible_pairs(mask, one, query_heads);
    }
    return sum;
  }
  constexpr const char* kOperation = "visible pairs";
  expr::Values values;
  if (mask.expression() != nullptr) values = bind(*mask.expression(), step, kOperation);
  const HeadClasses heads = classify_heads(mask, values, step, query_heads, kOperation);
  expr::TileGrid grid = grid_of(step);
  grid.tile_queries = grid.tile_keys = 64;
  int64_t sum = 0;
  for (const HeadClass& one : heads.classes) {
    const expr::MaskTiles tiles = expr::classify(one.mask, values, grid);
    const expr::VisiblePairs pairs = expr::visible_pairs(tiles, grid);
    sum += one.heads * (pairs.is_exact
                            ? pairs.pairs
                            : expr::count_visible_pairs(tiles, grid, values, one.batch, one.head));
  }
  return sum;
}

expr::Values values_without_shortcuts(const Expression& expression) {
  expr::Values values;
  for (const expr::Symbol& symbol : expression.graph->symbols()) {
    expr::Values::Entry entry{.integer = -3, .real = 1e-320};
    auto table = std::make_shared<expr::IntTable>();
    table->data = {0};
    table->shape.assign(static_cast<size_t>(symbol.rank), 1);
    entry.table = table;
    values.symbols.push_back(entry);
  }
  values.query_length = values.kv_length = -3;
  return values;
}

ProgramSizes largest_program(const Mask& mask) {
  if (mask.expression() == nullptr) return {};
  return expr::compile(*mask.expression(), values_without_shortcuts(*mask.expression()), {}).sizes;
}

expr::TileGrid cut(const Step& step, int64_t tile_queries, int64_t tile_keys) {
  expr::TileGrid grid = grid_of(step);
  grid.tile_queries = tile_queries;
  grid.tile_keys = tile_keys;
  return grid;
}

int64_t expected_work(const expr::MaskTiles& tiles, const expr::TileGrid& grid) {
  const TileRows rows = tiles.rows.view();
  int64_t sum = 0;
  for (int64_t row = 0; row < rows.rows; ++row) {
    const int64_t i0 = row * grid.tile_queries, i1 = std::min(i0 + grid.tile_queries, grid.queries);
    for (int64_t n = rows.begin[row]; n < rows.begin[row + 1]; ++n) {
      const TileRun& run = rows.runs[n];
      const TileRule rule =
          run.kind == TileKind::kPartial ? tiles.rules[static_cast<size_t>(run.rule)] : TileRule{};
      sum += expr::pairs_in(rule, i0, i1, run.first * grid.tile_keys,
                            std::min(run.last * grid.tile_keys, grid.keys)) *
             (rule.program >= 0 ? 2 : 1);
    }
  }
  return sum;
}

HeadTiles make_head_tiles(const Mask& mask, expr::MaskTiles tiles, const expr::Values& values,
                          const expr::TileGrid& grid, const ProgramSizes& limit,
                          Direction direction) {
  HeadTiles result;
  if (direction == Direction::kBackward)
    result.by_key = transpose(tiles.rows, grid.columns());
  else
    result.order = longest_first(tiles.rows);
  result.by_query = std::move(tiles.rows);
  result.rules = std::move(tiles.rules);
  result.open_parts = std::move(tiles.open_parts);
  result.within_budget = tiles.within_budget;
  if (tiles.programs.empty()) return result;
  const expr::Domain anywhere{{0, expr::kMaxInt}, {0, expr::kMaxInt}, grid.box()};
  for (const Expression& program : tiles.programs) {
    result.storages.push_back(compile_mask(program, values, anywhere));
    if (!expr::is_within(result.storages.back().sizes, limit))
      result.storages.back() = compile_mask(*mask.expression(), values, anywhere);
  }
  for (const expr::ProgramStorage& storage : result.storages)
    result.programs.push_back(storage.view());
  return result;
}

}  // namespace tilewise
