// SPDX-License-Identifier: Apache-2.0
// The backward of every kernel against plain float64 loops (kernels/reference).
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/random.h"
#include "kernels/cpu/backward_harness.h"

namespace tilewise {
namespace {

using namespace backward_test;

// Computes and compares. Returns the bits.
Results check(const Kernel& kernel, Data& data, const Setting& how, int* again = nullptr) {
  const auto in = data.inputs();
  run_forward(kernel, data);
  Results results(data);
  const int count = run_backward(kernel, data, how, results);
  if (again) *again = count;
  const auto exact = reference::backward(in);
  const auto naive = reference::naive_backward_rows(in, reference::all_rows(in.query));
  expect_near("dQ", results.dq, exact.query, naive.query);
  expect_near("dK", results.dk, exact.key, naive.key);
  expect_near("dV", results.dv, exact.value, naive.value);
  if (data.c.bias) expect_near("dbias", results.dbias, exact.bias, naive.bias);
  return results;
}

const Case kCases[] = {
    {.queries = 1, .keys = 2},
    {.queries = 3, .keys = 2, .head_dim = 1, .value_dim = 1},
    {.batch = 2,
     .query_heads = 3,
     .kv_heads = 3,
     .queries = 100,
     .keys = 131,
     .head_dim = 64,
     .value_dim = 64},
    {.queries = 300, .keys = 260, .head_dim = 40, .value_dim = 72, .mask = "causal"},
    {.queries = 260, .keys = 300, .head_dim = 64, .value_dim = 32, .mask = "causal"},
    {.query_heads = 6,
     .kv_heads = 2,
     .queries = 65,
     .keys = 97,
     .head_dim = 17,
     .value_dim = 33,
     .mask = "causal",
     .layout = Layout::kHeadsInside,
     .dlse = true},
    {.query_heads = 2,
     .queries = 400,
     .keys = 200,
     .head_dim = 16,
     .value_dim = 16,
     .mask = "window:20,0",
     .layout = Layout::kSpread},
    {.queries = 500, .keys = 520, .head_dim = 32, .value_dim = 32, .mask = "window:70,30"},
    {.queries = 50,
     .keys = 300,
     .head_dim = 20,
     .value_dim = 5,
     .mask = "causal-top-left",
     .layout = Layout::kBackwards},
    {.queries = 70, .keys = 60, .head_dim = 128, .value_dim = 130, .mask = "causal"},
    {.queries = 20, .keys = 50, .head_dim = 512, .value_dim = 300},
    {.query_heads = 2,
     .queries = 130,
     .keys = 150,
     .head_dim = 24,
     .value_dim = 40,
     .mask = "causal",
     .dlse = true,
     .dropout = 0.25},
    {.query_heads = 2,
     .kv_heads = 2,
     .queries = 70,
     .keys = 300,
     .head_dim = 16,
     .value_dim = 16,
     .bias = 2,
     .dropout = 0.5},
    {.queries = 0, .keys = 5},
    {.queries = 5, .keys = 0},
    {.query_heads = 4,
     .kv_heads = 2,
     .queries = 60,
     .keys = 101,
     .head_dim = 8,
     .value_dim = 8,
     .bias = 1},
    {.batch = 2,
     .query_heads = 4,
     .kv_heads = 2,
     .queries = 60,
     .keys = 70,
     .head_dim = 8,
     .value_dim = 8,
     .mask = "causal",
     .bias = 2,
     .dlse = true},
    {.batch = 2,
     .query_heads = 4,
     .kv_heads = 2,
     .queries = 60,
     .keys = 70,
     .head_dim = 8,
     .value_dim = 8,
     .bias = 3},
    {.batch = 2,
     .query_heads = 4,
     .kv_heads = 2,
     .queries = 60,
     .keys = 70,
     .head_dim = 8,
     .value_dim = 8,
     .mask = "window:9,9",
     .bias = 8},
    {.queries = 200, .keys = 300, .head_dim = 24, .value_dim = 24, .bias = 5},
    {.queries = 90, .keys = 90, .head_dim = 64, .value_dim = 64, .mask = "causal", .size = 3},
};

class FlashBackward : public testing::TestWithParam<Named> {
 protected:
  const Kernel& kernel() const {
    return *GetParam().table->kernels[static_cast<int>(GetParam().dtype)];
  }
};

INSTANTIATE_TEST_SUITE_P(Kernels, FlashBackward, testing::ValuesIn(all_kernels()), name_of_kernel);

TEST_P(FlashBackward, WithinTheErrorOfNaive) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(testing::PrintToString(c));
    Data data(c, GetParam().dtype);
    int again = 0;
    check(kernel(), data, {}, &again);
    EXPECT_EQ(again, 0);
  }
}

