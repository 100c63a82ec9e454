// SPDX-License-Identifier: Apache-2.0
// The distribution of `tilewise verify`: small odd problems, everything in every combination.
#include <algorithm>
#include <cmath>
#include <iterator>

#include "base/dtype.h"
#include "expr/print.h"
#include "tilewise/problem.h"
#include "verify/case.h"
#include "verify/random_expression.h"

namespace tilewise::verify {
namespace {

// Pairs times dims of one case: keeps the float64 reference at some ten milliseconds.
constexpr int64_t kMaxWork = 6'000'000;

class Draw {
 public:
  Draw(uint64_t seed, uint64_t index) : random_(seed, index) {}
  bool chance(double probability) { return random_.uniform() < probability; }
  int64_t between(int64_t low, int64_t high) { return random_.between(low, high); }
  template <class T, size_t kCount>
  T one_of(const T (&values)[kCount]) {
    return values[between(0, kCount - 1)];
  }
  uint64_t bits() { return random_.bits(); }

  // Around the multiples of 16 that tiles are made of, small, prime, or anything.
  int64_t length() {
    static constexpr int64_t kSmall[] = {0, 1, 2, 3, 5, 7, 8};
    static constexpr int64_t kPrimes[] = {11, 13, 17, 31, 37, 53, 61, 97, 101, 127, 131, 191, 257};
    static constexpr int64_t kTiles[] = {16, 32, 48, 64, 96, 128, 192, 256};
    const double kind = random_.uniform();
    if (kind < 0.15) return one_of(kSmall);
    if (kind < 0.35) return one_of(kPrimes);
    if (kind < 0.60) return one_of(kTiles) + between(-1, 1);
    return chance(0.04) ? between(300, 600) : between(1, 300);
  }

  int64_t dim() {
    static constexpr int64_t kUsual[] = {8, 16, 32, 40, 64, 64, 80, 96, 128, 128};
    static constexpr int64_t kLarge[] = {160, 192, 255, 256, 257, 511, 512};
    const double kind = random_.uniform();
    if (kind < 0.40) return one_of(kUsual);
    return kind < 0.95 ? between(1, 160) : one_of(kLarge);
  }

  std::string mask(int64_t length) {
    static constexpr const char* kExpressions[] = {
        "(q + k) % 2 == 0 or k <= q",
        "k <= q and doc[min(q, 96)] == doc[min(k, 96)]",
        "doc[min(q, 96)] == doc[min(k, 96)]",
        "abs(q - k) <= 17 or step[q % 7] > 9 or step[k % 7] > 20",
        "layout[min(h, 3), min(k // 40, 4)] > 12",
        "layout[min(q // 32, 3), min(k // 24, 4)] % 3 != 0",
        "k <= q and (k < 4 or q - k <= window)",
        "q // 37 == k // 37 and (h + b) % 3 != k % 3",
        "tree[min(b, 1), min(q // 20, 5), k % 5] > 3",
    };
    const double kind = random_.uniform();
    if (kind < 0.20) return "none";
    if (kind < 0.40) return "causal";
    if (kind < 0.50) return "causal-top-left";
    if (kind < 0.65) return mask_from_text(one_of(kExpressions)).text();
    if (kind < 0.80) {
      const RandomExpression drawn = random_expression(
          random_.bits(), 0, {.is_bindable = true, .operators = static_cast<int>(between(3, 20))});
      return expr::print(drawn.expression);
    }
    const int64_t most = std::max<int64_t>(length, 1);
    const int64_t left = chance(0.2) ? 0 : between(0, most),
                  right = chance(0.5) ? 0 : between(0, most);
    return window(left, right).text();
  }

  std::string score() {
    static constexpr const char* kScores[] = {
        "softcap:cap=5",
        "s - 0.06 * abs(q - k)",
        "s * 0.5 + bias[min(h, 3), max(min(k - q, 15), -15) + 15]",
        "s - slope[h % 4] * float(q - k) / 64",
        "where(q % 5 == 0, s * slope[k % 4], s + bias[0, k % 31])",
        "4 * tanh((s + bias[b % 4, q // 16 % 31]) / 4)",
        "where(k % 7 == 3, -inf, s) + slope[2]",
        "s + bias[h % 4, k // 9 % 31] * bias[(h + 1) % 4, abs(q - k) // 8 % 31]",
        "s / 2 + max(slope[q % 4], slope[k % 4]) * min(s, 1)",
        "s * w - abs(float(q - k)) / 32",
    };
    return one_of(kScores);
  }

