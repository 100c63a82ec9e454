// SPDX-License-Identifier: Apache-2.0
// The data that an expression is evaluated with.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "expr/ir.h"
#include "expr/range_index.h"
#include "tilewise/tensor.h"

namespace tilewise::expr {

// An integer table, copied when it is bound; row-major. Every value fits in 32 bits.
struct IntTable {
  std::vector<int32_t> data;
  std::vector<int64_t> shape;  // 1 to 4 axes
  // Made on demand from the data, which must not change any more.
  mutable RangeIndexCache range_indices = {};
};

// What a step gives to an expression: one entry per symbol of its graph, in that order.
struct Values {
  struct Entry {
    int64_t integer = 0;                         // an int scalar
    double real = 0;                             // a real scalar
    std::shared_ptr<const IntTable> table = {};  // an int table
    Tensor real_table = {};  // a real table: the last `rank` axes; those before are 1
  };
  std::vector<Entry> symbols;
  int64_t query_length = 0, kv_length = 0;
  int64_t query_offset = 0, key_offset = 0;
};

// One pair, in global positions, and its scaled product.
struct Point {
  int64_t batch = 0, head = 0, query = 0, key = 0;
  double score = 0;
};

}  // namespace tilewise::expr
