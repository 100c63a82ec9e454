// SPDX-License-Identifier: Apache-2.0
// Gradients of the real tables of a score: their numbers, and that their bits depend on neither
// threads nor tiles.
#include <gtest/gtest.h>

#include <cmath>
#include <thread>

#include "engine/plan_data.h"
#include "engine/small_attention.h"
#include "kernels/cpu/registry.h"
#include "kernels/reference/reference.h"
#include "support/sanitizers.h"
#include "tilewise/attention.h"

namespace tilewise {
namespace {

using testing::Array;
using testing::SmallAttention;

// Workers on threads of their own, however small the machine is.
class ThreadExecutor : public Executor {
 public:
  [[nodiscard]] int max_workers() const noexcept override { return 8; }
  void run(int workers, void (*task)(void*, int), void* context) override {
    std::vector<std::thread> threads;
    for (int w = 0; w < workers; ++w) threads.emplace_back(task, context, w);
    for (std::thread& thread : threads) thread.join();
  }
};

// Lookups by head, by key, by query and by pair; two of them in one table.
constexpr const char* kScore =
    "s * gain[q // 16 % 8] - slope[h % 4] * float(q - k) / 64 + bias[h % 2, max(min(k - q, 20), "
    "-20) + 20] * bias[0, k % 41]";

struct Scored {
  SmallAttention attention;
  std::vector<NamedTensor> tables, grads;
  std::vector<Array> memory;

  Scored(DType dtype, DType table_dtype, Mask mask, const Step& step, int64_t query_heads,
         int64_t kv_heads, const char* score = kScore)
      : attention(problem_of(dtype, std::move(mask), step, query_heads, kv_heads, score), step,
                  [](int64_t, int64_t) { return true; }) {
    memory.reserve(6);
    Random random(7);
    for (const auto& [name, rows, columns] :
         {std::tuple{"gain", 1, 8}, std::tuple{"slope", 1, 4}, std::tuple{"bias", 2, 43}}) {
      if (std::string(score).find(name) == std::string::npos) continue;
      // Rows of the table, not of its gradient, lie across.
      memory.emplace_back(table_dtype, 1, rows, columns, 1, true);
      memory.back().fill_normal(random);
      tables.push_back({name, across(memory.back().tensor)});
      memory.emplace_back(SmallAttention::real(dtype), 1, 1, rows, columns);
      grads.push_back({name, memory.back().tensor});
    }
  }
  static Problem problem_of(DType dtype, Mask mask, const Step& step, int64_t query_heads,
                            int64_t kv_heads, const char* score) {
    Problem problem;
    problem.query_heads = query_heads;
    problem.kv_heads = kv_heads;
    problem.max_batch = step.batch;
    problem.max_query_length = step.query_length;
    problem.max_kv_length = step.kv_length;
    problem.head_dim = 17;
    problem.value_dim = 9;
    problem.dtype = dtype;
    problem.mask = std::move(mask);
    problem.score = score_from_text(score);
    return problem;
  }
  // [1, rows, columns, 1] as [1, 1, rows, columns].
  static Tensor across(Tensor t) {
    for (int axis = 3; axis > 1; --axis) {
      t.shape[axis] = t.shape[axis - 1];
      t.strides[axis] = t.strides[axis - 1];
    }
    t.shape[1] = 1;
    return t;
  }
  void forward(const Plan& plan) {
    ForwardTensors tensors = attention.forward_tensors();
    tensors.tables = tables;
    Workspace workspace(plan);
    plan.forward(plan.schedule(attention.step), tensors, workspace);
  }
  // The bytes of all gradients.
  std::vector<std::vector<std::byte>> run(const Plan& plan) {
    forward(plan);
    BackwardTensors tensors = attention.backward_tensors();
    tensors.tables = tables;
    tensors.grad_tables = grads;
    Workspace workspace(plan);
    std::fill_n(static_cast<std::byte*>(workspace.data()), workspace.bytes(), std::byte{0xff});
    plan.backward(plan.schedule(attention.step), tensors, workspace);
    std::vector<std::vector<std::byte>> bytes = {
        attention.grad_query.bytes, attention.grad_key.bytes, attention.grad_value.bytes};
    for (size_t i = 1; i < memory.size(); i += 2) bytes.push_back(memory[i].bytes);
    return bytes;
  }
  [[nodiscard]] Array& gradient(size_t i) { return memory[2 * i + 1]; }
  [[nodiscard]] reference::Gradients expected() const {
    const BackwardTensors t = attention.backward_tensors();
    reference::Inputs in;
    in.query = t.query, in.key = t.key, in.value = t.value;
    in.grad_output = t.grad_output, in.grad_logsumexp = t.grad_logsumexp;
    in.mask = attention.problem.mask;
    in.score = attention.problem.score;
    in.step = attention.step;
    in.tables = tables;
    in.scale = 1 / std::sqrt(17.0);
    return reference::backward(in);
  }
};

TEST(TableGradients, MatchTheReferenceForEveryDtypeAndInstructionSet) {
  ThreadExecutor executor;
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kFloat64}) {
    for (const char* mask : {"none", "causal", "(q + 2 * k) % 5 != 0 and q != 40"}) {
      Scored x(dtype, dtype, mask_from_text(mask),
               {.batch = 2, .query_length = 131, .kv_length = 150}, 4, 2);
      const auto expected = x.expected();
      for (const std::string& isa : test::isas_to_run_on_threads()) {
        if (dtype == DType::kFloat64 && isa != "scalar") continue;  // the same kernel everywhere
        SCOPED_TRACE(isa + " " + dtype_name(dtype) + " " + mask);
        x.run(make_plan(x.attention.problem, {.isa = isa, .threads = 3, .executor = &executor}));
        for (size_t i = 0; i < x.tables.size(); ++i)
          EXPECT_LE(testing::relative_error(x.gradient(i), expected.tables[i]),
                    testing::tolerance(dtype))
              << x.tables[i].name;
      }
    }
  }
}

