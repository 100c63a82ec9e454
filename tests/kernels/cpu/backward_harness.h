// SPDX-License-Identifier: Apache-2.0
// Plays the engine: prepares, walks the items in order on one or more threads, and walks the heads
// again that ask for it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "engine/tiling.h"
#include "kernels/cpu/backward_case.h"
#include "kernels/cpu/registry.h"
#include "kernels/cpu/test_masks.h"
#include "kernels/dropout.h"
#include "verify/tolerance.h"

namespace tilewise::backward_test {

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
  [[nodiscard]] std::vector<std::vector<unsigned char>> bits() const {
    return {dq.bytes(), dk.bytes(), dv.bytes(), dbias.bytes()};
  }
  Array dq, dk, dv, dbias;
};

struct Setting {
  int threads = 1;
  int64_t query_tile = 0;  // 0: what the model says
  int64_t key_tile = 0;
};

// What is summed and counted per head.
struct HeadState {
  std::vector<double> sums;   // float or double (batch, query_heads, queries, head_dim)
  std::vector<int32_t> turn;  // (batch, query_heads, query tiles)
  HeadState(const AttentionShape& shape, int64_t query_tiles)
      : sums(static_cast<size_t>(shape.batch * shape.query_heads * shape.query_length *
                                 shape.head_dim)),
        turn(static_cast<size_t>(shape.batch * shape.query_heads * query_tiles)) {}
};

inline void walk(const Kernel& kernel, const BackwardLaunch& args, int threads, int64_t key_tiles,
                 HeadState& state, bool second) {
  const int64_t heads = args.shape.batch * args.shape.kv_heads;
  const bool shares_bias =
      args.grad_bias.data && (args.grad_bias.shape[0] < args.shape.batch ||
                              args.grad_bias.shape[1] < args.shape.query_heads);
  const int64_t scratch_bytes =
      kernel.backward_scratch_bytes(args.shape, args.geometry, args.program_sizes);
  std::atomic<int64_t> next{0};
  const auto work = [&] {
    std::vector<unsigned char> memory(static_cast<size_t>(scratch_bytes) + 64, 0xff);
    auto* scratch = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
    for (int64_t n; (n = next++) < heads * key_tiles;) {
      const int64_t head = n / key_tiles;
      if (second && !args.careful[head] && !args.grad_bias.data) continue;
      BackwardItem item{};
      item.batch = head / args.shape.kv_heads;
      item.kv_head = head % args.shape.kv_heads;
      item.key_tile = n % key_tiles;
      item.careful = second && args.careful[head] != 0;
      const auto part = [&](const auto& all) { return static_cast<int64_t>(all.size()) / heads; };
      item.grad_query_sums = state.sums.data() + head * part(state.sums);
      item.turn = state.turn.data() + head * part(state.turn);
      item.bias_turn = shares_bias ? static_cast<int32_t>(head) : -1;
      kernel.backward(args, item, scratch);
    }
  };
  std::vector<std::thread> workers;
  for (int i = 1; i < threads; ++i) workers.emplace_back(work);
  work();
  for (auto& worker : workers) worker.join();
}

// Output and logsumexp, as the backward gets them. masks: null for the band of the case. key_tile:
// 0 for that of the model.
inline void run_forward(const Kernel& kernel, Data& data, const TestMasks* masks = nullptr,
                        int64_t key_tile = 0) {
  const Case& c = data.c;
  ForwardLaunch args{};
  args.shape = {c.batch, c.query_heads, c.kv_heads, c.queries, c.keys, c.head_dim, c.value_dim};
  args.geometry = model_geometry(kernel, c.head_dim, c.value_dim, Machine{});
  if (key_tile) args.geometry.key_tile = key_tile;
  const reference::Inputs in = data.inputs();
  args.scale = static_cast<float>(in.scale);
  args.scale_f64 = in.scale;
  args.dropout = dropout_of(c.dropout, Data::kSeed);
  args.origin = data.origin();
  args.query = data.q.view;
  args.key = data.k.view;
  args.value = data.v.view;
  if (!masks || masks->takes_bias()) args.bias = in.bias;
  args.output = data.o.view;
  args.logsumexp = data.lse.view;
  const TestMasks band(in.mask, c.queries, c.keys);
  const TiledMasks tiles =
      (masks ? *masks : band).tiles(c, args.geometry.query_tile, args.geometry.key_tile);
  tiles.set(args);
  const int64_t bytes = kernel.forward_scratch_bytes(args.shape, args.geometry, args.program_sizes);
  std::vector<unsigned char> memory(static_cast<size_t>(bytes) + 64, 0xff);
  auto* scratch = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
  for (int64_t b = 0; b < c.batch; ++b)
    for (int64_t h = 0; h < c.query_heads; ++h)
      for (int64_t tile = 0; tile < tiles.query_tiles(); ++tile)
        kernel.forward(args, {b, h, tile}, scratch);
}

