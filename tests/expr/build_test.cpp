// SPDX-License-Identifier: Apache-2.0
// The C++ front end: the same graphs as from text, and clear errors where a value has no meaning.
#include <gtest/gtest.h>

#include <functional>
#include <stdexcept>
#include <thread>

#include "expr/parse.h"
#include "support/error_of.h"
#include "tilewise/error.h"
#include "tilewise/expr.h"

namespace tilewise::expr {
namespace {

uint64_t hash(const Expression& e) { return hash_of(*e.graph, e.root); }

const IntTable doc{"doc"};
const IntTable layout{"layout"};
const RealTable bias{"bias"};
const RealTable slope{"slope"};

TEST(Build, MasksAreThoseOfTheText) {
  const struct {
    Mask mask;
    const char* text;
  } kCases[] = {
      {mask([](auto, auto, auto q, auto k) { return k <= q && doc[q] == doc[k]; }),
       "k <= q and doc[q] == doc[k]"},
      {mask([](auto b, auto h, auto q, auto k) {
         return layout(h, q / 128, k / 128) != 0 || !(b == 3) || k % 5 > -7;
       }),
       "layout[h, q // 128, k // 128] != 0 or not b == 3 or k % 5 > -7"},
      {mask([](auto, auto h, auto q, auto k) { return layout(h, q, k); }), "layout[h, q, k]"},
      {mask([](auto, auto, auto q, auto k) { return abs(q - k) < scalar("window"); }),
       "abs(q - k) < window"},
      {mask([](auto, auto, auto q, auto k) {
         return k - key_offset() <= q - query_offset() + (kv_length() - query_length());
       }),
       "k - key_offset <= q - query_offset + (kv_length - query_length)"},
      {mask([](auto, auto, auto q, auto k) {
         return where(q < k, min(q, 3), max(4, -k)) * 2 + 1 != where(q < 2, 0, 1);
       }),
       "where(q < k, min(q, 3), max(4, -k)) * 2 + 1 != where(q < 2, 0, 1)"},
      {mask([](auto, auto, auto q, auto k) { return (q < 8) == (k < 8); }), "(q < 8) == (k < 8)"},
      {mask([](auto, auto, auto q, auto k) { return (q < 8) != (k < 8) && (q >= 1 || k > 2); }),
       "(q < 8) != (k < 8) and (q >= 1 or k > 2)"},
      {mask([](auto, auto, auto q, auto k) { return where(q < k, q < 3, true); }),
       "where(q < k, q < 3, True)"},
      {mask([](auto, auto, auto, auto) { return true; }), "True"},
  };
  for (const auto& c : kCases) {
    EXPECT_EQ(hash(*c.mask.expression()), hash(parse_mask(c.text))) << c.text;
    EXPECT_EQ(hash(parse_mask(c.mask.text())), hash(parse_mask(c.text)));
  }
}

TEST(Build, ScoresAreThoseOfTheText) {
  const struct {
    Score score;
    const char* text;
  } kCases[] = {
      {score([](auto s, auto, auto h, auto q, auto k) { return s - slope[h] * (q - k); }),
       "s - slope[h] * (q - k)"},
      {score([](auto s, auto, auto, auto, auto) { return 30 * tanh(s / 30.0); }),
       "30 * tanh(s / 30)"},
      {score([](auto s, auto b, auto h, auto q, auto k) {
         return s + bias(h, where(b < 2, q, k)) + real_scalar("cap");
       }),
       "s + bias[h, where(b < 2, q, k)] + cap"},
      {score([](auto s, auto, auto, auto q, auto k) {
         return where(q < k, exp(s), log(sqrt(abs(s)) + 1)) - min(s, q) / max(2, s);
       }),
       "where(q < k, exp(s), log(sqrt(abs(s)) + 1)) - min(s, q) / max(2, s)"},
      {score([](auto s, auto, auto, auto q, auto k) {
         return where(s < q || 0.5 >= s || s > 1 || s <= k || s == 4 || s != 5, -s, q + 0.5f);
       }),
       "where(s < q or 0.5 >= s or s > 1 or s <= k or s == 4 or s != 5, -s, q + 0.5)"},
      {score([](auto, auto, auto, auto q, auto) { return q; }), "q"},
      {score([](auto, auto, auto, auto, auto) { return 2; }), "2.0"},
  };
  for (const auto& c : kCases)
    EXPECT_EQ(hash(*c.score.expression()), hash(parse_score(c.text))) << c.text;
}

TEST(Build, TextIsThePrintedExpression) {
  EXPECT_EQ(mask([](auto, auto, auto q, auto k) { return q - k < 5 && q >= k; }).text(),
            "q - k < 5 and k <= q");
  EXPECT_EQ(Mask().text(), "none");
  EXPECT_EQ(Mask().expression(), nullptr);
  EXPECT_EQ(score([](auto s, auto, auto, auto, auto) { return s * 2; }).text(), "s * 2.0");
  EXPECT_EQ(Score().text(), "s");
  Expression named = parse_mask("k <= q");
  named.name = "causal";
  EXPECT_EQ(Mask(std::make_shared<const Expression>(named)).text(), "causal");
}

using test::error_of;

TEST(BuildErrors, AValueOutsideOfItsRule) {
  Int kept{Handle{}};
  (void)mask([&kept](auto, auto, auto q, auto k) {
    kept = q;
    return q < k;
  });
  const char* const nowhere =
      "expression: value is used where no rule is built, expected the lambda of mask() or score(); "
      "variables, tables, named numbers and operators have a meaning there only";
  EXPECT_EQ(error_of([&] { (void)(kept + kept); }), nowhere);
  EXPECT_EQ(error_of([&] { (void)doc[kept]; }), nowhere);
  EXPECT_EQ(error_of([] { (void)scalar("window"); }), nowhere);
  EXPECT_EQ(error_of([] { (void)query_length(); }), nowhere);
  EXPECT_EQ(error_of([] { (void)Int(3); }), nowhere);
  const char* const other =
      "expression: value is of another rule, expected one of the rule that is being built; use the "
      "lambda's own parameters";
  const auto captured = [&](auto, auto, auto q, auto) { return q < kept; };
  EXPECT_EQ(error_of([&] { (void)mask(captured); }), other);
  EXPECT_EQ(error_of([&] { (void)mask([&](auto, auto, auto, auto) { return kept; }); }), other);
  EXPECT_EQ(error_of([&] {
              (void)score([&](auto s, auto, auto, auto, auto) { return s + bias[kept]; });
            }),
            other);
}

TEST(BuildErrors, LeaveNothingBehind) {
  struct Stop {};
  EXPECT_THROW((void)mask([](auto, auto, auto, auto k) -> Bool {
                 (void)(k < 2);
                 throw Stop();
               }),
               Stop);
  EXPECT_NE(error_of([] { (void)kv_length(); }), "no error");
  EXPECT_EQ(mask([](auto, auto, auto q, auto k) { return k < q; }).text(), "k < q");
}

TEST(BuildErrors, AMaskHasNoReals) {
  const char* const message =
      "mask: rule is made of real numbers, expected integers and bools; real tables and numbers "
      "belong to a score";
  EXPECT_EQ(
      error_of([] { (void)mask([](auto, auto, auto q, auto k) { return q < 0.5 && k < q; }); }),
      message);
  EXPECT_EQ(error_of([] { (void)mask([](auto, auto, auto q, auto k) { return bias(q, k) < q; }); }),
            message);
}

TEST(BuildErrors, Names) {
  EXPECT_EQ(error_of([] { (void)IntTable("q"); }),
            "IntTable: name is \"q\", expected letters, digits and _, and no word of the language");
  EXPECT_EQ(error_of([] { (void)RealTable(""); }),
            "RealTable: name is \"\", expected letters, digits and _, and no word of the language");
  EXPECT_EQ(
      error_of([] { (void)mask([](auto, auto, auto q, auto) { return q < scalar("a b"); }); }),
      "scalar: name is \"a b\", expected letters, digits and _, and no word of the language");
  EXPECT_EQ(error_of([] {
              (void)score([](auto, auto, auto, auto, auto) { return real_scalar("min"); });
            }),
            "real_scalar: name is \"min\", expected letters, digits and _, and no word of the "
            "language");
  EXPECT_EQ(error_of([] {
              (void)mask([](auto, auto, auto q, auto k) {
                const auto one = doc[q];
                return one == doc(q, k);
              });
            }),
            "expression: doc is a table of integer numbers with 2 indices, expected a table of "
            "integer numbers with 1 index, as elsewhere in the expression; one name has one "
            "meaning");
}

TEST(BuildErrors, EveryRuleHasAText) {
  EXPECT_EQ(error_of([] {
              (void)mask([](auto, auto, auto q, auto k) {
                auto x = q - k;
                for (int i = 0; i < 40; ++i) x = x * x;
                return x < 5;
              });
            }),
            "expression: text is longer than 65536 bytes or deeper than 200 levels, expected a "
            "shorter one; put what it enumerates into a table");
}

TEST(Build, RulesInsideOfRules) {
  std::string inner;
  const Mask outer = mask([&](auto, auto, auto q, auto k) {
    const auto difference = q - k;
    inner = mask([](auto, auto, auto a, auto b) { return a < b; }).text();
    return difference < 7;
  });
  EXPECT_EQ(inner, "q < k");
  EXPECT_EQ(outer.text(), "q - k < 7");
  EXPECT_EQ(error_of([] {
              (void)mask([](auto, auto, auto q, auto) {
                (void)mask([&](auto, auto, auto, auto k) { return q < k; });
                return q < 1;
              });
            }),
            "expression: value is of another rule, expected one of the rule that is being built; "
            "use the lambda's own parameters");
}

TEST(Build, EveryThreadBuildsItsOwn) {
  std::vector<std::string> texts(4);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t, &texts] {
      for (int i = 0; i < 200; ++i) {
        texts[static_cast<size_t>(t)] = mask([t](auto, auto, auto q, auto k) {
                                          return q - k < t + 1 && doc[q] == doc[k];
                                        }).text();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int t = 0; t < 4; ++t) {
    EXPECT_EQ(texts[static_cast<size_t>(t)],
              "q - k < " + std::to_string(t + 1) + " and doc[q] == doc[k]");
  }
}

}  // namespace
}  // namespace tilewise::expr