// Neither threads nor tiles change a bit.
TEST_P(FlashBackward, BitsDependOnNothingElse) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(testing::PrintToString(c));
    Data data(c, GetParam().dtype);
    run_forward(kernel(), data);
    const int64_t unit = kernel().limits.unit.backward_key_tile,
                  rows = kernel().limits.unit.backward_query_tile;
    Results one(data);
    run_backward(kernel(), data, {}, one);
    for (const Setting& how : {Setting{2, 0, unit}, Setting{1, 6 * rows, 2 * unit},
                               Setting{2, 3 * rows, unit}, Setting{2, 256, 3 * unit}}) {
      Results other(data);
      run_backward(kernel(), data, how, other);
      EXPECT_EQ(one.bits(), other.bits())
          << how.threads << " threads, " << how.query_tile << " x " << how.key_tile;
    }
  }
}

bool has_nan(const std::vector<double>& x) {
  for (const double y : x)
    if (std::isnan(y)) return true;
  return false;
}

// NaN behind a mask changes nothing; a visible NaN stands exactly where the reference has it.
TEST_P(FlashBackward, NanStaysWhereItIsVisible) {
  const Case shapes[] = {
      {.queries = 70, .keys = 70, .head_dim = 16, .value_dim = 16, .mask = "causal"},
      {.query_heads = 2,
       .queries = 70,
       .keys = 130,
       .head_dim = 9,
       .value_dim = 16,
       .mask = "window:5,3"},
      {.query_heads = 2, .queries = 40, .keys = 60, .head_dim = 16, .value_dim = 7, .bias = 5},
      {.queries = 70,
       .keys = 70,
       .head_dim = 16,
       .value_dim = 16,
       .mask = "causal",
       .dropout = 0.5},
  };
  for (const Case& c : shapes)
    for (const double poison : {kNan, kInf})
      for (int where = 0; where < 4; ++where) {
        SCOPED_TRACE(testing::PrintToString(c) + " in " + std::to_string(where));
        Data data(c, GetParam().dtype);
        Array* target[] = {&data.q, &data.k, &data.v, &data.g};
        if (poison == kInf && where < 2) continue;
        target[where]->set(0, 0, target[where]->view.shape[2] - 20, 3, poison);
        int again = 0;
        const Results results = check(kernel(), data, {}, &again);
        EXPECT_GE(again, 1);
        EXPECT_TRUE(has_nan(results.dq.values()));
      }
}

// A row or key that nobody sees may hold anything: not a bit changes.
TEST_P(FlashBackward, UnseenNanChangesNoBit) {
  const Case shapes[] = {
      {.queries = 70, .keys = 50, .head_dim = 16, .value_dim = 16, .mask = "causal"},
      {.queries = 40, .keys = 70, .head_dim = 16, .value_dim = 16, .mask = "causal-top-left"},
      {.queries = 40, .keys = 60, .head_dim = 16, .value_dim = 16, .bias = 5},
  };
  for (const Case& c : shapes) {
    SCOPED_TRACE(testing::PrintToString(c));
    Data data(c, GetParam().dtype);
    if (c.bias)
      for (int64_t key = 0; key < c.keys; ++key) data.bias.set(0, 0, 0, key, -kInf);
    if (c.bias)
      for (int64_t query = 0; query < data.bias.view.shape[2]; ++query)
        data.bias.set(0, 0, query, c.keys - 1, -kInf);
    const Results clean = check(kernel(), data, {});
    const bool first_query_sees = std::isfinite(data.lse.values()[0]);
    if (!first_query_sees) {
      data.q.set(0, 0, 0, 3, kNan);
      data.g.set(0, 0, 0, 3, kNan);
    }
    if (first_query_sees || c.bias) {
      data.k.set(0, 0, c.keys - 1, 2, kNan);
      data.v.set(0, 0, c.keys - 1, 2, kNan);
    }
    int again = 0;
    const Results poisoned = check(kernel(), data, {}, &again);
    EXPECT_EQ(clean.bits(), poisoned.bits());
  }
}

}  // namespace
}  // namespace tilewise
