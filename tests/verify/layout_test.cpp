// SPDX-License-Identifier: Apache-2.0
#include "verify/layout.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "tilewise/error.h"

namespace tilewise::verify {
namespace {

std::vector<int64_t> strides(const char* text, int64_t b, int64_t h, int64_t s, int64_t d) {
  const Placement p = place(layout_from_text(text), {b, h, s, d});
  return {p.strides[0], p.strides[1], p.strides[2], p.strides[3]};
}
using Strides = std::vector<int64_t>;

TEST(Layout, OrdersAreStrides) {
  EXPECT_EQ(strides("bhsd", 2, 3, 5, 7), (Strides{105, 35, 7, 1}));
  EXPECT_EQ(strides("bshd", 2, 3, 5, 7), (Strides{105, 7, 21, 1}));
  EXPECT_EQ(strides("bhds", 2, 3, 5, 7), (Strides{105, 35, 1, 5}));
}

TEST(Layout, GapStepReversedAndBroadcast) {
  EXPECT_EQ(strides("bhsd+1", 2, 3, 5, 7), (Strides{120, 40, 8, 1}));
  EXPECT_EQ(strides("bhsd/2", 2, 3, 5, 7), (Strides{210, 70, 14, 2}));
  EXPECT_EQ(strides("bhsd~s", 2, 3, 5, 7), (Strides{105, 35, -7, 1}));
  EXPECT_EQ(strides("bhsd*h", 2, 3, 5, 7), (Strides{35, 0, 7, 1}));
}

TEST(Layout, EveryElementIsInsideTheAllocation) {
  for (const char* text : {"bhsd", "bshd~h+3/2", "dshb~b~s", "bhsd*b~d", "hbsd*h*b/3"}) {
    const Placement p = place(layout_from_text(text), {2, 3, 4, 5});
    std::set<int64_t> used;
    for (int64_t n = 0; n < 2 * 3 * 4 * 5; ++n) {
      const int64_t index = p.origin + n / 60 * p.strides[0] + n / 20 % 3 * p.strides[1] +
                            n / 5 % 4 * p.strides[2] + n % 5 * p.strides[3];
      used.insert(index);
    }
    EXPECT_EQ(*used.begin(), 0) << text;
    EXPECT_EQ(*used.rbegin(), p.elements - 1) << text;
    const bool is_broadcast = std::string(text).find('*') != std::string::npos;
    EXPECT_EQ(used.size() == 120, !is_broadcast) << text;
  }
}

TEST(Layout, TextRoundTrips) {
  for (const char* text : {"bhsd", "bshd+3", "bhds~s*h+3/2", "sbhd~b~d"}) {
    EXPECT_EQ(layout_text(layout_from_text(text)), text);
  }
}

TEST(Layout, NonsenseIsRefused) {
  for (const char* text :
       {"", "bhs", "bhss", "bhsd~", "bhsd~x", "bhsd+", "bhsd/0", "bhsd?", "bhsd+99999"}) {
    EXPECT_THROW((void)layout_from_text(text), InvalidArgument) << text;
  }
}

TEST(Layout, EmptyTensorsNeedNoMemory) {
  const Placement p = place(layout_from_text("bhsd~s"), {2, 3, 0, 5});
  EXPECT_EQ(p.elements, 0);
  EXPECT_EQ(p.origin, 0);
}

}  // namespace
}  // namespace tilewise::verify
