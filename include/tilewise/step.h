// SPDX-License-Identifier: Apache-2.0
// The lengths and the data of one step. A Step is copied when a schedule is made.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tilewise/tensor.h"

namespace tilewise {

enum class IntegerType : int32_t {
  kInt32 = 0,
  kInt64 = 1,
  kBool = 2,  // one byte; anything but 0 is 1
};

// What `doc` is in `doc[q] == doc[k]`. Row-major without gaps; 1 to 4 axes, one per index. Values
// must fit in 32 bits.
struct IntegerTable {
  std::string name;
  const void* data = nullptr;
  IntegerType type = IntegerType::kInt32;
  std::vector<int64_t> shape = {};
};

// What `w` is in `q - k < w`: a number that may change from step to step.
struct NamedScalar {
  template <std::integral Value>
  NamedScalar(std::string scalar_name, Value value)
      : name(std::move(scalar_name)),
        integer(static_cast<int64_t>(value)),
        real(static_cast<double>(value)) {}
  template <std::floating_point Value>
  NamedScalar(std::string scalar_name, Value value)
      : name(std::move(scalar_name)), is_real(true), real(value) {}

  std::string name;
  bool is_real = false;  // a real number cannot stand for an integer, the other way round it can
  int64_t integer = 0;
  double real = 0;
};

// What `slope` is in the score `s - slope[h] * (q - k)`: data that may need a gradient.
struct NamedTensor {
  std::string name;
  Tensor tensor;
};

// Where the sequences of a ragged batch lie: sequence i is rows [data[i], data[i + 1]) of the
// length axis. Ascending from 0; a sequence may be empty.
struct SequenceStarts {
  const void* data = nullptr;  // of kInt32 or kInt64
  IntegerType type = IntegerType::kInt32;
  int64_t size = 0;  // sequences + 1
};

struct Step {
  int64_t batch = 1;  // a ragged batch: number of sequences
  int64_t query_length = 0;
  int64_t kv_length = 0;
  int64_t query_offset = 0;  // global position of the first query, key, batch entry, head:
  int64_t key_offset = 0;    // what masks and scores see as q, k, b, h
  int64_t batch_offset = 0;
  int64_t head_offset = 0;
  // One for every name that the mask or the score uses, and no others. Real tables are given at
  // run time (plan.h).
  std::vector<IntegerTable> tables = {};
  std::vector<NamedScalar> scalars = {};
  // Both or none. Then the tensors have batch 1, query_length and kv_length are their lengths, and
  // b, q, k, query_length and kv_length of masks and scores are those of a sequence. Rows behind
  // the last sequence are never read, and are 0 in output and gradients (logsumexp: -infinity).
  SequenceStarts query_starts = {};
  SequenceStarts key_starts = {};
};

}  // namespace tilewise
