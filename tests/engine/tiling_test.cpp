// SPDX-License-Identifier: Apache-2.0
#include "engine/tiling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <numeric>
#include <vector>

#include "base/random.h"
#include "engine/stub_plan.h"
#include "kernels/cpu/registry.h"

namespace tilewise {
namespace {

int64_t query_tile(int64_t batch, int64_t heads, int64_t length, int threads) {
  const Kernel kernel = testing::stub_kernel();  // queries in units of 8
  return choose_geometry(testing::kStubTiles, kernel, {batch, heads, heads, length, length, 64, 64},
                         threads)
      .query_tile;
}

TEST(Tiling, OneThreadKeepsTheTilesOfThePlan) { EXPECT_EQ(query_tile(1, 1, 4096, 1), 64); }

TEST(Tiling, ManyItemsKeepTheTilesOfThePlan) {
  EXPECT_EQ(query_tile(8, 12, 512, 2), 64);
  EXPECT_EQ(query_tile(1, 1, 4096, 8), 64);
}

TEST(Tiling, FewItemsShortenTheTileInUnits) {
  // 1 head, 2 threads: 8 items wanted of 200 queries: 25 each, in units of 8.
  EXPECT_EQ(query_tile(1, 1, 200, 2), 32);
  // 2 heads: 4 items each.
  EXPECT_EQ(query_tile(1, 2, 200, 2), 56);
  EXPECT_EQ(query_tile(1, 1, 16, 8), 8);
}

TEST(Tiling, ShortSequencesShortenTheTile) {
  EXPECT_EQ(query_tile(8, 12, 1, 1), 8);
  EXPECT_EQ(query_tile(8, 12, 17, 1), 24);
  EXPECT_EQ(query_tile(0, 12, 0, 4), 8);
}

TEST(Tiling, QueriesAreDividedEvenly) {
  EXPECT_EQ(query_tile(1, 1, 65, 1), 40);    // 2 tiles, not 64 + 1
  EXPECT_EQ(query_tile(1, 1, 1000, 1), 64);  // 16 tiles of 62.5
}

TEST(Tiling, TheOtherTilesStay) {
  const Geometry geometry =
      choose_geometry(testing::kStubTiles, testing::stub_kernel(), {1, 1, 1, 100, 100, 64, 64}, 4);
  EXPECT_EQ(geometry.key_tile, 32);
  EXPECT_EQ(geometry.backward_query_tile, 16);
  EXPECT_EQ(geometry.backward_key_tile, 16);
}

TEST(Tiling, LongestBoundsEveryShorterStep) {
  const Kernel kernel = testing::stub_kernel();
  for (int64_t most = 0; most <= 200; ++most) {
    const int64_t bound = longest_geometry(testing::kStubTiles, kernel, most).query_tile;
    EXPECT_LE(bound, std::max<int64_t>(round_up(most, 8), 8)) << "no more than needed";
    for (int64_t length = 0; length <= most; ++length) {
      for (const int threads : {1, 3}) {
        EXPECT_LE(query_tile(1, 1, length, threads), bound) << length << " of " << most;
      }
    }
  }
}

TEST(Tiling, FollowsTheBlocksOfAMask) {
  const Kernel kernel = testing::stub_kernel();  // rows in groups of 8
  const Geometry tiles = {480, 256, 96, 192};
  const auto follow = [&](int64_t queries, int64_t keys) {
    return follow_blocks(tiles, kernel, {queries, keys});
  };
  const auto expect = [](const Geometry& is, const Geometry& expected) {
    EXPECT_EQ(is.query_tile, expected.query_tile);
    EXPECT_EQ(is.key_tile, expected.key_tile);
    EXPECT_EQ(is.backward_query_tile, expected.backward_query_tile);
    EXPECT_EQ(is.backward_key_tile, expected.backward_key_tile);
  };
  expect(follow(0, 0), tiles);
  expect(follow(128, 128), {128, 128, 64, 128});    // 128 = 2 blocks of 64 queries
  expect(follow(0, 64), {480, 64, 96, 64});         // an axis without blocks
  expect(follow(16, 24), {64, 72, 64, 72});         // several short blocks
  expect(follow(1024, 1024), {256, 256, 64, 128});  // equal parts of long blocks
  expect(follow(1000, 1000), {250, 200, 96, 192});  // of whole groups, not too short
  expect(follow(0, 1021), tiles);                   // a prime
  constexpr int64_t kHuge = (int64_t{1} << 62) + 1;
  expect(follow(kHuge, kHuge), tiles);
}

TEST(Tiling, SmallestBlockTilesBoundEveryOther) {
  const Kernel kernel = testing::stub_kernel();
  for (const Geometry& tiles :
       {Geometry{480, 256, 96, 192}, Geometry{64, 32, 16, 16}, Geometry{8, 8, 8, 8}}) {
    const int64_t least_queries = shortest_block_tile(tiles.backward_query_tile),
                  least_keys = shortest_block_tile(tiles.backward_key_tile);
    for (int64_t block = 1; block < 3000; ++block) {
      const Geometry geometry = follow_blocks(tiles, kernel, {block, block});
      ASSERT_GE(geometry.backward_query_tile, least_queries) << block;
      ASSERT_GE(geometry.backward_key_tile, least_keys) << block;
      ASSERT_LE(geometry.query_tile, tiles.query_tile) << block;
      ASSERT_GE(geometry.query_tile, kLeastTile) << block;
      ASSERT_LE(geometry.key_tile, tiles.key_tile) << block;
      for (const int64_t tile : {geometry.query_tile, geometry.key_tile}) {
        const bool is_plain = tile == tiles.query_tile || tile == tiles.key_tile;
        ASSERT_TRUE(is_plain || tile % block == 0 || block % tile == 0) << block;
      }
    }
  }
}

Machine machine_with(int64_t l1_kib, int64_t l2_kib) {
  Machine machine;
  machine.caches.l1_data = l1_kib * 1024;
  machine.caches.l2 = l2_kib * 1024;
  return machine;
}

// From the smallest caches to the largest.
const Machine kMachines[] = {machine_with(32, 256),  machine_with(32, 512),
                             machine_with(32, 1024), machine_with(48, 1024),
                             machine_with(48, 2048), machine_with(64, 2048),
                             machine_with(64, 4096), machine_with(192, 16384)};

constexpr int64_t Geometry::*kSizes[] = {&Geometry::query_tile, &Geometry::key_tile,
                                         &Geometry::backward_query_tile,
                                         &Geometry::backward_key_tile};

std::vector<const Kernel*> all_kernels() {
  std::vector<const Kernel*> kernels;
  for (const KernelTable* table : supported_kernels()) {
    kernels.insert(kernels.end(), std::begin(table->kernels), std::end(table->kernels));
  }
  return kernels;
}

TEST(TilingModel, IsWithinTheLimitsOfEveryKernel) {
  for (const Kernel* kernel : all_kernels()) {
    for (const Machine& machine : kMachines) {
      for (const int64_t dim : {1, 8, 63, 64, 65, 128, 200, 256, 512}) {
        const Geometry tiles = model_geometry(*kernel, dim, dim, machine);
        for (const auto size : kSizes) {
          EXPECT_EQ(tiles.*size % (kernel->limits.unit.*size), 0);
          EXPECT_GE(tiles.*size, kernel->limits.unit.*size);
          EXPECT_LE(tiles.*size, kernel->limits.max.*size);
        }
      }
    }
  }
}

TEST(TilingModel, LargerCachesNeverShortenATile) {
  for (const Kernel* kernel : all_kernels()) {
    for (const int64_t dim : {16, 64, 128, 256, 512}) {
      Geometry before{};
      for (const Machine& machine : kMachines) {
        const Geometry tiles = model_geometry(*kernel, dim, dim, machine);
        for (const auto size : kSizes) EXPECT_GE(tiles.*size, before.*size) << dim;
        before = tiles;
      }
    }
  }
}

TEST(TilingModel, LongerHeadsNeverLengthenATile) {
  for (const Kernel* kernel : all_kernels()) {
    for (const Machine& machine : kMachines) {
      Geometry before = kernel->limits.max;
      for (const int64_t dim : {16, 64, 128, 256, 512}) {
        const Geometry tiles = model_geometry(*kernel, dim, dim, machine);
        for (const auto size : kSizes) EXPECT_LE(tiles.*size, before.*size) << dim;
        before = tiles;
      }
    }
  }
}

TEST(TilingModel, UnknownCachesAreTakenForSmallOnes) {
  for (const Kernel* kernel : all_kernels()) {
    const Geometry unknown = model_geometry(*kernel, 64, 64, Machine{});
    const Geometry small = model_geometry(*kernel, 64, 64, machine_with(32, 256));
    for (const auto size : kSizes) EXPECT_EQ(unknown.*size, small.*size);
  }
}

// A kernel with 48 lanes of fp32 and a head of 64: what is chosen on machines that are not here.
TEST(TilingModel, ChoosesForMachinesOfAllSizes) {
  Kernel kernel = testing::stub_kernel();
  kernel.limits = {.unit = {48, 8, 8, 48}, .max = {768, 256, 256, 768}};
  kernel.tile_bytes = [](int64_t head_dim, int64_t value_dim) {
    const int64_t row = 4 * (head_dim + value_dim);
    return TileBytes{.query = row,
                     .key = row,
                     .backward_query = 2 * row,
                     .backward_key = 2 * row + 1024,
                     .backward_scores = 192};
  };
  struct {
    const char* name;
    Machine machine;
    Geometry tiles;
  } const cases[] = {
      {"unknown", Machine{}, {96, 64, 32, 48}},
      {"Zen 2", machine_with(32, 512), {144, 128, 64, 96}},
      {"Zen 4", machine_with(32, 1024), {288, 256, 80, 192}},
      {"Neoverse", machine_with(64, 1024), {288, 256, 128, 192}},
      {"Emerald Rapids", machine_with(48, 2048), {528, 256, 128, 192}},
      {"M", machine_with(192, 16384), {528, 256, 256, 192}},
  };
  for (const auto& c : cases) {
    const Geometry tiles = model_geometry(kernel, 64, 64, c.machine);
    for (const auto size : kSizes) EXPECT_EQ(tiles.*size, c.tiles.*size) << c.name;
  }
}

// The sizes written out: a row of 64 + 64 floats takes 512 bytes.
TEST(TilingModel, DividesTheCachesAsStated) {
  const Kernel kernel = testing::stub_kernel();
  const Geometry small = model_geometry(kernel, 64, 64, machine_with(16, 512));
  EXPECT_EQ(small.query_tile, 128);          // 64 KiB / 512
  EXPECT_EQ(small.key_tile, 128);            // 64 KiB / 512
  EXPECT_EQ(small.backward_query_tile, 64);  // 64 KiB / 1024, less than 8 KiB / 32
  EXPECT_EQ(small.backward_key_tile, 192);   // at most; 256 KiB / 1024 = 256
  const Geometry large = model_geometry(kernel, 64, 64, machine_with(8, 16384));
  EXPECT_EQ(large.query_tile, 512);           // at most
  EXPECT_EQ(large.key_tile, 256);             // the kernel's most
  EXPECT_EQ(large.backward_query_tile, 128);  // 4 KiB / 32
}

TEST(Tiling, WorkersNeedWorkAndItems) {
  EXPECT_EQ(choose_workers(0, 0, 8), 1);
  EXPECT_EQ(choose_workers(2 * kFlopsPerWorker - 1, 100, 8), 1);
  EXPECT_EQ(choose_workers(2 * kFlopsPerWorker, 100, 8), 2);
  EXPECT_EQ(choose_workers(int64_t{1} << 62, 100, 8), 8);
  EXPECT_EQ(choose_workers(int64_t{1} << 62, 3, 8), 3);
}

// Heads of one part.
BackwardShares shares_of(int64_t heads, int workers) {
  return HeadBalance(3.0 * static_cast<double>(heads), workers).share(heads, 7, 3);
}

TEST(Tiling, SharesCoverEveryHeadOnce) {
  for (int workers = 1; workers <= 9; ++workers) {
    for (int64_t heads = 0; heads <= 30; ++heads) {
      const BackwardShares shares = shares_of(heads, workers);
      EXPECT_EQ(shares.whole_heads + shares.shared_heads, heads);
      EXPECT_EQ(shares.whole_heads % workers, 0);
      EXPECT_LT(shares.shared_heads, workers);
      EXPECT_EQ(shares.claims(), shares.whole_heads + 7 * shares.shared_heads);
    }
  }
}

TEST(Tiling, MaxSlotsBoundsEverySmallerSchedule) {
  for (int threads = 1; threads <= 6; ++threads) {
    for (int64_t most = 0; most <= 20; ++most) {
      int64_t needed = 0;
      for (int workers = 1; workers <= threads; ++workers) {
        for (int64_t heads = 0; heads <= most; ++heads) {
          const BackwardShares shares = shares_of(heads, workers);
          needed = std::max(needed,
                            std::min<int64_t>(shares.whole_heads, workers) + shares.shared_heads);
        }
      }
      EXPECT_EQ(max_slots(most, threads), needed) << most << " heads, " << threads << " threads";
    }
  }
}

// A head is whole where a worker can take it and still be done no later than the average.
TEST(Tiling, HeadsOfUnequalPartsAreBalanced) {
  Random random(20261126, 1);
  for (int round = 0; round < 300; ++round) {
    const int workers = static_cast<int>(1 + random.between(0, 8));
    std::vector<double> works;
    for (int64_t n = random.between(0, 11); n >= 0; --n)
      works.push_back(static_cast<double>(1 + random.between(0, round % 2 == 0 ? 9 : 9999)));
    std::sort(works.rbegin(), works.rend());
    double total = 0;
    const int64_t heads = 1 + random.between(0, 3);
    for (const double work : works) total += work * static_cast<double>(heads);
    HeadBalance balance(total, workers);
    // The workers as they will be: each takes the next claim when it is done.
    std::vector<double> loads(static_cast<size_t>(workers));
    int64_t whole = 0, shared = 0;
    for (const double work : works) {
      const BackwardShares shares = balance.share(heads, 5, work);
      EXPECT_EQ(shares.heads(), heads);
      EXPECT_EQ(shares.claims(), shares.whole_heads + 5 * shares.shared_heads);
      whole += shares.whole_heads;
      shared += shares.shared_heads;
      for (int64_t i = 0; i < shares.whole_heads; ++i)
        *std::min_element(loads.begin(), loads.end()) += work;
      if (shares.shared_heads == 0) continue;
      const double sum = std::accumulate(loads.begin(), loads.end(), 0.0) +
                         work * static_cast<double>(shares.shared_heads);
      std::fill(loads.begin(), loads.end(), sum / workers);
    }
    EXPECT_LT(shared, workers);
    EXPECT_LE(std::min<int64_t>(whole, workers) + shared,
              max_slots(heads * static_cast<int64_t>(works.size()), workers));
    if (shared == workers - 1) continue;
    EXPECT_LE(*std::max_element(loads.begin(), loads.end()), total / workers * (1 + 1e-9));
  }
}

TEST(Tiling, CopiesOfTableSums) {
  EXPECT_EQ(table_copies(0, 100), 0);
  EXPECT_EQ(table_copies(12, 100), 64);
  EXPECT_EQ(table_copies(12, 5), 5);
  EXPECT_EQ(table_copies(kTableSums / 8, 100), 8);
  EXPECT_EQ(table_copies(kTableSums, 100), 4);
}

TEST(Tiling, MaxTableSumsBoundsEverySmallerTable) {
  for (const int64_t heads : {0, 1, 3, 20, 64, 1000}) {
    int64_t needed = 0;
    for (int64_t elements = 0; elements < kTableSums / 2; elements += 1 + elements / 9) {
      needed = std::max(needed, table_copies(elements, heads) * elements);
      EXPECT_GE(max_table_sums(elements, heads), needed) << elements << " " << heads;
      EXPECT_LE(max_table_sums(elements, heads), heads * elements);
    }
  }
}

}  // namespace
}  // namespace tilewise
