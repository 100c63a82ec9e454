// SPDX-License-Identifier: Apache-2.0
#include "engine/negligible_tiles.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/plan_data.h"
#include "engine/small_attention.h"
#include "kernels/cpu/registry.h"
#include "support/sanitizers.h"
#include "tilewise/attention.h"

namespace tilewise {
namespace {

constexpr int64_t kLength = 900, kHeads = 3;

// Heads of a steep, a gentle and no slope at all: distant keys vanish in the first alone.
struct Alibi {
  testing::SmallAttention attention;
  testing::Array slope, sink;  // the sink is used where the problem has one

  explicit Alibi(DType dtype, const Mask& mask = causal(), const char* score = "alibi")
      : attention(problem_of(dtype, mask, score), {.query_length = kLength, .kv_length = kLength},
                  [](int64_t, int64_t) { return true; }),
        slope(dtype, 1, 1, 1, kHeads),
        sink(testing::SmallAttention::real(dtype), 1, kHeads, 1, 1) {
    for (int64_t h = 0; h < kHeads; ++h) {
      const double slopes[] = {dtype == DType::kFloat64 ? 8.0 : 1.0, 0.001, 0};
      store_element(slope.bytes.data(), dtype, h, slopes[h]);
      store_element(sink.bytes.data(), sink.tensor.dtype, h, 9 - 5 * static_cast<double>(h));
    }
  }
  static Problem problem_of(DType dtype, const Mask& mask, const char* score) {
    Problem problem;
    problem.query_heads = problem.kv_heads = kHeads;
    problem.max_query_length = problem.max_kv_length = kLength;
    problem.head_dim = 16;
    problem.dtype = dtype;
    problem.mask = mask;
    problem.score = std::string(score) == "alibi" ? alibi() : score_from_text(score);
    return problem;
  }
  [[nodiscard]] Plan plan(const std::string& isa, bool searches) const {
    const TileLimits& limits =
        choose_kernels(isa).kernels[static_cast<int32_t>(attention.problem.dtype)]->limits;
    const Geometry& unit = limits.unit;
    const auto tile = [](int64_t u) { return (96 + u - 1) / u * u; };
    Plan result =
        make_plan_with_tiles(attention.problem, {.isa = isa, .threads = 2},
                             {tile(unit.query_tile), tile(unit.key_tile),
                              tile(unit.backward_query_tile), tile(unit.backward_key_tile)});
    if (!searches) const_cast<Plan::Data&>(result.data()).bound_steps = 0;
    return result;
  }
  [[nodiscard]] std::vector<NamedTensor> tables() const { return {{"slope", slope.tensor}}; }
  std::vector<std::vector<std::byte>> run(const Plan& plan) {
    testing::SmallAttention& a = attention;
    Workspace workspace(plan);
    const Schedule schedule = plan.schedule(a.step);
    ForwardTensors forward = a.forward_tensors();
    forward.tables = tables();
    if (a.problem.has_sink) forward.sink = sink.tensor;
    plan.forward(schedule, forward, workspace);
    BackwardTensors backward = a.backward_tensors();
    backward.tables = tables();
    testing::Array grad(testing::SmallAttention::real(a.problem.dtype), 1, 1, 1, kHeads);
    backward.grad_tables = {{"slope", grad.tensor}};
    testing::Array grad_sink(sink.tensor.dtype, 1, kHeads, 1, 1);
    if (a.problem.has_sink) backward.sink = sink.tensor, backward.grad_sink = grad_sink.tensor;
    plan.backward(schedule, backward, workspace);
    return {a.output.bytes,     a.logsumexp.bytes, a.grad_query.bytes, a.grad_key.bytes,
            a.grad_value.bytes, grad.bytes,        grad_sink.bytes};
  }
  // The ranges of the forward; empty if nothing is negligible.
  [[nodiscard]] std::vector<TileRange> ranges(const Plan& plan) const {
    const Schedule schedule = plan.schedule(attention.step);
    const Schedule::Data& data = schedule.data();
    Workspace workspace(plan);
    const Tensor by_symbol[] = {slope.tensor};
    const NegligibleInputs inputs = {
        .score = &data.score.bounds,
        .derivative = nullptr,
        .tiles = &data.forward_tiles,
        .class_of_head = data.heads.class_of_head.data(),
        .grid = cut(data.step, data.geometry.query_tile, data.geometry.key_tile),
        .origin = {},
        .scale = *plan.problem().scale,
        .query = attention.query.tensor,
        .key = attention.key.tensor,
        .value = attention.value.tensor,
        .grad_output = {},
        .real_tables = by_symbol};
    const NegligibleSearch::Memory memory =
        negligible_memory(data.forward.negligible, workspace.data(), 0, 0, 0);
    find_negligible_tiles(
        data.items.key_blocks, data.items.forward_rows,
        [&](int64_t) { return NegligibleSearch(inputs, memory); }, *plan.data().executor,
        data.forward_workers, data.forward.counter.in<int64_t>(workspace.data()));
    if (*memory.is_searched == 0) return {};
    return {memory.ranges, memory.ranges + kHeads * inputs.grid.rows()};
  }
};

// No score of a tile that is left out comes near the largest one of its row.
TEST(NegligibleTiles, TheirScoresAreFarBelow) {
  const Alibi x(DType::kFloat32);
  const Plan plan = x.plan("scalar", true);
  const Geometry geometry = plan.schedule(x.attention.step).data().geometry;
  const std::vector<TileRange> ranges = x.ranges(plan);
  const auto rows = static_cast<int64_t>(ranges.size()) / kHeads;
  ASSERT_GT(rows, 5);
  const auto score = [&](int64_t h, int64_t q, int64_t k) {
    double sum = 0;
    for (int64_t i = 0; i < 16; ++i)
      sum += x.attention.query.at(0, h, q, i) * x.attention.key.at(0, h, k, i);
    return sum / 4 - x.slope.at(0, 0, 0, h) * static_cast<double>(q - k);
  };
  int64_t left_out[kHeads] = {};
  for (int64_t n = 0; n < kHeads * rows; ++n) {
    const TileRange& range = ranges[static_cast<size_t>(n)];
    const int64_t h = n / rows, first = range.first * geometry.key_tile;
    left_out[h] += range.first;
    for (int64_t q = n % rows * geometry.query_tile;
         q < std::min((n % rows + 1) * geometry.query_tile, kLength); ++q) {
      double largest = -INFINITY;
      for (int64_t k = 0; k <= q; ++k) largest = std::max(largest, score(h, q, k));
      for (int64_t k = 0; k < first; ++k)
        ASSERT_LT(score(h, q, k), largest - std::log(2) * 127) << h << " " << q << " " << k;
    }
  }
  EXPECT_GT(left_out[0], rows * (rows - 1) / 8);
  EXPECT_EQ(left_out[1], 0);
  EXPECT_EQ(left_out[2], 0);
}

TEST(NegligibleTiles, LeavingThemOutChangesNoBit) {
  for (const std::string& isa : test::isas_to_run_on_threads()) {
    for (const DType dtype :
         {DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kFloat64}) {
      if (dtype == DType::kFloat64 && isa != "scalar") continue;  // the same kernel everywhere
      SCOPED_TRACE(isa + " " + dtype_name(dtype));
      Alibi x(dtype);
      EXPECT_FALSE(x.ranges(x.plan(isa, true)).empty());
      for (const bool has_sink : {false, true}) {
        x.attention.problem.has_sink = has_sink;
        const auto with = x.run(x.plan(isa, true)), without = x.run(x.plan(isa, false));
        EXPECT_TRUE(with == without);
      }
    }
  }
}

// Distant keys on both sides, behind other masks, and where the slope is a number of the text.
TEST(NegligibleTiles, OfAnyMaskAndScore) {
  for (const char* mask : {"k >= 0", "(q + k) % 5 != 3 or q == k", "k <= q and k // 64 % 3 != 1"}) {
    for (const char* score :
         {"20 * tanh(s / 20) - 0.75 * abs(q - k) + slope[h]", "s * 0.5 - slope[h] * abs(q - k)"}) {
      SCOPED_TRACE(std::string(mask) + ", " + score);
      Alibi x(DType::kFloat32, mask_from_text(mask), score);
      const bool is_found = !x.ranges(x.plan("", true)).empty();
      EXPECT_EQ(is_found, std::string(mask) != "(q + k) % 5 != 3 or q == k")
          << "without a full tile in its row no tile is proved to be negligible";
      EXPECT_TRUE(x.run(x.plan("", true)) == x.run(x.plan("", false)));
    }
  }
}

// 0 * NaN is NaN: a visible NaN reaches the result as it does without the search.
TEST(NegligibleTiles, NothingIsLeftOutNearNaN) {
  for (int which = 0; which < 4; ++which) {
    SCOPED_TRACE(which);
    Alibi x(DType::kFloat32);
    testing::SmallAttention& a = x.attention;
    testing::Array* arrays[] = {&a.query, &a.key, &a.value, &a.grad_output};
    testing::Array& array = *arrays[which];
    store_element(array.bytes.data(), array.tensor.dtype, array.index(0, 0, 3, 2),
                  which == 2 ? INFINITY : NAN);
    const auto with = x.run(x.plan("", true)), without = x.run(x.plan("", false));
    EXPECT_TRUE(with == without);
  }
}

// Many short tiles of queries: two workers, and tiles of the kernel that blocks make shorter still.
TEST(NegligibleTiles, ShortTilesOfQueriesFit) {
  Problem problem;
  problem.query_heads = problem.kv_heads = 1;
  problem.max_query_length = 64;
  problem.max_kv_length = 4000;
  problem.head_dim = 16;
  problem.dtype = DType::kFloat64;
  problem.mask = mask_from_text("(q // 20 + k // 128) % 2 == 0");
  problem.score = score_from_text("s - 4.0 * abs(q - k)");
  testing::SmallAttention a(problem, {.query_length = 64, .kv_length = 4000},
                            [](int64_t, int64_t) { return true; });
  const auto output = [&](bool searches) {
    const Plan plan = make_plan(a.problem, {.threads = 2});
    if (!searches) const_cast<Plan::Data&>(plan.data()).bound_steps = 0;
    const Schedule schedule = plan.schedule(a.step);
    if (searches) {
      EXPECT_LE(static_cast<int64_t>(sizeof(TileRange)) *
                    schedule.data().forward_tiles[0].by_query.view().rows,
                schedule.data().forward.negligible.ranges.bytes);
    }
    Workspace workspace(plan);
    plan.forward(schedule, a.forward_tensors(), workspace);
    return a.output.bytes;
  };
  EXPECT_TRUE(output(true) == output(false));
}

TEST(NegligibleTiles, AGentleScoreIsNotSearched) {
  Alibi x(DType::kFloat32);
  for (int64_t h = 0; h < kHeads; ++h)
    store_element(x.slope.bytes.data(), DType::kFloat32, h, 0.01);
  EXPECT_TRUE(x.ranges(x.plan("", true)).empty());
  Alibi y(DType::kFloat32, causal(), "s * slope[h]");
  EXPECT_EQ(y.plan("", true).data().bound_steps, 0) << "nothing depends on positions";
}

}  // namespace
}  // namespace tilewise