TEST(TableGradients, TablesAreOfAnyDtype) {
  for (const DType table_dtype :
       {DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kFloat64}) {
    SCOPED_TRACE(dtype_name(table_dtype));
    Scored x(DType::kFloat32, table_dtype, causal(), {.query_length = 70, .kv_length = 90}, 2, 2);
    x.run(make_plan(x.attention.problem));
    const auto expected = x.expected();
    for (size_t i = 0; i < x.tables.size(); ++i)
      EXPECT_LE(testing::relative_error(x.gradient(i), expected.tables[i]),
                testing::tolerance(DType::kFloat32));
  }
}

TEST(TableGradients, OnlyThoseWantedAreWritten) {
  Scored x(DType::kFloat32, DType::kFloat32, causal(), {.query_length = 33, .kv_length = 33}, 2, 2);
  const Plan plan = make_plan(x.attention.problem);
  const auto all = x.run(plan);
  x.grads = {x.grads[1]};
  std::fill(x.gradient(0).bytes.begin(), x.gradient(0).bytes.end(), std::byte{0x11});
  const auto one = x.run(plan);
  EXPECT_EQ(one[4], all[4]);
  EXPECT_EQ(one[3], std::vector<std::byte>(all[3].size(), std::byte{0x11}));
}

TEST(TableGradients, BitsDoNotDependOnThreads) {
  ThreadExecutor executor;
  // 80 kv heads share 64 copies of the sums; one head is shared by all threads.
  for (const auto& [batch, kv_heads, length] :
       {std::tuple{40, 2, 60}, std::tuple{1, 1, 700}, std::tuple{3, 1, 250}}) {
    Scored x(DType::kFloat32, DType::kFloat32, causal(),
             {.batch = batch, .query_length = length, .kv_length = length}, 2 * kv_heads, kv_heads);
    std::vector<std::vector<std::byte>> first;
    for (const int threads : {1, 2, 3, 5, 8}) {
      const auto bits =
          x.run(make_plan(x.attention.problem, {.threads = threads, .executor = &executor}));
      if (threads == 1) first = bits;
      EXPECT_TRUE(bits == first) << threads << " threads, batch " << batch;
    }
  }
}

