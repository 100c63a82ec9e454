// SPDX-License-Identifier: Apache-2.0
// Tiles whose probabilities are exactly 0 because their scores are so far below others of the same
// rows: distant keys under ALiBi or a decay. Proved per run, from the bounds of the score and, by
// Cauchy and Schwarz, |s| <= scale * largest |query| * largest |key|.
//
// A tile is left out if its highest score lies ln(2) (127 + 17) below the lowest one of a full tile
// of the same rows: its P underflows beside a reference m that is at most 16 below the maximum. So
// O, LSE and all gradients keep their bits, but for elements of O below 2^-100 of the largest
// |value|, which may lose what the tile would have added. Nothing is left out near NaN or infinity.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "engine/head_tiles.h"
#include "engine/part_items.h"
#include "engine/score_bounds.h"
#include "engine/work.h"
#include "engine/workspace_layout.h"

namespace tilewise {

constexpr int64_t kKeysPerItem = 2048;  // of the pass over keys and values

// What the search reads, of one part of a schedule. Tensors as in plan.h.
struct NegligibleInputs {
  const ScoreBounds* score;
  const ScoreBounds* derivative;  // by s; null in the forward
  const std::vector<HeadTiles>* tiles;
  const int32_t* class_of_head;
  expr::TileGrid grid;
  TileOrigin origin;
  double scale;
  Tensor query, key, value;
  Tensor grad_output;         // the backward's; data is null in the forward
  const void* lse = nullptr;  // of BackwardLaunch: Real [batch, query_heads, queries]
  const void* delta = nullptr;
  const Tensor* real_tables;  // by symbol
  bool is_wanted = true;      // false: nobody reads the ranges
};

// The search in one part, in three phases whose items may run at the same time.
class NegligibleSearch {
 public:
  // registers: of all workers.
  struct Memory {
    int32_t* is_searched;  // 1: of the ranges; 0: no tile is negligible, or the search would cost
                           // more than it saves
    double* norms;         // [batch, kv_heads][2]: the largest of keys, of values
    TileRange* ranges;     // as `significant` in launch.h
    expr::IntervalRegister* registers;
    int64_t register_stride;  // from one worker's to the next
  };
  NegligibleSearch(const NegligibleInputs& inputs, const Memory& memory) noexcept;

  void begin(int worker) const noexcept;
  // The norms of a block of keys of a kv head: item is its number among those of all heads.
  void measure_keys(int64_t item) const noexcept;
  // The range of a row of tiles: item is its number among those of all query heads.
  void find_range(int64_t item, int worker) const noexcept;
  [[nodiscard]] bool is_searched() const noexcept { return *memory_.is_searched != 0; }

 private:
  [[nodiscard]] expr::IntervalRegister* registers(int worker) const;
  [[nodiscard]] const TileRowList& tiles_of(int64_t head) const;
  void begin(const ScoreBounds& bounds, int64_t head, expr::IntervalRegister* registers) const;
  [[nodiscard]] bool is_promising(expr::IntervalRegister* registers) const;
  [[nodiscard]] TileRange range_of_row(int64_t head, int64_t row, expr::IntervalRegister* r) const;
  [[nodiscard]] bool gradients_are_finite(int64_t head, int64_t q0, int64_t q1, double product,
                                          double value, expr::IntervalRegister* r) const;
  void bounds_on(int64_t row, int64_t j, int64_t last, expr::IntervalRegister* r,
                 expr::RealInterval (&result)[expr::kLanes]) const;
  [[nodiscard]] TileRange significant(int64_t head, int64_t row, expr::IntervalRegister* r) const;

  NegligibleInputs in_;
  Memory memory_;
  int64_t rows_, columns_;
  int64_t query_heads_, kv_heads_;
  double margin_;
};

// Where a part has its share of the memory.
[[nodiscard]] NegligibleSearch::Memory negligible_memory(const NegligibleLayout& layout,
                                                         void* workspace, int64_t part,
                                                         int64_t first_head,
                                                         int64_t first_row) noexcept;

// Runs the phases of all parts. search_of(part): its search. keys, rows: items of the phases.
// counter: 8 bytes. Allocates nothing.
template <class SearchOf>
void find_negligible_tiles(const PartItems& keys, const PartItems& rows, const SearchOf& search_of,
                           Executor& executor, int workers, int64_t* counter) noexcept {
  const int64_t parts = rows.parts();
  run_items(executor, static_cast<int>(std::clamp<int64_t>(parts, 1, workers)), parts, counter,
            [&](int64_t part, int worker) { search_of(part).begin(worker); });
  bool any = false;
  for (int64_t part = 0; part < parts && !any; ++part) any = search_of(part).is_searched();
  if (!any) return;
  run_items(executor, workers, keys.total(), counter, [&](int64_t item, int) {
    const PartItems::Place place = keys.find(item);
    const NegligibleSearch search = search_of(place.part);
    if (search.is_searched()) search.measure_keys(place.item);
  });
  run_items(executor, workers, rows.total(), counter, [&](int64_t item, int worker) {
    const PartItems::Place place = rows.find(item);
    const NegligibleSearch search = search_of(place.part);
    if (search.is_searched()) search.find_range(place.item, worker);
  });
}

}  // namespace tilewise
