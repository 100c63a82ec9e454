// SPDX-License-Identifier: Apache-2.0
// A fully associative LRU cache fed with the row accesses of plain attention loops: what a machine
// that nobody programs moves, to compare with what the IO model predicts.
//
// Objects are rows that are always touched whole, word after word. Then every word of a row has the
// same reuse distance (the widths of the distinct rows touched in between, plus its own row), so
// simulating rows gives exactly the traffic of an LRU over single words.
#pragma once

#include <cstdint>
#include <vector>

#include "schedule/io_model.h"

namespace tilewise::io_model {

class LruCache {
 public:
  explicit LruCache(int64_t capacity_words) : capacity_(capacity_words) {}

  // `rows` new objects of `width` words; returns the id of the first, the others follow.
  int32_t add_rows(int64_t rows, int64_t width);
  void read(int32_t id) { touch(id, true, false); }
  void update(int32_t id) { touch(id, true, true); }      // read, then written
  void overwrite(int32_t id) { touch(id, false, true); }  // written whole: nothing is fetched
  void flush();                                           // dirty rows go to slow memory
  [[nodiscard]] const Words& traffic() const noexcept { return traffic_; }

 private:
  struct Row {
    int32_t newer = -1;
    int32_t older = -1;
    int32_t width = 0;
    bool resident = false;
    bool dirty = false;
  };
  void touch(int32_t id, bool fetches, bool writes);
  void unlink(int32_t id);
  void evict_oldest();

  int64_t capacity_;
  int64_t used_ = 0;
  int32_t newest_ = -1;
  int32_t oldest_ = -1;
  std::vector<Row> rows_;
  Words traffic_;
};

// Traffic of one head of length x length x dim, no mask, through a cache of `memory` words.
// Algorithm 1: keys and values stay, queries and outputs stream by; the paper's block sizes.
[[nodiscard]] Words simulate_algorithm1(int64_t length, int64_t dim, int64_t memory);
// Query tiles outside, the mirror image: B_r = ceil(memory / 4d), B_c = min(B_r, d).
[[nodiscard]] Words simulate_tiled(int64_t length, int64_t dim, int64_t memory);
// Three passes with S and P in slow memory; products in tiles of the same size.
[[nodiscard]] Words simulate_standard(int64_t length, int64_t dim, int64_t memory);

}  // namespace tilewise::io_model
