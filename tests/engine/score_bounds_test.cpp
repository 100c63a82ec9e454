// SPDX-License-Identifier: Apache-2.0
#include "engine/score_bounds.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"
#include "engine/small_attention.h"
#include "expr/eval_scalar.h"
#include "expr/parse.h"

namespace tilewise {
namespace {

// Every value at a point of a box lies in the interval of the box, for tables that only a run
// knows.
TEST(ScoreBounds, ContainEveryValue) {
  testing::Array slope(DType::kFloat32, 1, 1, 2, 3), decay(DType::kBFloat16, 1, 1, 1, 40);
  Random random(5);
  slope.fill_normal(random);
  decay.fill_normal(random);
  int64_t known = 0;
  for (const char* text :
       {"s - slope[b, h] * (q - k)", "8 * tanh(s / 8) + decay[q - k + 8]", "s * slope[b, h] - q",
        "max(s, decay[k]) - 0.5 * abs(q - k)", "exp(s / 4) + slope[b, 0] * k", "s"}) {
    const expr::Expression score = expr::parse_score(text);
    expr::Values values;
    std::vector<Tensor> by_symbol;
    for (const expr::Symbol& symbol : score.graph->symbols()) {
      const Tensor& table = symbol.name == "slope" ? slope.tensor : decay.tensor;
      by_symbol.push_back(table);
      values.symbols.emplace_back().real_table = table;
    }
    const ScoreBounds bounds(score, values);
    expr::ScalarEvaluator truth(score, values);
    std::vector<expr::IntervalRegister> registers(static_cast<size_t>(bounds.steps()));
    for (int round = 0; round < 200; ++round) {
      const int64_t batch = random.between(0, 1), head = random.between(0, 2);
      const double largest = random.uniform() * 6;
      bounds.begin(registers.data(), batch, head, {8, 31, 0, 31}, by_symbol.data());
      bounds.bound_products(registers.data(), largest);
      expr::Box boxes[expr::kLanes];
      for (expr::Box& box : boxes) {
        box.q0 = random.between(8, 28), box.q1 = box.q0 + random.between(0, 3);
        box.k0 = random.between(0, 28), box.k1 = box.k0 + random.between(0, 3);
      }
      expr::RealInterval result[expr::kLanes];
      bounds.evaluate(registers.data(), boxes, result);
      for (int i = 0; i < expr::kLanes; ++i) {
        known += result[i].is_known() && result[i].hi - result[i].lo < 100;
        for (int64_t q = boxes[i].q0; q <= boxes[i].q1; ++q)
          for (int64_t k = boxes[i].k0; k <= boxes[i].k1; ++k)
            for (const double s : {-largest, 0.3 * largest, largest}) {
              const double value = truth.real({batch, head, q, k, s});
              if (!result[i].is_known()) continue;
              ASSERT_LE(result[i].lo, value) << text;
              ASSERT_GE(result[i].hi, value) << text;
            }
      }
    }
  }
  EXPECT_GT(known, 4000) << "of 4800";
}

TEST(ScoreBounds, NaNInATableIsUnknown) {
  testing::Array slope(DType::kFloat32, 1, 1, 1, 2);
  store_element(slope.bytes.data(), DType::kFloat32, 0, NAN);
  store_element(slope.bytes.data(), DType::kFloat32, 1, 2);
  const expr::Expression score = expr::parse_score("s - slope[h] * (q - k)");
  expr::Values values;
  values.symbols.emplace_back();
  const ScoreBounds bounds(score, values);
  std::vector<expr::IntervalRegister> registers(static_cast<size_t>(bounds.steps()));
  for (const int64_t head : {0, 1}) {
    const expr::Box box{0, 9, 0, 9};
    bounds.begin(registers.data(), 0, head, box, &slope.tensor);
    bounds.bound_products(registers.data(), 1);
    expr::RealInterval result[expr::kLanes];
    bounds.evaluate(registers.data(), {box, box, box, box}, result);
    EXPECT_EQ(result[0].is_known(), head == 1);
  }
}

}  // namespace
}  // namespace tilewise
