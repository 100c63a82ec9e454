// SPDX-License-Identifier: Apache-2.0
// Every named rule against its definition, written once more in plain C++ over dense tables.
#include "problem/rules.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "base/random.h"
#include "expr/eval_scalar.h"
#include "problem/rule_data.h"
#include "support/error_of.h"
#include "tilewise/error.h"
#include "tilewise/rules.h"

namespace tilewise {
namespace {

using namespace testing;

struct Pair {
  int64_t b, h, q, k;
};
struct MaskTruth {
  const char* text;
  std::function<bool(const RuleData&, const Pair&)> sees;
};

int64_t clamped(int64_t value, int64_t low, int64_t high) {
  return std::min(std::max(value, low), high);
}
// NATTEN in one dimension: the window of 2 r + 1 positions around i, moved into [0, n).
bool is_neighbour(int64_t i, int64_t j, int64_t n, int64_t r) {
  const int64_t begin = clamped(i - r, 0, n - 2 * r - 1);
  return begin <= j && j <= begin + 2 * r;
}
// Swin's picture of regions after a shift, as its authors make it: three slices per axis.
int64_t region(int64_t x, int64_t size, int64_t window, int64_t shift) {
  return x < size - window ? 0 : x < size - shift ? 1 : 2;
}

const std::vector<MaskTruth>& mask_truths() {
  static const std::vector<MaskTruth> truths = {
      {"causal", [](const RuleData& x,
                    const Pair& p) { return p.k - x.k0 - (p.q - x.q0) - (x.M - x.N) <= 0; }},
      {"causal-top-left", [](const RuleData&, const Pair& p) { return p.k <= p.q; }},
      {"window:5,2",
       [](const RuleData& x, const Pair& p) {
         const int64_t difference = p.k - x.k0 - (p.q - x.q0) - (x.M - x.N);
         return -5 <= difference && difference <= 2;
       }},
      {"window:left=0,right=0",
       [](const RuleData& x, const Pair& p) { return p.k - x.k0 - (p.q - x.q0) == x.M - x.N; }},
      {"sink-window:sinks=2,window=5",
       [](const RuleData&, const Pair& p) {
         if (p.k > p.q) return false;
         return p.k < 2 || p.q - p.k <= 5;
       }},
      {"document", [](const RuleData& x, const Pair& p) { return x.doc[p.q] == x.doc[p.k]; }},
      {"document-causal",
       [](const RuleData& x, const Pair& p) { return p.k <= p.q && x.doc[p.q] == x.doc[p.k]; }},
      {"document-span",  // the same mask, from other data
       [](const RuleData& x, const Pair& p) { return p.k <= p.q && x.doc[p.q] == x.doc[p.k]; }},
      {"padding",
       [](const RuleData& x, const Pair& p) { return x.valid[p.b * x.positions + p.k] == 1; }},
      {"padding-causal",
       [](const RuleData& x, const Pair& p) {
         return p.k <= p.q && x.valid[p.b * x.positions + p.k] == 1;
       }},
      {"prefix-lm",
       [](const RuleData& x, const Pair& p) { return p.k <= p.q || p.k < x.prefix[p.b]; }},
      {"image-bidirectional",
       [](const RuleData& x, const Pair& p) {
         if (p.k <= p.q) return true;
         return x.image[p.q] != -1 && x.image[p.q] == x.image[p.k];
       }},
      {"chunked:chunk=7",
       [](const RuleData&, const Pair& p) { return p.k <= p.q && p.k >= p.q - p.q % 7; }},
      {"block-causal:block=7",
       [](const RuleData&, const Pair& p) { return p.k < p.q - p.q % 7 + 7; }},
      {"level-causal",
       [](const RuleData& x, const Pair& p) { return x.level[p.q] >= x.level[p.k]; }},
      {"block-diffusion:length=40,block=8",  // as attention-gym writes it
       [](const RuleData&, const Pair& p) {
         const bool clean_q = p.q >= 40, clean_k = p.k >= 40;
         const int64_t block_q = clean_q ? (p.q - 40) / 8 : p.q / 8;
         const int64_t block_k = clean_k ? (p.k - 40) / 8 : p.k / 8;
         const bool diagonal = block_q == block_k && clean_q == clean_k;
         const bool offset_causal = block_q > block_k && clean_k && !clean_q;
         const bool block_causal = block_q >= block_k && clean_k && clean_q;
         return diagonal || offset_causal || block_causal;
       }},
      {"dilated-window:window=9,dilation=4",
       [](const RuleData&, const Pair& p) {
         for (const int64_t step : {-8, -4, 0, 4, 8}) {
           if (p.k == p.q + step) return true;
         }
         return false;
       }},
      {"longformer:window=4,global=2",
       [](const RuleData&, const Pair& p) {
         if (p.q < 2 || p.k < 2) return true;
         return p.q - p.k <= 4 && p.k - p.q <= 4;
       }},
      {"longformer-marked:window=4",
       [](const RuleData& x, const Pair& p) {
         if (x.marked[p.q] == 1 || x.marked[p.k] == 1) return true;
         return p.q - p.k <= 4 && p.k - p.q <= 4;
       }},
      {"bigbird:block=8,window=1,global=1",
       [](const RuleData& x, const Pair& p) {
         const int64_t i = p.q / kBlock, j = p.k / kBlock;
         if (i == 0 || j == 0 || i == j || i == j + 1 || j == i + 1) return true;
         return x.random[i * x.blocks(kBlock) + j] == 1;
       }},
      {"strided:stride=8,summary=2",
       [](const RuleData&, const Pair& p) {
         if (p.k > p.q) return false;
         return p.q - p.k <= 8 || p.k % 8 == 6 || p.k % 8 == 7;
       }},
      {"natten:length=75,radius=3",
       [](const RuleData&, const Pair& p) { return is_neighbour(p.q, p.k, 75, 3); }},
      {"natten-2d:width=11,height=7,radius=2",
       [](const RuleData&, const Pair& p) {
         return is_neighbour(p.q % 11, p.k % 11, 11, 2) && is_neighbour(p.q / 11, p.k / 11, 7, 2);
       }},
      {"natten-3d:width=5,height=4,depth=4,radius=1",
       [](const RuleData&, const Pair& p) {
         return is_neighbour(p.q % 5, p.k % 5, 5, 1) &&
                is_neighbour(p.q / 5 % 4, p.k / 5 % 4, 4, 1) &&
                is_neighbour(p.q / 20, p.k / 20, 4, 1);
       }},
      {"sliding-tile:tile=4,columns=5,rows=4,radius=1",
       [](const RuleData&, const Pair& p) {
         const int64_t i = p.q / 4, j = p.k / 4;
         return is_neighbour(i % 5, j % 5, 5, 1) && is_neighbour(i / 5, j / 5, 4, 1);
       }},
      {"swin:width=12,window=3",
       [](const RuleData&, const Pair& p) {
         const auto window = [](int64_t i) { return i / 12 / 3 * 4 + i % 12 / 3; };
         return window(p.q) == window(p.k);
       }},
      {"swin-shifted:width=9,height=9,window=3,shift=1",
       [](const RuleData&, const Pair& p) {
         const auto window = [](int64_t i) { return i / 9 / 3 * 3 + i % 9 / 3; };
         const auto part = [](int64_t i) {
           return 3 * region(i / 9, 9, 3, 1) + region(i % 9, 9, 3, 1);
         };
         return window(p.q) == window(p.k) && part(p.q) == part(p.k);
       }},
      {"joint-text-image:text=10",
       [](const RuleData& x, const Pair& p) {
         if (x.valid[p.b * x.positions + p.k] == 0) return false;
         return p.q < 10 || p.k < 10 || x.image[p.q] == x.image[p.k];
       }},
      {"flamingo",
       [](const RuleData& x, const Pair& p) { return x.first[p.k] <= p.q && p.q < x.last[p.k]; }},
      {"tree",
       [](const RuleData& x, const Pair& p) {
         if (p.k < x.prefix_length) return true;
         if (p.q < x.prefix_length) return false;
         for (int64_t node = p.q - x.prefix_length; node >= 0; node = x.parent[node]) {
           if (node == p.k - x.prefix_length) return true;
         }
         return false;
       }},
      {"shared-prefix",
       [](const RuleData& x, const Pair& p) {
         if (x.start[p.q] <= p.k && p.k <= p.q) return true;
         return x.prefix_first[p.q] <= p.k && p.k < x.prefix_last[p.q];
       }},
      {"svg-spatial:prompt=5,window=4",
       [](const RuleData&, const Pair& p) {
         return p.k < 5 || p.q < 5 || (p.q - p.k < 4 && p.k - p.q < 4);
       }},
      {"svg-temporal:prompt=5,frame=11,window=3",
       [](const RuleData&, const Pair& p) {
         if (p.k < 5 || p.q < 5) return true;
         const int64_t i = (p.q - 5) % 11, j = (p.k - 5) % 11;
         return i - j < 3 && j - i < 3;
       }},
      {"block-sparse:block=8",
       [](const RuleData& x, const Pair& p) {
         const int64_t blocks = x.blocks(kBlock);
         return x.layout[(p.h * blocks + p.q / kBlock) * blocks + p.k / kBlock] == 1;
       }},
  };
  return truths;
}

struct ScoreTruth {
  const char* text;
  int64_t bias_columns;
  std::function<double(const RuleData&, const Pair&, double s)> score;
};

const std::vector<ScoreTruth>& score_truths() {
  static const std::vector<ScoreTruth> truths = {
      {"softcap:cap=2.5", 0,
       [](const RuleData&, const Pair&, double s) { return 2.5 * std::tanh(s / 2.5); }},
      {"alibi", 0,
       [](const RuleData& x, const Pair& p, double s) {
         return s - x.slope[p.h] * static_cast<double>(p.q - p.k);
       }},
      {"relative-bias:reach=6", 13,
       [](const RuleData& x, const Pair& p, double s) {
         const int64_t column = p.k - p.q < -6 ? 0 : p.k - p.q > 6 ? 12 : p.k - p.q + 6;
         return s + x.bias_by_distance[p.h * 13 + column];
       }},
      {"bucket-bias:reach=6", kBuckets,
       [](const RuleData& x, const Pair& p, double s) {
         const int64_t column = p.k - p.q < -6 ? 0 : p.k - p.q > 6 ? 12 : p.k - p.q + 6;
         return s + x.bias_by_distance[p.h * kBuckets + x.bucket[column]];
       }},
      {"window-bias:width=12,window=3", 2 * kWindow - 1,
       [](const RuleData& x, const Pair& p, double s) {
         const int64_t dy = p.q / 12 % 3 - p.k / 12 % 3 + 2, dx = p.q % 12 % 3 - p.k % 12 % 3 + 2;
         return s + x.bias_by_distance[(p.h * 5 + dy) * 5 + dx];
       }},
      {"disentangled:reach=6", 0,
       [](const RuleData& x, const Pair& p, double s) {
         const int64_t row = p.b * kHeads + p.h, n = x.positions;
         const int64_t forth = clamped(p.q - p.k, -6, 6) + 6, back = clamped(p.k - p.q, -6, 6) + 6;
         s += x.content_position[(row * n + p.q) * 13 + forth];
         return s + x.position_content[(row * n + p.k) * 13 + back];
       }},
      {"graph-bias", kDistances,
       [](const RuleData& x, const Pair& p, double s) {
         const int64_t n = x.positions;
         return s + x.bias_by_distance[p.h * kDistances + x.distance[(p.b * n + p.q) * n + p.k]];
       }},
      {"kerple-log", 0,
       [](const RuleData& x, const Pair& p, double s) {
         return s - x.slope[p.h] * std::log(1 + x.rate[p.h] * std::abs(double(p.q - p.k)));
       }},
      {"positional-kernel:reach=6", 0,
       [](const RuleData& x, const Pair& p, double s) {
         const int64_t distance = p.q < p.k ? p.k - p.q : p.q - p.k;
         return s + x.kernel[p.h * 7 + std::min<int64_t>(distance, 6)];
       }},
      {"relu", 0,
       [](const RuleData&, const Pair&, double s) {
         return s > 0 ? std::log(s) : -std::numeric_limits<double>::infinity();
       }},
  };
  return truths;
}

const std::vector<RuleData>& steps() {
  static const std::vector<RuleData> steps = {{13, 13, 0, 0, 1},
                                              {61, 75, 0, 0, 2},
                                              {37, 29, 38, 5, 3},
                                              {1, 63, 62, 0, 4},
                                              {75, 41, 0, 34, 5}};
  return steps;
}

void for_each_pair(const RuleData& x, const std::function<void(const Pair&)>& act) {
  for (int64_t b = 0; b < kBatch; ++b) {
    for (int64_t h = 0; h < kHeads; ++h) {
      for (int64_t q = x.q0; q < x.q0 + x.N; ++q) {
        for (int64_t k = x.k0; k < x.k0 + x.M; ++k) act({b, h, q, k});
      }
    }
  }
}

TEST(Rules, MasksAreTheirDefinitions) {
  for (const MaskTruth& truth : mask_truths()) {
    const Mask mask = mask_from_text(truth.text);
    int64_t visible = 0, hidden = 0;
    for (const RuleData& x : steps()) {
      const expr::Values values = values_of(x, *mask.expression()->graph, 0);
      expr::ScalarEvaluator evaluator(*mask.expression(), values);
      for_each_pair(x, [&](const Pair& p) {
        const bool sees = truth.sees(x, p);
        ++(sees ? visible : hidden);
        ASSERT_EQ(evaluator.boolean({.batch = p.b, .head = p.h, .query = p.q, .key = p.k}), sees)
            << truth.text << " at " << p.b << " " << p.h << " " << p.q << " " << p.k;
      });
    }
    EXPECT_TRUE(visible > 0 && hidden > 0) << truth.text << ": the data shows nothing";
  }
}

TEST(Rules, ScoresAreTheirDefinitions) {
  Random random(3);
  for (const ScoreTruth& truth : score_truths()) {
    const Score score = score_from_text(truth.text);
    for (const RuleData& x : steps()) {
      const expr::Values values = values_of(x, *score.expression()->graph, truth.bias_columns);
      expr::ScalarEvaluator evaluator(*score.expression(), values);
      for_each_pair(x, [&](const Pair& p) {
        const double s = 3 * random.normal();
        ASSERT_DOUBLE_EQ(evaluator.real({p.b, p.h, p.q, p.k, s}), truth.score(x, p, s))
            << truth.text << " at " << p.b << " " << p.h << " " << p.q << " " << p.k;
      });
    }
  }
}

TEST(Rules, EachHasATruthAndUsesItsParameters) {
  std::set<std::string> judged, names;
  for (const MaskTruth& truth : mask_truths()) {
    const std::string text = truth.text;
    judged.insert(text.substr(0, text.find(':')));
  }
  for (const ScoreTruth& truth : score_truths()) {
    const std::string text = truth.text;
    judged.insert(text.substr(0, text.find(':')));
  }
  for (const Rule& rule : rules()) {
    EXPECT_TRUE(names.insert(rule.name).second) << rule.name << " twice";
    EXPECT_EQ(find_rule(rule.name, rule.is_score), &rule);
    EXPECT_EQ(find_rule(rule.name, !rule.is_score), nullptr);
    const std::string formula = rule.formula;
    for (const RuleParameter& parameter : rule.parameters)
      EXPECT_NE(formula.find(parameter.name), std::string::npos) << rule.name << parameter.name;
  }
  EXPECT_EQ(judged, names);
}

uint64_t hash(const expr::Expression& e) { return hash_of(*e.graph, e.root); }

TEST(Rules, FunctionsAreTheRulesAndTheLambdas) {
  using namespace expr;
  const tilewise::IntTable doc("doc"), prefix("prefix"), valid("valid"), random("random"),
      layout("layout");
  const struct {
    Mask function;
    const char* name;
    Mask lambda;
  } kCases[] = {
      {causal(), "causal", mask([](auto, auto, auto q, auto k) {
         return k - key_offset() <= q - query_offset() + (kv_length() - query_length());
       })},
      {causal_top_left(), "causal-top-left",
       mask([](auto, auto, auto q, auto k) { return k <= q; })},
      {window(128, 7), "window:128,7", mask([](auto, auto, auto q, auto k) {
         const auto difference =
             k - key_offset() - (q - query_offset()) - (kv_length() - query_length());
         return -128 <= difference && difference <= 7;
       })},
      {prefix_lm(), "prefix-lm",
       mask([&](auto b, auto, auto q, auto k) { return k <= q || k < prefix[b]; })},
      {sink_window(4, 100), "sink-window:sinks=4,window=100",
       mask([](auto, auto, auto q, auto k) { return k <= q && (k < 4 || q - k <= 100); })},
      {document(), "document", mask([&](auto, auto, auto q, auto k) { return doc[q] == doc[k]; })},
      {document_causal(), "document-causal",
       mask([&](auto, auto, auto q, auto k) { return doc[q] == doc[k] && k <= q; })},
      {padding(), "padding", mask([&](auto b, auto, auto, auto k) { return valid(b, k); })},
      {chunked(512), "chunked:chunk=512",
       mask([](auto, auto, auto q, auto k) { return k <= q && q / 512 == k / 512; })},
      {block_causal(32), "block-causal:block=32",
       mask([](auto, auto, auto q, auto k) { return k / 32 <= q / 32; })},
      {dilated_window(64, 2), "dilated-window:window=64,dilation=2",
       mask([](auto, auto, auto q, auto k) { return abs(q - k) <= 64 && (q - k) % 2 == 0; })},
      {longformer(512, 16), "longformer:window=512,global=16",
       mask([](auto, auto, auto q, auto k) { return abs(q - k) <= 512 || q < 16 || k < 16; })},
      {bigbird(64, 1, 2), "bigbird:block=64,window=1,global=2",
       mask([&](auto, auto, auto q, auto k) {
         return abs(q / 64 - k / 64) <= 1 || q / 64 < 2 || k / 64 < 2 ||
                random(q / 64, k / 64) != 0;
       })},
      {block_sparse(128), "block-sparse:block=128",
       mask([&](auto, auto h, auto q, auto k) { return layout(h, q / 128, k / 128) != 0; })}};
  for (const auto& c : kCases) {
    EXPECT_EQ(c.function.text(), c.name);
    EXPECT_EQ(hash(*c.function.expression()), hash(*c.lambda.expression())) << c.name;
    EXPECT_EQ(hash(*mask_from_text(c.name).expression()), hash(*c.lambda.expression())) << c.name;
  }
  const RealTable slope("slope"), bias("bias");
  const struct {
    Score function;
    const char* name;
    Score lambda;
  } kScores[] = {
      {softcap(30), "softcap:cap=30",
       score([](auto s, auto, auto, auto, auto) { return 30 * tanh(s / 30); })},
      {alibi(), "alibi",
       score([&](auto s, auto, auto h, auto q, auto k) { return s - slope[h] * (q - k); })},
      {relative_bias(9), "relative-bias:reach=9", score([&](auto s, auto, auto h, auto q, auto k) {
         return s + bias(h, min(max(k - q, -9), 9) + 9);
       })}};
  for (const auto& c : kScores) {
    EXPECT_EQ(c.function.text(), c.name);
    EXPECT_EQ(hash(*c.function.expression()), hash(*c.lambda.expression())) << c.name;
    EXPECT_EQ(hash(*score_from_text(c.name).expression()), hash(*c.lambda.expression())) << c.name;
  }
}

using test::error_of;

TEST(Rules, ArgumentsOutOfRange) {
  EXPECT_EQ(error_of([] { (void)window(-1, 0); }), "window: left is -1, expected 0 or more");
  EXPECT_EQ(error_of([] { (void)chunked(0); }), "chunked: chunk is 0, expected 1 or more");
  EXPECT_EQ(error_of([] { (void)make_rule(*find_rule("chunked", false), {"x"}); }),
            "chunked: chunk is x, expected an integer of 64 bits");
  EXPECT_EQ(error_of([] { (void)softcap(0); }), "softcap: cap is 0, expected a positive number");
  EXPECT_EQ(error_of([] { (void)softcap(std::nan("")); }),
            "softcap: cap is nan, expected a positive number");
  EXPECT_EQ(error_of([] { (void)softcap(std::numeric_limits<double>::infinity()); }),
            "softcap: cap is inf, expected a positive number");
}

}  // namespace
}  // namespace tilewise
