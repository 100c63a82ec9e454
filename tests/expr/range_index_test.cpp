// SPDX-License-Identifier: Apache-2.0
#include "expr/range_index.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "base/random.h"
#include "expr/mask_builder.h"

namespace tilewise::expr {
namespace {

// kind 0: ascending, 1: small and signed, 2: any.
std::vector<int32_t> values(int64_t size, int kind) {
  Random random(static_cast<uint64_t>(size), static_cast<uint64_t>(kind));
  std::vector<int32_t> data(static_cast<size_t>(size));
  int32_t id = -5;
  for (int32_t& x : data) {
    id += random.between(0, 6) == 0;
    x = kind == 0   ? id
        : kind == 1 ? static_cast<int32_t>(random.between(-100, 99))
                    : static_cast<int32_t>(random.bits());
  }
  return data;
}
void include(ValueRange& range, int32_t value) {
  range.interval = hull(range.interval, {value, value});
  range.set |= set_of_value(value);
}

TEST(RangeIndex, EveryRangeOfALine) {
  for (const int64_t size : {1, 63, 64, 65, 127, 128, 200, 321, 640}) {
    for (int kind = 0; kind < 3; ++kind) {
      const std::vector<int32_t> data = values(size, kind);
      const RangeIndex index(data.data(), &size, 1);
      for (int64_t first = 0; first < size; ++first) {
        ValueRange expected;
        for (int64_t last = first; last < size; ++last) {
          include(expected, data[static_cast<size_t>(last)]);
          const Interval box{first, last};
          const ValueRange found = index.over(&box);
          ASSERT_EQ(found.interval, expected.interval) << size << ' ' << first << ' ' << last;
          ASSERT_EQ(found.set & expected.set, expected.set);
          if (index.has_sets()) {
            ASSERT_EQ(found.set, expected.set);
          }
        }
      }
    }
  }
}

TEST(RangeIndex, EveryRectangle) {
  const std::vector<std::vector<int64_t>> shapes = {{1, 1}, {1, 9}, {7, 5}, {16, 17}, {3, 40}};
  for (const std::vector<int64_t>& shape : shapes) {
    const std::vector<int32_t> data = values(shape[0] * shape[1], 1);
    const RangeIndex index(data.data(), shape.data(), 2);
    for (int64_t y0 = 0; y0 < shape[0]; ++y0) {
      for (int64_t y1 = y0; y1 < shape[0]; ++y1) {
        for (int64_t x0 = 0; x0 < shape[1]; ++x0) {
          ValueRange expected;
          for (int64_t x1 = x0; x1 < shape[1]; ++x1) {
            for (int64_t y = y0; y <= y1; ++y)
              include(expected, data[static_cast<size_t>(y * shape[1] + x1)]);
            const Interval box[2] = {{y0, y1}, {x0, x1}};
            const ValueRange found = index.over(box);
            ASSERT_EQ(found.interval, expected.interval);
            ASSERT_EQ(found.set, expected.set);
          }
        }
      }
    }
  }
}

// Three and four axes: contains the box, may be wider.
TEST(RangeIndex, BoxesOfMoreAxes) {
  const std::vector<int64_t> shape = {2, 3, 4, 5};
  const std::vector<int32_t> data = values(120, 1);
  for (const int axes : {3, 4}) {
    const int64_t* extents = shape.data() + (4 - axes);
    const RangeIndex index(data.data(), extents, axes);
    Random random(3);
    for (int round = 0; round < 500; ++round) {
      Interval box[4];
      for (int i = 0; i < axes; ++i) {
        const int64_t a = random.between(0, extents[i] - 1), b = random.between(0, extents[i] - 1);
        box[i] = {std::min(a, b), std::max(a, b)};
      }
      const ValueRange found = index.over(box);
      for (int64_t flat = 0; flat < 120; ++flat) {
        int64_t rest = flat;
        bool inside = true;
        for (int i = axes - 1; i >= 0; --i) {
          inside = inside && box[i].contains(rest % extents[i]);
          rest /= extents[i];
        }
        if (!inside || rest != 0) continue;
        const int32_t value = data[static_cast<size_t>(flat)];
        ASSERT_TRUE(found.interval.contains(value));
        ASSERT_NE(found.set & set_of_value(value), 0u);
      }
    }
  }
}

TEST(RangeIndex, IndicesAreClamped) {
  const std::vector<int32_t> data = {7, 3, 9};
  const int64_t size = 3;
  const RangeIndex index(data.data(), &size, 1);
  const Interval below{kMinInt, -1}, above{3, kMaxInt}, all = kAnyInteger;
  EXPECT_EQ(index.over(&below).interval, (Interval{7, 7}));
  EXPECT_EQ(index.over(&above).interval, (Interval{9, 9}));
  EXPECT_EQ(index.over(&all).interval, (Interval{3, 9}));
}

TEST(RangeIndexCache, ManyThreadsShareOneIndexPerSlice) {
  const std::shared_ptr<const IntTable> table = int_table(values(3 * 200, 2), {3, 200});
  const RangeIndex* seen[4][3] = {};
  std::vector<std::thread> threads;
  for (auto& mine : seen) {
    threads.emplace_back([&table, &mine] {
      for (int64_t row = 0; row < 3; ++row)
        mine[row] = &table->range_indices.slice(*table, 1, row * 200);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int64_t row = 0; row < 3; ++row) {
    const Interval box{10, 190};
    ValueRange expected;
    for (int64_t i = 10; i <= 190; ++i)
      include(expected, table->data[static_cast<size_t>(row * 200 + i)]);
    EXPECT_EQ(seen[0][row]->over(&box).interval, expected.interval);
    for (const auto& mine : seen) EXPECT_EQ(mine[row], seen[0][row]);
  }
}

TEST(RangeIndexCache, ACopyOfATableReadsItsOwnData) {
  IntTable original{{5, 1, 4}, {3}};
  const Interval all{0, 2};
  EXPECT_EQ(original.range_indices.slice(original, 1, 0).over(&all).interval, (Interval{1, 5}));
  IntTable copy = original;
  copy.data = {50, 10, 40};
  EXPECT_EQ(copy.range_indices.slice(copy, 1, 0).over(&all).interval, (Interval{10, 50}));
}

}  // namespace
}  // namespace tilewise::expr
