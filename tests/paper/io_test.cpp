// SPDX-License-Identifier: Apache-2.0
// [Dao22] section 3.2, counted and simulated: the IO model is what the loops move, and what a cache
// sees of them follows Theorem 2.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/random.h"
#include "schedule/cache_sim.h"
#include "schedule/count.h"
#include "schedule/io_model.h"

namespace tilewise::io_model {
namespace {

struct Drawn {
  Sizes sizes;
  Band band;
  int64_t query_tile, key_tile;
};

std::ostream& operator<<(std::ostream& out, const Drawn& c) {
  const Sizes& s = c.sizes;
  return out << "B " << s.batch << " H " << s.query_heads << "/" << s.kv_heads << " N "
             << s.query_length << " M " << s.kv_length << " d " << s.head_dim << " e "
             << s.value_dim << " band [" << c.band.lo << ", " << c.band.hi << "] tiles "
             << c.query_tile << " x " << c.key_tile;
}

Drawn draw(Random& random) {
  Drawn c;
  c.sizes.batch = random.between(1, 3);
  c.sizes.kv_heads = random.between(1, 3);
  c.sizes.query_heads = c.sizes.kv_heads * random.between(1, 4);
  c.sizes.query_length = random.between(0, 300);
  c.sizes.kv_length = random.between(0, 300);
  c.sizes.head_dim = random.between(1, 80);
  c.sizes.value_dim = random.between(1, 80);
  c.query_tile = random.between(1, 96);
  c.key_tile = random.between(1, 96);
  switch (random.between(0, 3)) {
    case 0:
      break;
    case 1:
      c.band.hi = c.sizes.kv_length - c.sizes.query_length;
      break;  // causal
    case 2:
      c.band = {-random.between(0, 60), random.between(0, 60)};
      break;
    default:
      c.band = {random.between(-400, 400), random.between(-400, 400)};  // often empty
  }
  return c;
}

TEST(IoModel, FormulasEqualCountsIntegerForInteger) {
  Random random(5);
  for (int i = 0; i < 1000 && !HasFailure(); ++i) {
    const Drawn c = draw(random);
    SCOPED_TRACE(testing::Message() << c);
    const int64_t n = c.sizes.query_length, m = c.sizes.kv_length;
    const TileRowList by_query = tile_rows_by_query(c.band, n, m, c.query_tile, c.key_tile);
    const TileRowList by_key = tile_rows_by_key(c.band, n, m, c.query_tile, c.key_tile);
    const TileCounts query_counts = count_tiles(by_query, n, m);
    const TileCounts key_counts = count_tiles(by_key, m, n);
    const auto counted = [](const auto& walk) {
      Counter counter;
      walk(counter);
      return counter.total();
    };
    const Sizes& s = c.sizes;
    EXPECT_EQ(tiled_forward(s, query_counts), counted([&](Counter& counter) {
                walk_forward(s, by_query.view(), c.query_tile, c.key_tile, counter);
              }));
    EXPECT_EQ(tiled_backward_prepare(s),
              counted([&](Counter& counter) { walk_backward_prepare(s, counter); }));
    EXPECT_EQ(tiled_backward(s, key_counts), counted([&](Counter& counter) {
                walk_backward(s, by_key.view(), c.query_tile, c.key_tile, counter);
              }));
    EXPECT_EQ(algorithm1_forward(s, key_counts), counted([&](Counter& counter) {
                walk_algorithm1(s, by_key.view(), c.query_tile, c.key_tile, counter);
              }));
    EXPECT_EQ(algorithm4_backward(s, key_counts), counted([&](Counter& counter) {
                walk_algorithm4(s, by_key.view(), c.query_tile, c.key_tile, counter);
              }));
    const int64_t chunk = random.between(1, 60), rows = random.between(1, 20);
    const int64_t first = random.between(0, m), last = random.between(first, m);
    if (last > first && n > 0) {
      const int64_t group_rows = s.query_heads / s.kv_heads * n;
      EXPECT_EQ(
          decode_forward(s, last - first, (last + chunk - 1) / chunk - first / chunk,
                         (group_rows + rows - 1) / rows),
          counted([&](Counter& counter) { walk_decode(s, first, last, chunk, rows, counter); }));
    }
    const int64_t passes = random.between(0, 3);
    EXPECT_EQ(standard_forward(s, passes),
              counted([&](Counter& counter) { walk_standard_forward(s, passes, counter); }));
    EXPECT_EQ(standard_backward(s, passes),
              counted([&](Counter& counter) { walk_standard_backward(s, passes, counter); }));
  }
}

// What a cache of M words sees of one head of N x d.
constexpr int64_t kN = 2048, kD = 16;
constexpr Sizes kHead{1, 1, 1, kN, kN, kD, kD};
using Simulate = Words (*)(int64_t length, int64_t dim, int64_t memory);

// Capacities first, first * sqrt(2), ... up to last.
std::vector<int64_t> capacities(double first, double last) {
  std::vector<int64_t> result;
  for (double memory = first; memory < last * 1.01; memory *= std::sqrt(2.0))
    result.push_back(std::llround(memory));
  return result;
}

// Of the line through (log x, log y), least squares.
double log_slope(const std::vector<int64_t>& x, const std::vector<int64_t>& y) {
  double mx = 0, my = 0, xy = 0, xx = 0;
  const auto n = static_cast<double>(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    mx += std::log(static_cast<double>(x[i])) / n;
    my += std::log(static_cast<double>(y[i])) / n;
  }
  for (size_t i = 0; i < x.size(); ++i) {
    const double dx = std::log(static_cast<double>(x[i])) - mx;
    xy += dx * (std::log(static_cast<double>(y[i])) - my);
    xx += dx * dx;
  }
  return xy / xx;
}

class SimulatedCache : public testing::TestWithParam<Simulate> {};

TEST_P(SimulatedCache, TrafficFallsAsOneOverMemory) {
  const std::vector<int64_t> memory = capacities(4 * kD * kD, kN * kD / 4.0);
  ASSERT_GE(memory.size(), 7u);
  std::vector<int64_t> traffic;
  for (const int64_t words : memory) traffic.push_back(GetParam()(kN, kD, words).total());
  EXPECT_NEAR(log_slope(memory, traffic), -1.0, 0.1);
  for (size_t i = 0; i < memory.size(); ++i)
    EXPECT_GE(traffic[i], forward_lower_bound(kHead, memory[i])) << "M = " << memory[i];
}

TEST_P(SimulatedCache, KneeIsWhereTheSequenceFits) {
  const int64_t compulsory = forward_lower_bound(kHead, int64_t{1} << 40);
  EXPECT_EQ(compulsory, 4 * kN * kD);
  int64_t knee = 0;  // the smallest capacity that moves little more than inputs and output
  for (const int64_t memory : capacities(kN * kD / 4.0, 16.0 * kN * kD)) {
    const int64_t traffic = GetParam()(kN, kD, memory).total();
    EXPECT_GE(traffic, forward_lower_bound(kHead, memory)) << "M = " << memory;
    if (knee == 0 && traffic <= compulsory * 11 / 10) knee = memory;
    if (knee != 0) {
      EXPECT_LE(traffic, compulsory * 11 / 10) << "flat beyond the knee";
    }
  }
  EXPECT_GE(knee, kN * kD);
  EXPECT_LE(knee, 8 * kN * kD);
}

TEST_P(SimulatedCache, FormulaIsWhatTheCacheSees) {
  for (const int64_t memory : {4 * kD * kD, 16 * kD * kD, kN * kD / 4}) {
    const int64_t block = paper_blocks(memory, kD).keys;
    const int64_t formula =
        GetParam() == simulate_tiled
            ? tiled_forward(kHead, count_tiles(tile_rows_by_query({}, kN, kN, block, kD), kN, kN))
                  .total()
            : algorithm1_forward(kHead,
                                 count_tiles(tile_rows_by_key({}, kN, kN, kD, block), kN, kN))
                  .total();
    const auto seen = static_cast<double>(GetParam()(kN, kD, memory).total());
    EXPECT_NEAR(seen / static_cast<double>(formula), 1.0, 0.05) << "M = " << memory;
  }
}

INSTANTIATE_TEST_SUITE_P(Orders, SimulatedCache,
                         testing::Values(simulate_algorithm1, simulate_tiled),
                         [](const auto& order) {
                           return order.param == simulate_tiled ? "queries_outside"
                                                                : "keys_outside";
                         });

// 12 N^2 d^2 / M words of Algorithm 1 against 4 N^2 of standard attention: they meet at M = 3 d^2.
TEST(StandardAttention, CrossesAlgorithmOneAtThreeDSquared) {
  const int64_t standard = standard_forward(kHead).total();
  int64_t crossover = 0;
  for (int64_t memory = kD * kD; crossover == 0 && memory <= 8 * kD * kD; memory += kD * kD / 4)
    if (simulate_algorithm1(kN, kD, memory).total() <= standard) crossover = memory;
  EXPECT_GE(crossover, 5 * kD * kD / 2);
  EXPECT_LE(crossover, 7 * kD * kD / 2);
}

TEST(StandardAttention, CacheDoesNotHelpUntilTheMatrixFits) {
  const int64_t formula = standard_forward(kHead).total();
  for (const int64_t memory : {16 * kD * kD, kN * kD, 8 * kN * kD}) {
    const int64_t seen = simulate_standard(kN, kD, memory).total();
    EXPECT_GE(seen, 4 * kN * kN) << "M = " << memory;
    EXPECT_LE(seen, formula * 5 / 4) << "M = " << memory;
    EXPECT_GT(seen, 5 * simulate_tiled(kN, kD, memory).total()) << "M = " << memory;
  }
}

}  // namespace
}  // namespace tilewise::io_model
