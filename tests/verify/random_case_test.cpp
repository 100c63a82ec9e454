// SPDX-License-Identifier: Apache-2.0
// What `tilewise verify` draws: it must round-trip as text, be repeatable, and reach everything.
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "verify/case.h"

namespace tilewise::verify {
namespace {

constexpr uint64_t kCases = 3000;

TEST(RandomCase, RoundTripsAsText) {
  for (uint64_t n = 0; n < kCases; ++n) {
    const std::string text = case_text(random_case(7, n));
    ASSERT_EQ(case_text(case_from_text(text)), text);
    ASSERT_EQ(case_text(random_case(7, n)), text);
  }
  EXPECT_NE(case_text(random_case(7, 0)), case_text(random_case(8, 0)));
}

TEST(RandomCase, IsAValidProblem) {
  for (uint64_t n = 0; n < kCases; ++n) {
    const Case c = random_case(3, n);
    ASSERT_EQ(c.query_heads % c.kv_heads, 0) << case_text(c);
    ASSERT_LE(c.query_heads, 8) << case_text(c);
    ASSERT_LE(c.head_dim, 512) << case_text(c);
    if (c.is_packed) {
      ASSERT_EQ(c.query_length, c.kv_length) << case_text(c);
    }
    ASSERT_TRUE(c.output.reversed.empty() && c.output.broadcast.empty()) << case_text(c);
    ASSERT_TRUE(c.gradient.reversed.empty() && c.gradient.broadcast.empty()) << case_text(c);
  }
}

TEST(RandomCase, EveryFeatureIsDrawn) {
  std::map<std::string, std::set<std::string>> drawn;
  for (uint64_t n = 0; n < kCases; ++n) {
    for (const auto& [feature, value] : features(random_case(1, n))) drawn[feature].insert(value);
  }
  const std::map<std::string, size_t> expected = {
      {"dtype", 4},         {"mask", 5},         {"heads", 3},        {"lengths", 8},
      {"head_dim", 2},      {"bias", 9},         {"bias entries", 3}, {"key layout", 6},
      {"output layout", 3}, {"values", 7},       {"nan", 5},          {"grad_logsumexp", 2},
      {"scale", 2},         {"offsets", 2},      {"few queries", 5},  {"score", 3},
      {"sink", 6},          {"output dtype", 2}, {"dropout", 2}};
  EXPECT_EQ(drawn.size(), expected.size());
  for (const auto& [feature, values] : expected)
    EXPECT_EQ(drawn[feature].size(), values) << feature;
}

}  // namespace
}  // namespace tilewise::verify
