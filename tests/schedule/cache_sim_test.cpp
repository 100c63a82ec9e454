// SPDX-License-Identifier: Apache-2.0
// The row cache against an LRU over single words, and the simulated loops at sizes where the
// answer is known.
#include "schedule/cache_sim.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <utility>
#include <vector>

#include "base/random.h"

namespace tilewise::io_model {
namespace {

// One word at a time, newest first: slow and obvious.
class WordCache {
 public:
  explicit WordCache(int64_t capacity) : capacity_(capacity) {}
  void touch(int64_t word, bool fetches, bool writes) {
    const auto found = std::find_if(words_.begin(), words_.end(),
                                    [&](const auto& entry) { return entry.first == word; });
    bool dirty = writes;
    if (found == words_.end()) {
      traffic.read += fetches;
    } else {
      dirty |= found->second;
      words_.erase(found);
    }
    words_.emplace_front(word, dirty);
    if (static_cast<int64_t>(words_.size()) > capacity_) {
      traffic.written += words_.back().second;
      words_.pop_back();
    }
  }
  void flush() {
    for (const auto& [word, dirty] : words_) traffic.written += dirty;
  }
  Words traffic;

 private:
  int64_t capacity_;
  std::list<std::pair<int64_t, bool>> words_;
};

TEST(LruCache, RowsEqualWords) {
  Random random(3);
  for (int round = 0; round < 60 && !HasFailure(); ++round) {
    const int64_t capacity = random.between(8, 60);
    LruCache rows(capacity);
    WordCache words(capacity);
    std::vector<int64_t> widths, begin;
    int64_t next = 0;
    for (int i = 0; i < 20; ++i) {
      widths.push_back(random.between(1, 8));
      begin.push_back(next);
      next += widths.back();
      EXPECT_EQ(rows.add_rows(1, widths.back()), i);
    }
    for (int step = 0; step < 500; ++step) {
      const auto id = static_cast<int32_t>(random.between(0, 19));
      const int64_t kind = random.between(0, 2);
      if (kind == 0) rows.read(id);
      if (kind == 1) rows.update(id);
      if (kind == 2) rows.overwrite(id);
      const auto i = static_cast<size_t>(id);
      for (int64_t w = 0; w < widths[i]; ++w) words.touch(begin[i] + w, kind != 2, kind != 0);
    }
    rows.flush();
    words.flush();
    EXPECT_EQ(rows.traffic(), words.traffic) << "capacity " << capacity << " round " << round;
  }
}

TEST(LruCache, ByHand) {
  LruCache cache(4);
  const int32_t a = cache.add_rows(3, 2);
  cache.read(a);           // 2 read
  cache.overwrite(a + 1);  // fits beside it
  cache.read(a);           // hit
  cache.read(a + 2);       // 2 read; a + 1 is the oldest and dirty: 2 written
  EXPECT_EQ(cache.traffic(), (Words{4, 2}));
  cache.read(a);  // still there
  EXPECT_EQ(cache.traffic(), (Words{4, 2}));
  cache.update(a + 1);  // 2 read, evicts a + 2 (clean)
  cache.flush();        // 2 written
  EXPECT_EQ(cache.traffic(), (Words{6, 4}));
}

TEST(CacheSim, EverythingFitsMovesEverythingOnce) {
  constexpr int64_t kN = 96, kD = 8;
  const int64_t roomy = 16 * kN * kD + 4 * kN * kN;
  EXPECT_EQ(simulate_tiled(kN, kD, roomy).read, 3 * kN * kD);
  EXPECT_EQ(simulate_algorithm1(kN, kD, roomy).read, 3 * kN * kD);
  EXPECT_EQ(simulate_standard(kN, kD, roomy).read, 3 * kN * kD);
}

TEST(CacheSim, StandardWritesAndReadsItsMatrices) {
  constexpr int64_t kN = 256, kD = 8;
  const Words words = simulate_standard(kN, kD, 4 * kN * kD);  // Q, K, V, O fit; S and P do not
  EXPECT_GE(words.total(), 4 * kN * kN);
  EXPECT_LE(words.total(), 4 * kN * kN + 6 * kN * kD);
}

}  // namespace
}  // namespace tilewise::io_model