  Layout layout(bool may_alias) {
    static constexpr const char* kOrders[] = {"bhsd", "bshd", "bhds", "sbhd",
                                              "hbsd", "dshb", "bdsh"};
    static constexpr const char* kAxes[] = {"b", "h", "s", "d"};
    Layout layout;
    if (chance(0.5)) return layout;
    layout.order = std::string(chance(0.5) ? "bshd" : one_of(kOrders));
    if (chance(0.3)) layout.gap = between(1, 9);
    if (chance(0.1)) layout.step = between(2, 3);
    if (may_alias && chance(0.25)) layout.reversed = std::string(one_of(kAxes));
    if (may_alias && chance(0.15)) layout.broadcast = std::string(chance(0.5) ? "b" : "h");
    return layout;
  }

 private:
  Random random_;
};

void draw_bias(Draw& draw, Case& c) {
  static constexpr const char* kShapes[] = {"k", "nk", "hk", "hnk", "bk", "bnk", "bhk", "bhnk"};
  if (!draw.chance(0.35)) return;
  c.bias = draw.one_of(kShapes);
  c.bias_dtype = draw.chance(0.5) || c.dtype == DType::kFloat64 ? c.dtype : DType::kFloat32;
  if (draw.chance(0.4)) c.bias_minus_infinity = draw.chance(0.2) ? 0.9 : 0.2;
}

// Drawn last, so that the rest of a case is what it would be without.
void draw_dropout(Draw& draw, Case& c) {
  static constexpr double kOdd[] = {0x1p-16, 0.001, 0.5, 0.9, 1 - 0x1p-16};
  if (!draw.chance(0.25)) return;
  c.dropout = draw.chance(0.6) ? 0.1 : draw.one_of(kOdd);
  if (!draw.chance(0.25)) return;
  // Within cells of random bits, and beyond 32 bits.
  c.query_offset = draw.between(1, 40) + (draw.chance(0.5) ? int64_t{1} << 33 : 0);
  c.key_offset = c.query_offset + draw.between(0, 20);
  // Tables that expressions index by b and h end where batch and heads do.
  if (c.mask.find(' ') != std::string::npos || c.score != "s") return;
  c.batch_offset = draw.between(0, 3), c.head_offset = draw.between(0, 40);
}

// Few queries against several chunks of keys: a kernel of its own.
void draw_decode(Draw& draw, Case& c) {
  c.query_length = draw.between(1, 18);
  c.kv_length =
      draw.chance(0.2) ? draw.between(1, 3) * 1024 + draw.between(-1, 1) : draw.between(700, 3300);
  c.head_dim = std::min<int64_t>(c.head_dim, draw.between(1, 130));
  c.value_dim = std::min<int64_t>(c.value_dim, draw.between(1, 130));
  c.same_bits_as_prefill = draw.chance(0.3);
}

// Sequences no longer than the lengths that the case has; some are empty.
void draw_ragged(Draw& draw, Case& c) {
  const auto length = [&](int64_t most) {
    return draw.chance(0.12) ? 0 : draw.chance(0.3) ? most : draw.between(0, most);
  };
  for (int64_t n = draw.between(1, 2 * c.batch); n > 0; --n) {
    const int64_t queries = length(c.query_length);
    const bool is_square = queries <= c.kv_length && draw.chance(0.5);
    c.lengths.emplace_back(queries, is_square ? queries : length(c.kv_length));
    if (draw.chance(0.2)) c.lengths.push_back(c.lengths.front());
  }
  c.batch = static_cast<int64_t>(c.lengths.size());
  c.query_length = c.kv_length = 0;
  for (const auto& [n, m] : c.lengths) c.query_length += n, c.kv_length += m;
  if (draw.chance(0.4)) c.query_length += draw.between(1, 20);
  if (draw.chance(0.4)) c.kv_length += draw.between(1, 20);
  if (draw.chance(0.3)) c.query_length = c.kv_length = std::max(c.query_length, c.kv_length);
}

void shrink(Case& c) {
  const auto work = [&] {
    return c.batch * c.query_heads * c.query_length * c.kv_length * (c.head_dim + c.value_dim);
  };
  if (work() > kMaxWork) c.batch = 1;
  if (work() > kMaxWork) c.query_heads /= c.kv_heads, c.kv_heads = 1;
  if (work() > kMaxWork) c.query_heads = 1;
  while (work() > kMaxWork)
    c.query_length = c.query_length / 2 + 1, c.kv_length = c.kv_length / 2 + 3;
}

}  // namespace

Case random_case(uint64_t seed, uint64_t index) {
  static constexpr DType kDTypes[] = {DType::kFloat32,  DType::kFloat32,  DType::kFloat32,
                                      DType::kBFloat16, DType::kBFloat16, DType::kBFloat16,
                                      DType::kFloat16,  DType::kFloat16,  DType::kFloat64};
  static constexpr Values kValues[] = {Values::kLarge,   Values::kHuge,     Values::kGrowing,
                                       Values::kFalling, Values::kConstant, Values::kTiny};
  static constexpr NotANumber kPlaces[] = {NotANumber::kKey, NotANumber::kValue, NotANumber::kQuery,
                                           NotANumber::kUnseen, NotANumber::kUnseen};
  Draw draw(seed, index);
  Case c;
  c.seed = draw.bits();
  c.dtype = draw.one_of(kDTypes);
  c.batch = draw.chance(0.03) ? 0 : draw.between(1, 3);
  c.kv_heads = draw.between(1, 4);
  c.query_heads = c.kv_heads * (draw.chance(0.5) ? 1 : draw.between(1, 8 / c.kv_heads));
  c.query_length = draw.length();
  c.kv_length = draw.chance(0.35) ? c.query_length : draw.length();
  c.head_dim = draw.dim();
  c.value_dim = draw.chance(0.6) ? c.head_dim : draw.dim();
  if (draw.chance(0.12)) draw_decode(draw, c);
  shrink(c);
  if (c.batch > 0 && draw.chance(0.25)) draw_ragged(draw, c);
  c.mask = draw.mask(c.kv_length);
  if (draw.chance(0.25)) c.scale = std::ldexp(double(draw.between(1, 1000)), -11);
  if (draw.chance(0.2)) {
    c.query_offset = draw.between(0, 40);
    c.key_offset = draw.chance(0.5) ? c.query_offset + draw.between(0, 20) : draw.between(0, 40);
  }
  draw_bias(draw, c);
  c.has_grad_logsumexp = draw.chance(0.3);
  c.is_packed = c.query_length == c.kv_length && c.head_dim == c.value_dim && draw.chance(0.4);
  if (!c.is_packed) {
    c.query = draw.layout(true), c.key = draw.layout(true), c.value = draw.layout(true);
    c.gradient = draw.layout(false);
  }
  c.output = draw.layout(false);
  if (draw.chance(0.35)) c.values = draw.one_of(kValues);
  if (draw.chance(0.15)) {
    c.not_a_number = draw.one_of(kPlaces);
    for (Layout* layout : {&c.query, &c.key, &c.value}) layout->broadcast.clear();
  }
  c.flush = draw.chance(0.5) ? Flush::kLeft : Flush::kRight;
  // A derivative by a table that underflows to 0 hides a NaN.
  const bool may_underflow = c.values == Values::kTiny && c.not_a_number != NotANumber::kNone;
  if (draw.chance(0.2) && !may_underflow) c.score = score_from_text(draw.score()).text();
  draw_dropout(draw, c);
  static constexpr Sinks kSinks[] = {Sinks::kNormal,       Sinks::kNormal, Sinks::kLarge,
                                     Sinks::kSmall,        Sinks::kMixed,  Sinks::kMixed,
                                     Sinks::kMinusInfinity};
  c.has_wide_output = draw.chance(0.1) && dtype_bytes(c.dtype) == 2;
  // O of such small integral multiples of the least number is often halfway between two of them.
  const bool has_ties = c.values == Values::kTiny && c.dtype == DType::kFloat16;
  if (draw.chance(0.25) && !has_ties) c.sink = draw.one_of(kSinks);
  return c;
}

}  // namespace tilewise::verify
