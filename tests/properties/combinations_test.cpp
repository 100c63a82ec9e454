// SPDX-License-Identifier: Apache-2.0
// Everything together: problems in which every two values of two options meet at least once. The
// table of all of them is what a run of this test prints.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "support/sanitizers.h"
#include "tilewise/attention.h"
#include "verify/case.h"
#include "verify/experiment.h"

namespace tilewise::test {
namespace {

constexpr int kCombinations = 220;
// Of the combinations, a test each; under ThreadSanitizer a quarter of them.
constexpr int kSlices = 20, kRunSlices = kThreadSanitizer ? kSlices / 4 : kSlices;

using Values = std::vector<std::string>;  // parts of a case line

// The first is the instruction set.
std::vector<Values> all_options() {
  return {
      available_isas(),
      {"dtype=fp32", "dtype=fp64", "dtype=bf16", "dtype=fp16"},
      {"", "mask=causal", "mask=window:20,3", "mask=\"layout[min(h, 3), min(k // 16, 4)] > 12\"",
       "mask=\"(q + k) % 3 != 0 or k <= q\""},
      {"", "score=softcap:cap=5", "score=\"s - slope[h % 4] * float(q - k) / 64\""},
      {"", "bias=bhnk", "bias=hk"},
      {"hq=4 hkv=4", "hq=4 hkv=2", "hq=4 hkv=1"},
      {"d=24 e=24", "d=24 e=40"},
      {"", "dropout=0.1", "dropout=0.37"},
      {"", "sink=mixed"},
      {"", "dlse=1"},
      // The last three are ragged batches, with tails: many queries, few, none at all.
      {"b=2 n=40 m=70", "b=2 n=50 m=50", "b=2 n=6 m=1100", "b=2 n=6 m=6",
       "n=80 m=80 lengths=41:41,0:0,20:20,17:17", "n=20 m=1200 lengths=5:1100,9:30,3:0",
       "n=90 m=130 lengths=70:33,0:12,1:80"},
      {"", "q=bshd k=bshd v=bshd o=bshd g=bshd", "packed=1"},
      {"", "nan=unseen"},
  };
}

// A packed tensor has one length and one width.
bool exclude(const std::string& a, const std::string& b) {
  const auto is_unpackable = [](const std::string& value) {
    return value == "d=24 e=40" || value == "b=2 n=40 m=70" || value == "b=2 n=6 m=1100" ||
           value.starts_with("n=20 m=1200") || value.starts_with("n=90 m=130");
  };
  return (a == "packed=1" && is_unpackable(b)) || (b == "packed=1" && is_unpackable(a));
}

using Pair = std::pair<std::pair<size_t, std::string>, std::pair<size_t, std::string>>;

Pair pair_of(size_t option_a, const std::string& a, size_t option_b, const std::string& b) {
  Pair pair{{option_a, a}, {option_b, b}};
  if (option_b < option_a) std::swap(pair.first, pair.second);
  return pair;
}

// Value by value, that which completes most pairs that have not been, then the rarest ones. The
// option that comes first changes from one combination to the next.
std::vector<Values> all_combinations(const std::vector<Values>& options) {
  std::vector<Values> combinations;
  std::map<Pair, int> uses;
  for (size_t n = 0; n < kCombinations; ++n) {
    Values chosen(options.size());
    std::vector<size_t> done;
    for (size_t i = 0; i < options.size(); ++i) {
      const size_t option = (n + i) % options.size(), count = options[option].size();
      std::pair<int64_t, int64_t> best = {-1, 0};
      for (size_t j = 0; j < count; ++j) {
        const std::string& value = options[option][(n + j) % count];
        int64_t fresh = 0, used = 0;
        bool is_allowed = true;
        for (const size_t other : done) {
          is_allowed = is_allowed && !exclude(value, chosen[other]);
          const int times = uses[pair_of(option, value, other, chosen[other])];
          fresh += times == 0;
          used += times;
        }
        if (!is_allowed || std::pair(fresh, -used) <= best) continue;
        best = {fresh, -used};
        chosen[option] = value;
      }
      for (const size_t other : done) ++uses[pair_of(option, chosen[option], other, chosen[other])];
      done.push_back(option);
    }
    combinations.push_back(chosen);
  }
  return combinations;
}

std::string line_of(const Values& combination, size_t number) {
  std::string line = "seed=" + std::to_string(number);
  for (size_t i = 1; i < combination.size(); ++i)
    line += combination[i].empty() ? "" : " " + combination[i];
  return line;
}

TEST(Combinations, EveryTwoValuesMeet) {
  const std::vector<Values> options = all_options();
  std::set<Pair> met;
  for (const Values& combination : all_combinations(options))
    for (size_t a = 0; a < options.size(); ++a)
      for (size_t b = a + 1; b < options.size(); ++b) {
        EXPECT_FALSE(exclude(combination[a], combination[b]));
        met.insert(pair_of(a, combination[a], b, combination[b]));
      }
  for (size_t a = 0; a < options.size(); ++a)
    for (size_t b = a + 1; b < options.size(); ++b)
      for (const std::string& x : options[a])
        for (const std::string& y : options[b])
          EXPECT_TRUE(exclude(x, y) || met.count(pair_of(a, x, b, y)) > 0) << x << " and " << y;
}

class Combinations : public ::testing::TestWithParam<int> {};

TEST_P(Combinations, WithinTheErrorOfNaive) {
  const std::vector<Values> combinations = all_combinations(all_options());
  for (auto n = static_cast<size_t>(GetParam()); n < combinations.size(); n += kSlices) {
    const std::string &isa = combinations[n].front(), line = line_of(combinations[n], n);
    std::printf("tilewise verify --isa %s --threads 2 --case '%s'\n", isa.c_str(), line.c_str());
    verify::Experiment experiment(verify::case_from_text(line));
    EXPECT_EQ(experiment.run(isa, 2).failure, "");
  }
}

INSTANTIATE_TEST_SUITE_P(Slices, Combinations, ::testing::Range(0, kRunSlices));

}  // namespace
}  // namespace tilewise::test
