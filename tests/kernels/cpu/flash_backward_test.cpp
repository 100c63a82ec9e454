// SPDX-License-Identifier: Apache-2.0
// The backward of every kernel against plain float64 loops (kernels/reference). The harness plays
// the engine: it prepares, walks the items in order on one or more threads, and walks the heads
// again that ask for it.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>

#include "base/random.h"
#include "engine/tiling.h"
#include "kernels/cpu/backward_case.h"
#include "kernels/cpu/registry.h"
#include "problem/mask.h"
#include "schedule/tile_runs.h"
#include "verify/tolerance.h"

namespace tilewise {
namespace {

using namespace backward_test;

struct Results {
  explicit Results(const Data& data)
      : dq(like(data.q, data.dtype, data.c.layout)),
        dk(like(data.k, data.dtype, data.c.layout)),
        dv(like(data.v, data.dtype, data.c.layout)),
        dbias(like(data.bias, data.real, Layout::kRows)) {
    for (Array* x : {&dq, &dk, &dv, &dbias})
      x->each([&](int64_t at) { store_element(x->view.data, x->view.dtype, at, kNan); });
  }
  static Array like(const Array& x, DType dtype, Layout layout) {
    const int64_t* n = x.view.shape;
    return Array(dtype, layout, n[0], n[1], n[2], n[3]);
  }
  std::vector<std::vector<unsigned char>> bits() const {
    return {dq.bytes(), dk.bytes(), dv.bytes(), dbias.bytes()};
  }
  Array dq, dk, dv, dbias;
};

struct Setting {
  int threads = 1;
  int64_t query_tile = 0;  // 0: what the model says
  int64_t key_tile = 0;
};

void walk(const Kernel& kernel, const BackwardLaunch& args, int threads, int64_t key_tiles,
          bool second) {
  const int64_t scratch_bytes = kernel.backward_scratch_bytes(args.shape, args.geometry);
  std::atomic<int64_t> next{0};
  const auto work = [&] {
    std::vector<unsigned char> memory(static_cast<size_t>(scratch_bytes) + 64, 0xff);
    auto* scratch = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
    for (int64_t n; (n = next++) < args.shape.batch * args.shape.kv_heads * key_tiles;) {
      const int64_t head = n / key_tiles;
      if (second && !args.careful[head] && !args.grad_bias.data) continue;
      kernel.backward(args,
                      {head / args.shape.kv_heads, head % args.shape.kv_heads, n % key_tiles, head,
                       second && args.careful[head] != 0},
                      scratch);
    }
  };
  std::vector<std::thread> workers;
  for (int i = 1; i < threads; ++i) workers.emplace_back(work);
  work();
  for (auto& worker : workers) worker.join();
}

// Output and logsumexp, as the backward gets them.
void run_forward(const Kernel& kernel, Data& data) {
  const Case& c = data.c;
  ForwardLaunch args{};
  args.shape = {c.batch, c.query_heads, c.kv_heads, c.queries, c.keys, c.head_dim, c.value_dim};
  args.geometry = model_geometry(kernel, c.head_dim, c.value_dim, Machine{});
  const reference::Inputs in = data.inputs();
  args.scale = static_cast<float>(in.scale);
  args.scale_f64 = in.scale;
  args.query = data.q.view;
  args.key = data.k.view;
  args.value = data.v.view;
  args.bias = in.bias;
  args.output = data.o.view;
  args.logsumexp = data.lse.view;
  args.band = detail::band_of(in.mask, c.queries, c.keys, 0, 0);
  const TileRowList rows = tile_rows_by_query(args.band, c.queries, c.keys,
                                              args.geometry.query_tile, args.geometry.key_tile);
  args.by_query = rows.view();
  const int64_t bytes = kernel.forward_scratch_bytes(args.shape, args.geometry);
  std::vector<unsigned char> memory(static_cast<size_t>(bytes) + 64, 0xff);
  auto* scratch = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
  for (int64_t b = 0; b < c.batch; ++b)
    for (int64_t h = 0; h < c.query_heads; ++h)
      for (int64_t tile = 0; tile < rows.view().rows; ++tile)
        kernel.forward(args, {b, h, tile}, scratch);
}

// Number of heads that were computed a second time.
int run_backward(const Kernel& kernel, Data& data, const Setting& how, Results& results) {
  const Case& c = data.c;
  BackwardLaunch args{};
  args.shape = {c.batch, c.query_heads, c.kv_heads, c.queries, c.keys, c.head_dim, c.value_dim};
  args.geometry = model_geometry(kernel, c.head_dim, c.value_dim, Machine{});
  if (how.query_tile) args.geometry.backward_query_tile = how.query_tile;
  if (how.key_tile) args.geometry.backward_key_tile = how.key_tile;
  const reference::Inputs in = data.inputs();
  args.scale = static_cast<float>(in.scale);
  args.scale_f64 = in.scale;
  args.query = data.q.view;
  args.key = data.k.view;
  args.value = data.v.view;
  args.output = data.o.view;
  args.logsumexp = data.lse.view;
  args.grad_output = data.g.view;
  args.bias = in.bias;
  args.grad_logsumexp = in.grad_logsumexp;
  args.grad_query = results.dq.view;
  args.grad_key = results.dk.view;
  args.grad_value = results.dv.view;
  if (c.bias) args.grad_bias = results.dbias.view;
  args.band = detail::band_of(in.mask, c.queries, c.keys, 0, 0);
  const TileRowList by_query =
      tile_rows_by_query(args.band, c.queries, c.keys, args.geometry.backward_query_tile,
                         args.geometry.backward_key_tile);
  const TileRowList by_key =
      tile_rows_by_key(args.band, c.queries, c.keys, args.geometry.backward_query_tile,
                       args.geometry.backward_key_tile);
  args.by_query = by_query.view();
  args.by_key = by_key.view();
  const auto rows = static_cast<size_t>(c.batch * c.query_heads * c.queries);
  std::vector<double> lse(rows), delta(rows), sums(rows * static_cast<size_t>(c.head_dim));
  std::vector<int32_t> careful(static_cast<size_t>(c.batch * c.kv_heads));
  args.lse = lse.data();
  args.delta = delta.data();
  args.grad_query_accumulator = sums.data();
  args.careful = careful.data();
  for (int64_t b = 0; b < c.batch; ++b)
    for (int64_t h = 0; h < c.query_heads; ++h)
      for (int64_t r = 0; r < c.queries; r += 100)
        kernel.backward_prepare(args, {b, h, r, std::min(r + 100, c.queries)});
  int again = 0;
  for (const bool second : {false, true}) {
    if (second)
      for (const int32_t flag : careful) again += flag;
    if (second && !again) break;
    std::vector<int32_t> turn(static_cast<size_t>(c.batch * c.query_heads * by_query.view().rows));
    std::vector<int32_t> bias_turn(static_cast<size_t>(by_key.view().rows));
    args.turn = turn.data();
    args.bias_turn = bias_turn.data();
    if (c.bias) results.dbias.fill(std::vector<double>(results.dbias.values().size()));
    walk(kernel, args, how.threads, by_key.view().rows, second);
  }
  return again;
}

// At most twice the largest and 1.25 times the RMS error of naive attention, up to what chance does
// to the ratio of two errors that few rows make up, and the spacing of the dtype.
void expect_near(const char* what, const Array& got, const std::vector<double>& exact,
                 const std::vector<double>& naive_values) {
  const DType dtype = got.view.dtype;
  const int64_t dim = got.view.shape[3];
  const auto deviation = verify::deviation(got.values(), exact, dtype, dim);
  const auto naive = verify::deviation(naive_values, exact, dtype, dim);
  const double root = std::sqrt(naive.effective_rows), chance = 1 + 2 / root;
  const double ulp = verify::ulp(dtype, naive.largest_reference);
  const verify::Bound bound = {2 * chance * naive.max + 2 * ulp,
                               1.25 * chance * naive.rms + ulp / root};
  EXPECT_EQ(deviation.misplaced, -1)
      << what << ": "
      << got.values()[static_cast<size_t>(deviation.misplaced < 0 ? 0 : deviation.misplaced)];
  EXPECT_LE(deviation.max, bound.max) << what << " at " << deviation.worst;
  EXPECT_LE(deviation.rms, bound.rms) << what;
}

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

struct Named {
  const KernelTable* table;
  DType dtype;
};

class FlashBackward : public testing::TestWithParam<Named> {
 protected:
  const Kernel& kernel() const {
    return *GetParam().table->kernels[static_cast<int>(GetParam().dtype)];
  }
};

std::vector<Named> all_kernels() {
  std::vector<Named> all;
  for (const auto* table : supported_kernels())
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kFloat64})
      all.push_back({table, dtype});
  return all;
}

INSTANTIATE_TEST_SUITE_P(Kernels, FlashBackward, testing::ValuesIn(all_kernels()),
                         [](const testing::TestParamInfo<Named>& info) {
                           return std::string(info.param.table->name) + "_" +
                                  dtype_name(info.param.dtype);
                         });

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
