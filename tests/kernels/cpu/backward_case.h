// SPDX-License-Identifier: Apache-2.0
// The problems of flash_backward_test: shapes, tensors between guard pages, random contents.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <ostream>
#include <vector>

#include "base/dtype.h"
#include "base/random.h"
#include "base/tile_program.h"
#include "kernels/reference/naive.h"
#include "verify/guarded_memory.h"

namespace tilewise::backward_test {

inline constexpr double kInf = std::numeric_limits<double>::infinity();
inline constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

enum class Layout { kRows, kHeadsInside, kSpread, kBackwards };

struct Case {
  int64_t batch = 1, query_heads = 1, kv_heads = 1, queries = 1, keys = 1, head_dim = 8,
          value_dim = 8;
  const char* mask = "none";
  Layout layout = Layout::kRows;
  int bias = 0;  // 0: none; else 1 plus the sum of 1: batch, 2: heads, 4: queries are broadcast
  bool dlse = false;
  double size = 1;
  double dropout = 0;
};

inline void PrintTo(const Case& c, std::ostream* out) {
  *out << "B" << c.batch << " H" << c.query_heads << "/" << c.kv_heads << " N" << c.queries << "x"
       << c.keys << " d" << c.head_dim << " e" << c.value_dim << " " << c.mask << " layout "
       << static_cast<int>(c.layout) << " bias " << c.bias << " dropout " << c.dropout;
}

// A tensor between guard pages.
struct Array {
  Array(DType dtype, Layout layout, int64_t b, int64_t h, int64_t n, int64_t d)
      : memory(static_cast<size_t>(
                   std::max<int64_t>(b * h * n * d * (layout == Layout::kSpread ? 2 : 1) -
                                         (layout == Layout::kSpread ? 1 : 0),
                                     1) *
                   dtype_bytes(dtype)),
               n % 2 ? verify::Flush::kRight : verify::Flush::kLeft, 0x55) {
    view = layout == Layout::kHeadsInside ? Tensor::bshd(memory.data(), dtype, b, n, h, d)
                                          : Tensor::bhsd(memory.data(), dtype, b, h, n, d);
    if (layout == Layout::kSpread)
      for (auto& stride : view.strides) stride *= 2;
    if (layout == Layout::kBackwards && n > 0) {
      view.data = memory.data() + (n - 1) * view.strides[2] * dtype_bytes(dtype);
      view.strides[2] = -view.strides[2];
    }
  }
  template <class Visit>
  void each(const Visit& visit) const {
    for (int64_t b = 0; b < view.shape[0]; ++b)
      for (int64_t h = 0; h < view.shape[1]; ++h)
        for (int64_t n = 0; n < view.shape[2]; ++n)
          for (int64_t d = 0; d < view.shape[3]; ++d) visit(offset(b, h, n, d));
  }
  int64_t offset(int64_t b, int64_t h, int64_t n, int64_t d) const {
    return b * view.strides[0] + h * view.strides[1] + n * view.strides[2] + d * view.strides[3];
  }
  void set(int64_t b, int64_t h, int64_t n, int64_t d, double x) {
    store_element(view.data, view.dtype, offset(b, h, n, d), x);
  }
  void fill(const std::vector<double>& values) {
    size_t i = 0;
    each([&](int64_t at) { store_element(view.data, view.dtype, at, values[i++]); });
  }
  void randomize(Random& random, double size) {
    each([&](int64_t at) { store_element(view.data, view.dtype, at, size * random.normal()); });
  }
  std::vector<double> values() const {
    std::vector<double> all;
    each([&](int64_t at) { all.push_back(load_element(view.data, view.dtype, at)); });
    return all;
  }
  std::vector<unsigned char> bytes() const {
    return {memory.data(), memory.data() + memory.bytes()};
  }
  verify::GuardedMemory memory;
  Tensor view;
};

// Inputs of one case, with output and logsumexp of the reference.
struct Data {
  Data(const Case& shape, DType type)
      : c(shape),
        dtype(type),
        real(type == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32),
        q(type, c.layout, c.batch, c.query_heads, c.queries, c.head_dim),
        k(type, c.layout, c.batch, c.kv_heads, c.keys, c.head_dim),
        v(type, c.layout, c.batch, c.kv_heads, c.keys, c.value_dim),
        o(type, c.layout, c.batch, c.query_heads, c.queries, c.value_dim),
        g(type, c.layout, c.batch, c.query_heads, c.queries, c.value_dim),
        lse(real, Layout::kRows, c.batch, c.query_heads, c.queries, 1),
        dlse(real, Layout::kRows, c.batch, c.query_heads, c.queries, 1),
        bias(type, Layout::kRows, (c.bias - 1) & 1 ? 1 : c.batch,
             (c.bias - 1) & 2 ? 1 : c.query_heads, (c.bias - 1) & 4 ? 1 : c.queries, c.keys) {
    Random random(static_cast<uint64_t>(c.queries * 1000 + c.keys));
    for (Array* x : {&q, &k, &v, &g, &dlse, &bias}) x->randomize(random, c.size);
    if (c.bias)
      bias.each([&](int64_t at) {
        if (random.uniform() < 0.2) store_element(bias.view.data, dtype, at, -kInf);
      });
  }
  reference::Inputs inputs() const {
    reference::Inputs in;
    in.query = q.view;
    in.key = k.view;
    in.value = v.view;
    in.grad_output = g.view;
    if (c.bias) in.bias = bias.view;
    if (c.dlse) in.grad_logsumexp = dlse.view;
    in.mask = mask_from_text(c.mask);
    in.scale = 1 / std::sqrt(static_cast<double>(c.head_dim));
    in.dropout = c.dropout;
    in.dropout_seed = kSeed;
    in.step.query_offset = origin().query, in.step.key_offset = origin().key;
    return in;
  }
  // Tiles with dropout begin anywhere in a cell of random bits.
  TileOrigin origin() const {
    return c.dropout > 0 ? TileOrigin{0, 0, 5, 19} : TileOrigin{0, 0, 0, 0};
  }
  static constexpr uint64_t kSeed = 0x9876543210fedcba;
  Case c;
  DType dtype, real;
  Array q, k, v, o, g, lse, dlse, bias;
};

}  // namespace tilewise::backward_test
