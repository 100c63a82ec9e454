// SPDX-License-Identifier: Apache-2.0
#include "expr/parse.h"

#include <gtest/gtest.h>

#include <functional>

#include "expr/eval_scalar.h"
#include "support/error_of.h"
#include "tilewise/error.h"

namespace tilewise::expr {
namespace {

using V = Variable;

uint64_t hash(const Expression& e) { return hash_of(*e.graph, e.root); }
uint64_t built(const std::function<int32_t(Graph&)>& build) {
  Graph graph;
  const int32_t root = build(graph);
  return hash_of(graph, root);
}

TEST(Parse, TheGraphOfAMask) {
  EXPECT_EQ(hash(parse_mask("k <= q and doc[q] == doc[k]")), built([](Graph& g) {
              const int32_t q = g.variable(V::kQuery), k = g.variable(V::kKey);
              const int32_t a = g.lookup("doc", Type::kInt, &q, 1);
              const int32_t b = g.lookup("doc", Type::kInt, &k, 1);
              return g.binary(Op::kAnd, g.binary(Op::kLessEqual, k, q), g.binary(Op::kEqual, a, b));
            }));
  // Spaces and lines do not matter, > is < with the operands swapped.
  EXPECT_EQ(hash(parse_mask("q>k")), hash(parse_mask("\n k\n<\tq ")));
  EXPECT_EQ(hash(parse_mask("q >= k")), hash(parse_mask("k <= q")));
}

TEST(Parse, TheGraphOfAScore) {
  EXPECT_EQ(hash(parse_score("s - slope[h] * (q - k)")), built([](Graph& g) {
              const int32_t h = g.variable(V::kHead);
              const int32_t slope = g.lookup("slope", Type::kReal, &h, 1);
              const int32_t distance =
                  g.binary(Op::kSub, g.variable(V::kQuery), g.variable(V::kKey));
              return g.binary(Op::kSub, g.variable(V::kScore),
                              g.binary(Op::kMul, slope, g.unary(Op::kToReal, distance)));
            }));
  EXPECT_EQ(hash(parse_score("2 * s")), hash(parse_score("2.0 * s")));
  EXPECT_NE(hash(parse_score("float(2) * s")), hash(parse_score("2 * s")));
  EXPECT_EQ(parse_score("7").node().real(), 7.0);
  EXPECT_EQ(hash(parse_score("q / 2")), hash(parse_score("float(q) / 2.0")));
}

TEST(Parse, EveryVariable) {
  for (int i = 0; i < kVariables; ++i) {
    const auto which = static_cast<Variable>(i);
    EXPECT_TRUE(parse_score(std::string("exp(") + name_of(which) + ")").graph->node(0).is(which));
  }
}

// Truth at q, k = 0..3, row-major, as CPython 3.11 gives it.
TEST(Parse, MeansWhatPythonMeans) {
  const struct {
    const char* text;
    const char* truth;
  } kCases[] = {
      {"-7 // 2 == -4", "1111111111111111"},
      {"-q // 2 == -(q // 2)", "1111000011110000"},
      {"-q % 3 == (-q) % 3", "1111111111111111"},
      {"q - k - 1 == q - (k - 1)", "0000000000000000"},
      {"q // 2 * 2 == q", "1111000011110000"},
      {"q // (2 * 2) == q // 4", "1111111111111111"},
      {"q * 2 % 3 == q * (2 % 3)", "1111111100000000"},
      {"not q < k", "1000110011101111"},
      {"not q < k and k < 3", "1000110011101110"},
      {"not (q < k and k < 3)", "1001110111111111"},
      {"not q", "1111000000000000"},
      {"q and k", "0000011101110111"},
      {"q or k", "0111111111111111"},
      {"q and not k", "0000100010001000"},
      {"q < k < 4", "0111001100010000"},
      {"0 < q <= k != 2", "0000010100010001"},
      {"q == k == 1", "0000010000000000"},
      {"q < 3 > k", "1110111011100000"},
      {"q < k or q == 2 and k == 1", "0111001101010000"},
      {"(q < k or q == 2) and k == 1", "0100000001000000"},
      {"(q < 2) & (k < 2)", "1100110000000000"},
      {"(q < 2) | (k < 2) & (q == 1)", "1111111100000000"},
      {"(q < 2) & (k < 2) == True", "1100110000000000"},
      {"(q < 2) == (k < 2)", "1100110000110011"},
      {"(q < 2) != (k < 2)", "0011001111001100"},
      {"q + 1 if k < 2 else q - 1", "1111110011111111"},
      {"1 if q < 1 else 2 if q < 2 else 0", "1111111100000000"},
      {"(q if k else 3) == 3", "1000100010001111"},
      {"min(q, k, 2) == max(k, 1)", "0000010001100110"},
      {"abs(q - k) <= 1", "1100111001110011"},
      {"--q == q", "1111111111111111"},
      {"-+-q == q", "1111111111111111"},
      {"- q - - k == k - q", "1111111111111111"},
      {"q - -3 // 2 == q + 2", "1111111111111111"},
      {"q // -2 == -1", "0000111111110000"},
      {"q % -3 == -1", "0000000011110000"},
      {"-q // -2 == q // 2", "1111111111111111"},
      {"q >= k > 1", "0000000000100011"},
      {"True", "1111111111111111"},
      {"False or q > k", "0000100011001110"},
      {"not not q", "0000111111111111"},
      {"not q == k", "0111101111011110"},
      {"q < k and 5", "0111001100010000"},
      {"q and 5 or k", "0111111111111111"},
      {"k <= q < k + 2 and (q - k) % 2 == 1", "0000100001000010"},
      {"1 < 2 == 2", "1111111111111111"},
      {"q*k//3 != (q*k)//3 + 0", "0000000000000000"},
      {"2 * -q == -2 * q", "1111111111111111"},
      {"q if q else k", "0111111111111111"},
  };
  for (const auto& c : kCases) {
    const Expression mask = parse_mask(c.text);
    ASSERT_EQ(mask.type(), Type::kBool);
    const Values none;
    ScalarEvaluator evaluator(mask, none);
    std::string truth;
    for (int64_t q = 0; q < 4; ++q) {
      for (int64_t k = 0; k < 4; ++k)
        truth += evaluator.boolean({.query = q, .key = k}) ? '1' : '0';
    }
    EXPECT_EQ(truth, c.truth) << c.text;
  }
}

TEST(Parse, RealsMeanWhatPythonMeans) {
  const struct {
    const char* text;
    double value;  // at q = 7, k = 2, s = 0.5
  } kCases[] = {
      {"q / k", 3.5},        {"-q / k", -3.5},           {"s - 1e-3", 0.499},
      {"q - k * s", 6},      {"q // k * s", 1.5},        {"-s * 2 + 1", 0},
      {"3 if s else 4", 3},  {"1 if s < q else 2.5", 1}, {"1 if s and k - 2 else 2.5", 2.5},
      {"min(q, s, k)", 0.5}, {"max(q, s)", 7},           {"abs(-q)", 7},
      {"2 * 3 // 4", 1},     {"sqrt(q + k)", 3},         {"float(q) / 2", 3.5},
      {".5 + 5.", 5.5},      {"s * -2.5E+1", -12.5}};
  const Values none;
  for (const auto& c : kCases) {
    const Expression score = parse_score(c.text);
    EXPECT_EQ(ScalarEvaluator(score, none).real({.query = 7, .key = 2, .score = 0.5}), c.value)
        << c.text;
  }
}

TEST(Parse, TypesOfNames) {
  const auto type_of = [](const Expression& e, const char* name) {
    for (const Symbol& symbol : e.graph->symbols()) {
      if (symbol.name == name) return symbol;
    }
    return Symbol{"missing"};
  };
  const Expression mask = parse_mask("a[q, w] and k < w");
  EXPECT_EQ(type_of(mask, "a"), (Symbol{"a", Type::kInt, 2}));
  EXPECT_EQ(type_of(mask, "w"), (Symbol{"w", Type::kInt, 0}));
  const char* const text = "s * cap + bias[h, bucket[q - k + shift]]";
  const Expression score = parse_score(text);
  EXPECT_EQ(type_of(score, "cap"), (Symbol{"cap", Type::kReal, 0}));
  EXPECT_EQ(type_of(score, "bias"), (Symbol{"bias", Type::kReal, 2}));
  EXPECT_EQ(type_of(score, "bucket"), (Symbol{"bucket", Type::kInt, 1}));
  EXPECT_EQ(type_of(score, "shift"), (Symbol{"shift", Type::kInt, 0}));
  const Expression inside = parse_score("s + int(cap * 2) + int(doc[k])");
  EXPECT_EQ(type_of(inside, "cap"), (Symbol{"cap", Type::kInt, 0}));
  EXPECT_EQ(type_of(inside, "doc"), (Symbol{"doc", Type::kInt, 1}));
  EXPECT_EQ(hash(parse_mask("int(q) < int(w)")), hash(parse_mask("q < w")));
  const Expression declared =
      parse_score("s + cap + shift // 2",
                  {{"cap", Type::kInt, 0}, {"shift", Type::kInt, 0}, {"unused", Type::kInt, 3}});
  EXPECT_EQ(type_of(declared, "cap"), (Symbol{"cap", Type::kInt, 0}));
  EXPECT_EQ(declared.graph->symbols().size(), 2u);
}

struct Wrong {
  const char* text;
  const char* message;  // after "mask: text at line 1, "
};

void expect_errors(const char* operation, const std::vector<Wrong>& cases) {
  for (const Wrong& c : cases) {
    std::string got = "no error";
    try {
      (void)(operation == std::string("mask") ? parse_mask(c.text) : parse_score(c.text));
    } catch (const InvalidArgument& error) {
      got = error.what();
    }
    EXPECT_EQ(got, std::string(operation) + ": text at line 1, " + c.message);
  }
}

TEST(ParseErrors, Syntax) {
  expect_errors(
      "mask",
      {{"", "column 1, is the end of the text, expected a value\n  \n  ^"},
       {"k <= )", "column 6, is ')', expected a value\n  k <= )\n       ^"},
       {"k <=", "column 5, is the end of the text, expected a value\n  k <=\n      ^"},
       {"k <= q q",
        "column 8, is 'q', expected an operator or the end of the text\n  k <= q q\n"
        "         ^"},
       {"(k <= q", "column 8, is the end of the text, expected ')'\n  (k <= q\n         ^"},
       {"min(q, k",
        "column 9, is the end of the text, expected ',' or ')'\n  min(q, k\n          ^"},
       {"doc[q", "column 6, is the end of the text, expected ',' or ']'\n  doc[q\n       ^"},
       {"doc[]", "column 5, is ']', expected a value\n  doc[]\n      ^"},
       {"q if k", "column 7, is the end of the text, expected 'else'\n  q if k\n        ^"},
       {"q in doc",
        "column 3, is 'in', expected an operator or the end of the text\n  q in doc\n"
        "    ^"},
       {"min < q", "column 1, is 'min', expected a value\n  min < q\n  ^"},
       {"lambda", "column 1, is 'lambda', expected a value\n  lambda\n  ^"},
       {"q < not k", "column 5, is 'not', expected a value\n  q < not k\n      ^"},
       {"clamp(q, 1)",
        "column 1, is 'clamp', expected a function of the language; min, max, abs, "
        "where, int, float, exp, log, tanh and sqrt; a table is written name[index]\n"
        "  clamp(q, 1)\n  ^"},
       {"where(q, k)", "column 1, is 'where' of 2, expected 3 arguments\n  where(q, k)\n  ^"},
       {"abs(q, k)", "column 1, is 'abs' of 2, expected 1 argument\n  abs(q, k)\n  ^"},
       {"max(q)", "column 1, is 'max' of 1, expected at least 2 arguments\n  max(q)\n  ^"},
       {"t[q, q, q, q, q]",
        "column 1, is a table with 5 indices, expected at most 4\n"
        "  t[q, q, q, q, q]\n  ^"},
       {"q < 9223372036854775808",
        "column 5, is '9223372036854775808', expected an integer of 64 "
        "bits\n  q < 9223372036854775808\n      ^"}});
  expect_errors("score", {{"1e999",
                           "column 1, is '1e999', expected a number that float64 can "
                           "hold\n  1e999\n  ^"}});
}

TEST(ParseErrors, Types) {
  expect_errors("mask",
                {{"q < (k < 3)",
                  "column 5, is a bool, expected a number; where(condition, 1, 0) makes a "
                  "number of a bool\n  q < (k < 3)\n      ^"},
                 {"True + 1",
                  "column 1, is a bool, expected a number; where(condition, 1, 0) makes a "
                  "number of a bool\n  True + 1\n  ^"},
                 {"-(q < k)",
                  "column 2, is a bool, expected a number; where(condition, 1, 0) makes a "
                  "number of a bool\n  -(q < k)\n   ^"},
                 {"k <= q & doc[q] == doc[k]",
                  "column 6, is an integer, expected a bool; there are no "
                  "bitwise operators: write and, or, not\n"
                  "  k <= q & doc[q] == doc[k]\n       ^"},
                 {"~q",
                  "column 2, is an integer, expected a bool; there are no bitwise operators: write "
                  "and, or, not\n  ~q\n   ^"},
                 {"(q and k) | (q < k)",
                  "column 1, is the truth of a number, expected a bool; there are no "
                  "bitwise operators: write and, or, not\n  (q and k) | (q < k)\n  ^"},
                 {"(q and k) == (q < k)",
                  "column 1, is the truth of a number, expected a bool; Python "
                  "compares the number itself here: write != 0\n"
                  "  (q and k) == (q < k)\n  ^"}});
  expect_errors("score", {{"q < k",
                           "column 1, is a bool, expected a number; where(condition, 1, 0) "
                           "makes a number of a bool\n  q < k\n  ^"},
                          {"s // 2",
                           "column 1, is a real number, expected an integer; divide "
                           "integers with //\n  s // 2\n  ^"},
                          {"int(s)",
                           "column 5, is a real number, expected an integer; divide "
                           "integers with //\n  int(s)\n      ^"},
                          {"int(q, k)",
                           "column 1, is 'int' of 2, expected 1 argument\n"
                           "  int(q, k)\n  ^"},
                          {"bias[q / 2]",
                           "column 6, is a real number, expected an integer; divide "
                           "integers with //\n  bias[q / 2]\n       ^"}});
}

TEST(ParseErrors, AMaskHasNoReals) {
  expect_errors("mask",
                {{"q < 0.5",
                  "column 5, is '0.5', expected an integer; a mask has integers only\n  q < 0.5\n"
                  "      ^"},
                 {"q / 2 < k",
                  "column 3, is '/', expected '//'; / gives a real number, a mask has none\n"
                  "  q / 2 < k\n    ^"},
                 {"exp(q) < 2",
                  "column 1, is 'exp', expected an integer; a mask has integers only\n"
                  "  exp(q) < 2\n  ^"},
                 {"q < -inf",
                  "column 6, is 'inf', expected an integer; a mask has integers only\n"
                  "  q < -inf\n       ^"},
                 {"s < 2",
                  "column 1, is 's', expected an integer; only a score may use the product s\n"
                  "  s < 2\n  ^"}});
  try {
    (void)parse_mask("q < cap", {{"cap", Type::kReal, 0}});
    ADD_FAILURE();
  } catch (const InvalidArgument& error) {
    EXPECT_STREQ(error.what(),
                 "mask: text at line 1, column 5, is a named real number, expected integers; a "
                 "mask has integers only\n  q < cap\n      ^");
  }
}

TEST(ParseErrors, Names) {
  expect_errors("mask", {{"doc[q] < doc",
                          "column 10, is a named integer number, expected a table of integer "
                          "numbers with 1 index, as before\n  doc[q] < doc\n           ^"}});
  expect_errors("score", {{"w + t[w]",
                           "column 7, is a named integer number, expected a named real number, "
                           "as before; a name in an index is an integer, elsewhere a real "
                           "number; write int(name)\n  w + t[w]\n        ^"}});
  try {
    (void)parse_score("s + bias[h]", {{"bias", Type::kReal, 2}});
    ADD_FAILURE();
  } catch (const InvalidArgument& error) {
    EXPECT_STREQ(error.what(),
                 "score: text at line 1, column 5, is a table of real numbers with 1 index, "
                 "expected a table of real numbers with 2 indices, as it is declared\n"
                 "  s + bias[h]\n      ^");
  }
}

std::string error_of(const std::string& text) {
  return test::error_of([&text] { (void)parse_mask(text); });
}

TEST(ParseErrors, Budgets) {
  const std::string megabyte(1 << 20, '(');
  EXPECT_EQ(error_of(megabyte),
            "mask: text is 1048576 bytes long, expected at most 65536 bytes; put what it "
            "enumerates into a table");
  EXPECT_EQ(error_of(megabyte.substr(0, 65536)),
            "mask: text at line 1, column 201, is nested too deeply, expected at most 200 levels; "
            "put what it enumerates into a table\n  " +
                std::string(90, '(') + "\n  " + std::string(60, ' ') + "^");
  for (const char* one : {"-", "not ", "~", "min(", "t[", "q if k else ", "where(q, k, "}) {
    std::string text;
    while (text.size() < 60'000) text += one;
    EXPECT_NE(error_of(text).find("is nested too deeply, expected at most 200 levels"),
              std::string::npos)
        << one << error_of(text);
  }
  std::string many = "q";
  for (int i = 0; i < 9'000; ++i) many += "+" + std::to_string(i);
  EXPECT_EQ(error_of(many),
            "expression: size is more than 16384, expected at most 16384 different parts; put what "
            "it enumerates into a table");
  const std::string nested = std::string(199, '(') + "q" + std::string(199, ')');
  EXPECT_EQ(hash(parse_mask(nested)), hash(parse_mask("q")));
  EXPECT_NE(error_of("(" + nested + ")"), "no error");
}

// Longer texts are the fuzzer's.
TEST(ParseErrors, AnyTwoBytes) {
  int accepted = 0;
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) {
      const char bytes[] = {static_cast<char>(a), static_cast<char>(b)};
      try {
        (void)parse_score(std::string_view(bytes, 2));
        ++accepted;
      } catch (const InvalidArgument&) {
      }
    }
  }
  EXPECT_GT(accepted, 3000);  // names alone are 53 * 63 less the words
}

TEST(ParseErrors, PointToTheLine) {
  EXPECT_EQ(error_of("k <= q and\n  doc[q] ==\n"),
            "mask: text at line 3, column 1, is the end of the text, expected a value\n  \n  ^");
  EXPECT_EQ(error_of("k <= q and\n  0.5 < q\n"),
            "mask: text at line 2, column 3, is '0.5', expected an integer; a mask has integers "
            "only\n    0.5 < q\n    ^");
}

}  // namespace
}  // namespace tilewise::expr
