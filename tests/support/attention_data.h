// SPDX-License-Identifier: Apache-2.0
// A problem with its tensors in plain memory, for tests that change single numbers and compare
// bits. Shapes, mask, dtype and layouts are written as a case line (verify/case.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tilewise/plan.h"
#include "verify/case.h"

namespace tilewise::test {

// A tensor and its memory. Absent tensors have no memory.
class Buffer {
 public:
  Buffer() = default;
  // Every byte is `fill`, gaps and elements alike.
  Buffer(DType dtype, const verify::Layout& layout, int64_t batch, int64_t heads, int64_t length,
         int64_t dim, uint8_t fill = 0xff);

  [[nodiscard]] Tensor tensor() const;
  [[nodiscard]] double get(int64_t b, int64_t h, int64_t i, int64_t c) const;
  void set(int64_t b, int64_t h, int64_t i, int64_t c, double value);
  void set_row(int64_t b, int64_t h, int64_t i, double value);
  void fill_normal(uint64_t seed, double size = 1);
  void fill_bytes(uint8_t value);
  // The same numbers in the same places of the shape, whatever the layouts are.
  void copy_from(const Buffer& other);

  // Bytes of the elements in the order of the axes: all of them, or one row.
  [[nodiscard]] std::vector<uint8_t> bits() const;
  [[nodiscard]] std::vector<uint8_t> row_bits(int64_t b, int64_t h, int64_t i) const;
  [[nodiscard]] std::vector<double> values() const;

  int64_t shape[4] = {0, 0, 0, 0};

 private:
  [[nodiscard]] int64_t index(int64_t b, int64_t h, int64_t i, int64_t c) const;
  void append_row(int64_t b, int64_t h, int64_t i, std::vector<uint8_t>& bytes) const;

  DType dtype_ = DType::kFloat32;
  verify::Placement placement_ = {};
  std::vector<uint8_t> memory_;
};

struct AttentionData {
  // Inputs are N(0, 1) from the seed of the line, whatever kind of sink it names.
  explicit AttentionData(const std::string& line);

  // Outputs and the workspace hold `poison` before the run.
  void run(const std::string& isa, int threads = 1, uint8_t poison = 0xff);
  void run_forward(const std::string& isa, int threads = 1, uint8_t poison = 0xff);

  verify::Case c;
  Buffer q, k, v, bias, sink, grad_o, grad_lse;
  Buffer o, lse, dq, dk, dv, dbias, dsink;

 private:
  void run(const std::string& isa, int threads, uint8_t poison, bool with_backward);
};

// Names of the outputs whose bits differ, forward and backward: "" if all are equal.
[[nodiscard]] std::string differences(const AttentionData& a, const AttentionData& b);

}  // namespace tilewise::test