// The same by the kernel for few queries, in chunks of 256 keys.
inline void run_decode(const Kernel& kernel, Data& data, const TestMasks& masks) {
  const Case& c = data.c;
  ForwardLaunch args{};
  args.shape = {c.batch, c.query_heads, c.kv_heads, c.queries, c.keys, c.head_dim, c.value_dim};
  args.geometry = {.query_tile = kernel.limits.unit.query_tile,
                   .key_tile = 96,
                   .backward_query_tile = 0,
                   .backward_key_tile = 0};
  const reference::Inputs in = data.inputs();
  args.scale = static_cast<float>(in.scale);
  args.scale_f64 = in.scale;
  args.dropout = dropout_of(c.dropout, Data::kSeed);
  args.origin = data.origin();
  args.query = data.q.view;
  args.key = data.k.view;
  args.value = data.v.view;
  args.output = data.o.view;
  args.logsumexp = data.lse.view;
  const TiledMasks tiles = masks.tiles(c, args.geometry.query_tile, args.geometry.key_tile);
  tiles.set(args);
  DecodeLaunch& decode = args.decode;
  decode.chunk_keys = 256;
  decode.last_key = c.keys;
  decode.last_chunk = (c.keys + 255) / 256;
  const int64_t rows = c.query_heads / c.kv_heads * c.queries, unit = kernel.limits.unit.query_tile;
  decode.row_tiles = (rows + unit - 1) / unit;
  std::vector<double> sums(
      static_cast<size_t>(c.batch * c.query_heads * c.queries * (c.value_dim + 3)));
  std::vector<int32_t> turn(static_cast<size_t>(c.batch * c.kv_heads * decode.row_tiles));
  decode.sums = sums.data();
  decode.turn = turn.data();
  const int64_t bytes = kernel.decode_scratch_bytes(args.shape, args.program_sizes);
  std::vector<unsigned char> memory(static_cast<size_t>(bytes) + 64, 0xff);
  auto* scratch = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
  for (int64_t chunk = 0; chunk < decode.last_chunk; ++chunk)
    for (int64_t b = 0; b < c.batch; ++b)
      for (int64_t h = 0; h < c.kv_heads; ++h)
        for (int64_t tile = 0; tile < decode.row_tiles; ++tile)
          kernel.decode(args, {b, h, tile, chunk}, scratch);
}

// Number of heads that were computed a second time.
inline int run_backward(const Kernel& kernel, Data& data, const Setting& how, Results& results,
                        const TestMasks* masks = nullptr) {
  const Case& c = data.c;
  const bool has_bias = c.bias && (!masks || masks->takes_bias());
  BackwardLaunch args{};
  args.shape = {c.batch, c.query_heads, c.kv_heads, c.queries, c.keys, c.head_dim, c.value_dim};
  args.geometry = model_geometry(kernel, c.head_dim, c.value_dim, Machine{});
  if (how.query_tile) args.geometry.backward_query_tile = how.query_tile;
  if (how.key_tile) args.geometry.backward_key_tile = how.key_tile;
  const reference::Inputs in = data.inputs();
  args.scale = static_cast<float>(in.scale);
  args.scale_f64 = in.scale;
  args.dropout = dropout_of(c.dropout, Data::kSeed);
  args.origin = data.origin();
  args.query = data.q.view;
  args.key = data.k.view;
  args.value = data.v.view;
  args.output = data.o.view;
  args.logsumexp = data.lse.view;
  args.grad_output = data.g.view;
  if (!masks || masks->takes_bias()) args.bias = in.bias;
  args.grad_logsumexp = in.grad_logsumexp;
  args.grad_query = results.dq.view;
  args.grad_key = results.dk.view;
  args.grad_value = results.dv.view;
  if (has_bias) args.grad_bias = results.dbias.view;
  const TestMasks band(in.mask, c.queries, c.keys);
  const TiledMasks tiles =
      (masks ? *masks : band)
          .tiles(c, args.geometry.backward_query_tile, args.geometry.backward_key_tile);
  tiles.set(args);
  const auto rows = static_cast<size_t>(c.batch * c.query_heads * c.queries);
  std::vector<double> lse(rows), delta(rows);
  std::vector<int32_t> careful(static_cast<size_t>(c.batch * c.kv_heads));
  args.lse = lse.data();
  args.delta = delta.data();
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
    HeadState state(args.shape, tiles.query_tiles());
    std::vector<int32_t> bias_turn(static_cast<size_t>(tiles.key_tiles()));
    args.bias_turn = bias_turn.data();
    if (has_bias) results.dbias.fill(std::vector<double>(results.dbias.values().size()));
    walk(kernel, args, how.threads, tiles.key_tiles(), state, second);
  }
  return again;
}

// At most twice the largest and 1.25 times the RMS error of naive attention, up to what chance does
// to the ratio of two errors that few rows make up, and the spacing of the dtype.
inline void expect_near(const char* what, const Array& got, const std::vector<double>& exact,
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

struct Named {
  const KernelTable* table;
  DType dtype;
};

inline std::vector<Named> all_kernels() {
  std::vector<Named> all;
  for (const auto* table : supported_kernels())
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kFloat64})
      all.push_back({table, dtype});
  return all;
}
inline std::string name_of_kernel(const testing::TestParamInfo<Named>& info) {
  return std::string(info.param.table->name) + "_" + dtype_name(info.param.dtype);
}

}  // namespace tilewise::backward_test