TEST(TableGradients, BitsDoNotDependOnTiles) {
  for (const std::string& isa : test::isas_to_run_on_threads()) {
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      SCOPED_TRACE(isa + " " + dtype_name(dtype));
      Scored x(dtype, dtype, mask_from_text("k <= q and (q + k) % 7 != 3"),
               {.query_length = 330, .kv_length = 340}, 2, 1);
      const TileLimits& limits = choose_kernels(isa).kernels[static_cast<int32_t>(dtype)]->limits;
      Geometry small = limits.unit, large = limits.unit;
      large.backward_query_tile = limits.max.backward_query_tile;
      large.backward_key_tile = 5 * limits.unit.backward_key_tile;
      large.key_tile = limits.max.key_tile;
      const auto one = x.run(make_plan_with_tiles(x.attention.problem, {.isa = isa}, small));
      const auto other = x.run(make_plan_with_tiles(x.attention.problem, {.isa = isa}, large));
      EXPECT_TRUE(one == other);
    }
  }
}

TEST(TableGradients, NaNReachesOnlyElementsThatMeetIt) {
  // Key 86 is seen by queries 86 to 89, which see keys 83 to 89.
  Scored x(DType::kFloat32, DType::kFloat32, window(3, 0), {.query_length = 90, .kv_length = 90}, 2,
           1, "s + bias[1, k % 43]");
  Array& key = x.attention.key;
  store_element(key.bytes.data(), key.tensor.dtype, key.index(0, 0, 86, 2), NAN);
  x.run(make_plan(x.attention.problem));
  for (int64_t i = 0; i < 43; ++i) {
    bool meets = false;
    for (int64_t k = 83; k < 90; ++k) meets = meets || k % 43 == i;
    EXPECT_EQ(std::isnan(x.gradient(0).at(0, 0, 1, i)), meets) << i;
    EXPECT_EQ(x.gradient(0).at(0, 0, 0, i), 0) << i;
  }
}

TEST(TableGradients, EmptyStepsGiveZeros) {
  for (const auto& [batch, queries, keys] :
       {std::array<int64_t, 3>{0, 5, 5}, {2, 0, 5}, {2, 5, 0}}) {
    Scored x(DType::kFloat32, DType::kFloat32, {},
             {.batch = batch, .query_length = queries, .kv_length = keys}, 2, 2);
    x.run(make_plan(x.attention.problem));
    for (size_t i = 0; i < x.tables.size(); ++i)
      for (const std::byte byte : x.gradient(i).bytes) EXPECT_EQ(byte, std::byte{0});
  }
}

// Against central differences of the library's own forward.
TEST(TableGradients, AreThoseOfTheForward) {
  Scored x(DType::kFloat64, DType::kFloat64, causal(), {.query_length = 21, .kv_length = 30}, 4, 2);
  const Plan plan = make_plan(x.attention.problem);
  x.run(plan);
  const auto loss = [&] {
    x.forward(plan);
    const SmallAttention& a = x.attention;
    double sum = 0;
    for (int64_t h = 0; h < 4; ++h)
      for (int64_t q = 0; q < 21; ++q) {
        sum += a.grad_logsumexp.at(0, h, q, 0) * a.logsumexp.at(0, h, q, 0);
        for (int64_t i = 0; i < 9; ++i)
          sum += a.grad_output.at(0, h, q, i) * a.output.at(0, h, q, i);
      }
    return sum;
  };
  for (size_t i = 0; i < x.tables.size(); ++i) {
    const Tensor& table = x.tables[i].tensor;
    for (int64_t row = 0; row < table.shape[2]; ++row)
      for (int64_t column = 0; column < table.shape[3]; ++column) {
        double& value =
            static_cast<double*>(table.data)[row * table.strides[2] + column * table.strides[3]];
        const double before = value, step = 1e-5;
        value = before + step;
        const double above = loss();
        value = before - step;
        const double below = loss();
        value = before;
        EXPECT_NEAR(x.gradient(i).at(0, 0, row, column), (above - below) / (2 * step), 1e-6)
            << x.tables[i].name << " " << row << " " << column;
      }
  }
}

}  // namespace
}  // namespace tilewise
