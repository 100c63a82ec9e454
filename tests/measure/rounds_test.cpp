// SPDX-License-Identifier: Apache-2.0
// Rounds return made-up seconds, so that nothing here depends on a clock.
#include "measure/rounds.h"

#include <gtest/gtest.h>

#include <atomic>

#include "tilewise/error.h"

namespace tilewise::measure {
namespace {

TEST(Samples, Statistics) {
  const Samples samples({4, 1, 3, 2});
  EXPECT_EQ(samples.min(), 1);
  EXPECT_EQ(samples.median(), 2.5);
  EXPECT_EQ(samples.percentile(100), 4);
  EXPECT_DOUBLE_EQ(samples.percentile(90), 3.7);
  EXPECT_EQ(samples.seconds().front(), 4) << "in order of measurement";
  EXPECT_EQ(Samples({7}).percentile(99), 7);
  EXPECT_EQ(Samples().median(), 0);
}

TEST(TimeRounds, AtLeastSoManyRoundsAndSeconds) {
  int calls = 0;
  const auto round = [&] { return ++calls, 0.25; };
  EXPECT_EQ(time_rounds(round, 3, 2.0).seconds().size(), 8u) << "2 s take 8 rounds";
  EXPECT_EQ(calls, 9) << "and one to warm up";
  EXPECT_EQ(time_rounds(round, 5, 0.5, 0).seconds().size(), 5u) << "5 rounds take more than 0.5 s";
}

TEST(TimeThreads, EachThreadRunsOnce) {
  for (const int threads : {1, 2, 5}) {
    std::vector<std::atomic<int>> runs(static_cast<size_t>(threads));
    EXPECT_GE(time_threads(threads, [&](int t) { ++runs[static_cast<size_t>(t)]; }), 0);
    for (const auto& count : runs) EXPECT_EQ(count.load(), 1);
  }
  EXPECT_THROW((void)time_threads(0, [](int) {}), InvalidArgument);
}

TEST(TimeOnce, RunsTheBody) {
  int calls = 0;
  EXPECT_GE(time_once([&] { ++calls; }), 0);
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace tilewise::measure
