// SPDX-License-Identifier: Apache-2.0
#include "schedule/cache_sim.h"

#include <algorithm>

namespace tilewise::io_model {

int32_t LruCache::add_rows(int64_t rows, int64_t width) {
  const auto first = static_cast<int32_t>(rows_.size());
  Row row;
  row.width = static_cast<int32_t>(width);
  rows_.resize(rows_.size() + static_cast<size_t>(rows), row);
  return first;
}

void LruCache::unlink(int32_t id) {
  const Row& row = rows_[static_cast<size_t>(id)];
  (row.newer < 0 ? newest_ : rows_[static_cast<size_t>(row.newer)].older) = row.older;
  (row.older < 0 ? oldest_ : rows_[static_cast<size_t>(row.older)].newer) = row.newer;
}

void LruCache::evict_oldest() {
  const int32_t id = oldest_;
  unlink(id);
  Row& row = rows_[static_cast<size_t>(id)];
  if (row.dirty) traffic_.written += row.width;
  row.resident = row.dirty = false;
  used_ -= row.width;
}

void LruCache::touch(int32_t id, bool fetches, bool writes) {
  Row& row = rows_[static_cast<size_t>(id)];
  if (row.resident) {
    if (newest_ != id) unlink(id);
  } else {
    if (fetches) traffic_.read += row.width;
    row.resident = true;
    used_ += row.width;
  }
  row.dirty |= writes;
  if (newest_ != id) {
    row.newer = -1;
    row.older = newest_;
    (newest_ < 0 ? oldest_ : rows_[static_cast<size_t>(newest_)].newer) = id;
    newest_ = id;
  }
  while (used_ > capacity_) evict_oldest();
}

void LruCache::flush() {
  for (Row& row : rows_) {
    if (row.dirty) traffic_.written += row.width;
    row.dirty = false;
  }
}

Words simulate_algorithm1(int64_t length, int64_t dim, int64_t memory) {
  const Blocks blocks = paper_blocks(memory, dim);
  LruCache cache(memory);
  const auto rows = [&](int64_t width) { return cache.add_rows(length, width); };
  const int32_t q = rows(dim), k = rows(dim), v = rows(dim), o = rows(dim), state = rows(2);
  const int32_t p = cache.add_rows(1, std::min(blocks.keys, length));  // one row of S and P
  for (int64_t j0 = 0; j0 < length; j0 += blocks.keys) {
    const auto j1 = static_cast<int32_t>(std::min(j0 + blocks.keys, length));
    for (int32_t i = 0; i < length; ++i) {  // the tiles of queries follow one another
      cache.read(q + i);
      for (auto j = static_cast<int32_t>(j0); j < j1; ++j) cache.read(k + j);
      cache.overwrite(p);
      for (auto j = static_cast<int32_t>(j0); j < j1; ++j) cache.read(v + j);
      // The first block of keys finds O = 0, l = 0, m = -inf and need not fetch them.
      if (j0 == 0) {
        cache.overwrite(o + i);
        cache.overwrite(state + i);
      } else {
        cache.update(o + i);
        cache.update(state + i);
      }
    }
  }
  cache.flush();
  return cache.traffic();
}

Words simulate_tiled(int64_t length, int64_t dim, int64_t memory) {
  const int64_t tile = paper_blocks(memory, dim).keys;
  LruCache cache(memory);
  const auto rows = [&](int64_t width) { return cache.add_rows(length, width); };
  const int32_t q = rows(dim), k = rows(dim), v = rows(dim), o = rows(dim), lse = rows(1);
  const int32_t p = cache.add_rows(1, std::min(tile, length));          // one column of S and P
  const int32_t state = cache.add_rows(1, 2 * std::min(tile, length));  // m and l of the tile
  for (int64_t i0 = 0; i0 < length; i0 += tile) {
    const auto i1 = static_cast<int32_t>(std::min(i0 + tile, length));
    for (int32_t j = 0; j < length; ++j) {  // the tiles of keys follow one another
      cache.read(k + j);
      for (auto i = static_cast<int32_t>(i0); i < i1; ++i) cache.read(q + i);
      cache.overwrite(p);
      cache.overwrite(state);
      cache.read(v + j);
      for (auto i = static_cast<int32_t>(i0); i < i1; ++i) {
        if (j == 0) {
          cache.overwrite(o + i);
        } else {
          cache.update(o + i);
        }
      }
    }
    for (auto i = static_cast<int32_t>(i0); i < i1; ++i) cache.overwrite(lse + i);
  }
  cache.flush();
  return cache.traffic();
}

Words simulate_standard(int64_t length, int64_t dim, int64_t memory) {
  const int64_t tile = std::min(paper_blocks(memory, dim).keys, length);
  const int64_t tiles = (length + tile - 1) / tile;
  LruCache cache(memory);
  const auto rows = [&](int64_t width) { return cache.add_rows(length, width); };
  const int32_t q = rows(dim), k = rows(dim), v = rows(dim), o = rows(dim);
  // Row i of tile column j of S, and of P.
  const auto scores = [&] {
    std::vector<int32_t> first;
    for (int64_t j = 0; j < tiles; ++j)
      first.push_back(cache.add_rows(length, std::min(tile, length - j * tile)));
    return first;
  };
  const std::vector<int32_t> s = scores(), p = scores();
  // Calls row(i, j0, j1, t): query i, keys [j0, j1) of tile t, with the tile of keys kept.
  const auto for_each_row = [&](const auto& row) {
    for (int64_t t = 0; t < tiles; ++t)
      for (int32_t i = 0; i < length; ++i)
        row(i, static_cast<int32_t>(t * tile),
            static_cast<int32_t>(std::min((t + 1) * tile, length)), static_cast<size_t>(t));
  };
  for_each_row([&](int32_t i, int32_t j0, int32_t j1, size_t t) {
    cache.read(q + i);
    for (int32_t j = j0; j < j1; ++j) cache.read(k + j);
    cache.overwrite(s[t] + i);
  });
  for (int32_t i = 0; i < length; ++i) {
    for (size_t t = 0; t < s.size(); ++t) cache.read(s[t] + i);
    for (size_t t = 0; t < p.size(); ++t) cache.overwrite(p[t] + i);
  }
  for_each_row([&](int32_t i, int32_t j0, int32_t j1, size_t t) {
    cache.read(p[t] + i);
    for (int32_t j = j0; j < j1; ++j) cache.read(v + j);
    if (t == 0) {
      cache.overwrite(o + i);
    } else {
      cache.update(o + i);
    }
  });
  cache.flush();
  return cache.traffic();
}

}  // namespace tilewise::io_model
