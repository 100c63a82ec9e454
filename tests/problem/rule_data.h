// SPDX-License-Identifier: Apache-2.0
// Random data for every name that a rule uses.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "expr/values.h"

namespace tilewise::testing {

inline constexpr int64_t kBatch = 2, kHeads = 3;

using Row = std::vector<int32_t>;
using Reals = std::vector<double>;

// A step with data for every name that a rule uses. Tables hold global positions below `positions`.
struct RuleData {
  int64_t N, M, q0, k0;  // lengths and offsets
  int64_t positions;
  Row doc, start, image, level, marked, first, last, prefix_first, prefix_last, parent;
  Row valid, prefix, random, layout, ancestor, bucket, distance;  // several axes, flattened
  int64_t prefix_length = 0;                                      // the named number `prefix`
  Reals slope, rate, bias_by_distance, content_position, position_content, kernel;

  RuleData(int64_t n, int64_t m, int64_t query_offset, int64_t key_offset, uint64_t seed);
  [[nodiscard]] int64_t blocks(int64_t block) const { return (positions + block - 1) / block; }
};

inline constexpr int64_t kReach = 6;      // of relative biases
inline constexpr int64_t kBuckets = 4;    // of the bucketed one
inline constexpr int64_t kBlock = 8;      // of block tables
inline constexpr int64_t kWindow = 3;     // of Swin
inline constexpr int64_t kDistances = 5;  // in the graph

inline RuleData::RuleData(int64_t n, int64_t m, int64_t query_offset, int64_t key_offset,
                          uint64_t seed)
    : N(n), M(m), q0(query_offset), k0(key_offset), positions(std::max(n + q0, m + k0)) {
  Random draw(seed);
  const auto coin = [&](double p) { return draw.uniform() < p ? 1 : 0; };
  const auto below = [&](int64_t bound) {
    return static_cast<int32_t>(draw.between(0, bound - 1));
  };
  const auto reals = [&](int64_t size) {
    Reals values;
    for (int64_t i = 0; i < size; ++i) values.push_back(draw.normal());
    return values;
  };
  for (int64_t i = 0; i < positions; ++i) {
    const bool begins = i == 0 || coin(0.2);
    doc.push_back(i == 0 ? 7 : doc.back() + begins);
    start.push_back(begins ? static_cast<int32_t>(i) : start.back());
    image.push_back(coin(0.5) ? -1 : static_cast<int32_t>(i / 9));
    level.push_back(below(4));
    marked.push_back(coin(0.1));
    first.push_back(below(positions));
    last.push_back(below(positions));
    prefix_first.push_back(below(positions));
    prefix_last.push_back(below(positions));
    parent.push_back(i == 0 ? -1 : below(i));
  }
  for (int64_t i = 0; i < kBatch * positions; ++i) valid.push_back(coin(0.8));
  for (int64_t i = 0; i < kBatch; ++i) prefix.push_back(below(positions));
  for (int64_t i = 0; i < blocks(kBlock) * blocks(kBlock); ++i) random.push_back(coin(0.2));
  for (int64_t i = 0; i < kHeads * blocks(kBlock) * blocks(kBlock); ++i)
    layout.push_back(coin(0.4));
  for (int64_t i = 0; i <= 2 * kReach; ++i) bucket.push_back(below(kBuckets));
  for (int64_t i = 0; i < kBatch * positions * positions; ++i)
    distance.push_back(below(kDistances));
  prefix_length = draw.between(0, positions);
  ancestor.assign(static_cast<size_t>(positions * positions), 0);
  for (int64_t i = 0; i < positions; ++i) {
    for (int64_t j = i; j >= 0; j = parent[j]) ancestor[i * positions + j] = 1;
  }
  slope = reals(kHeads);
  rate = reals(kHeads);
  for (double& value : rate) value = std::abs(value);
  bias_by_distance = reals(kHeads * 64);
  content_position = reals(kBatch * kHeads * positions * (2 * kReach + 1));
  position_content = reals(kBatch * kHeads * positions * (2 * kReach + 1));
  kernel = reals(kHeads * (kReach + 1));
}

inline std::shared_ptr<const expr::IntTable> table(const Row& data, std::vector<int64_t> shape) {
  int64_t size = 1;
  for (const int64_t extent : shape) size *= extent;
  EXPECT_EQ(size, static_cast<int64_t>(data.size()));
  return std::make_shared<const expr::IntTable>(expr::IntTable{data, std::move(shape)});
}
inline Tensor tensor(const Reals& data, int64_t a, int64_t b, int64_t c, int64_t d) {
  return Tensor::bhsd(const_cast<double*>(data.data()), DType::kFloat64, a, b, c, d);
}

// The data of a step by name, for the symbols of one expression.
inline expr::Values values_of(const RuleData& x, const expr::Graph& graph, int64_t bias_columns) {
  const int64_t n = x.positions, blocks = x.blocks(kBlock), wide = 2 * kReach + 1;
  const std::map<std::string, std::shared_ptr<const expr::IntTable>> tables = {
      {"doc", table(x.doc, {n})},
      {"start", table(x.start, {n})},
      {"image", table(x.image, {n})},
      {"level", table(x.level, {n})},
      {"marked", table(x.marked, {n})},
      {"first", table(x.first, {n})},
      {"last", table(x.last, {n})},
      {"prefix_first", table(x.prefix_first, {n})},
      {"prefix_last", table(x.prefix_last, {n})},
      {"valid", table(x.valid, {kBatch, n})},
      {"prefix", table(x.prefix, {kBatch})},
      {"random", table(x.random, {blocks, blocks})},
      {"layout", table(x.layout, {kHeads, blocks, blocks})},
      {"ancestor", table(x.ancestor, {n, n})},
      {"bucket", table(x.bucket, {wide})},
      {"distance", table(x.distance, {kBatch, n, n})}};
  const std::map<std::string, Tensor> reals = {
      {"slope", tensor(x.slope, 1, 1, 1, kHeads)},
      {"rate", tensor(x.rate, 1, 1, 1, kHeads)},
      {"content_position", tensor(x.content_position, kBatch, kHeads, n, wide)},
      {"position_content", tensor(x.position_content, kBatch, kHeads, n, wide)},
      {"kernel", tensor(x.kernel, 1, 1, kHeads, kReach + 1)}};
  expr::Values values;
  values.query_length = x.N, values.kv_length = x.M;
  values.query_offset = x.q0, values.key_offset = x.k0;
  for (const expr::Symbol& symbol : graph.symbols()) {
    expr::Values::Entry entry;
    entry.integer = x.prefix_length;
    if (tables.contains(symbol.name)) entry.table = tables.at(symbol.name);
    if (reals.contains(symbol.name)) entry.real_table = reals.at(symbol.name);
    if (symbol.name == "bias" && symbol.rank == 2)
      entry.real_table = tensor(x.bias_by_distance, 1, 1, kHeads, bias_columns);
    if (symbol.name == "bias" && symbol.rank == 3)
      entry.real_table = tensor(x.bias_by_distance, 1, kHeads, bias_columns, bias_columns);
    if (symbol.rank > 0) {
      EXPECT_TRUE(entry.table != nullptr || entry.real_table.data != nullptr) << symbol.name;
    }
    values.symbols.push_back(std::move(entry));
  }
  return values;
}

}  // namespace tilewise::testing
