// SPDX-License-Identifier: Apache-2.0
// The row passes of standard attention under a rule with a program; with a band alone they are
// tested by what is built on them (tests/kernels/standard).
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <vector>

#include "base/random.h"
#include "kernels/cpu/backward_harness.h"

namespace tilewise {
namespace {

using namespace backward_test;
using expr::Expression;
using expr::Graph;
using expr::Op;
using expr::Variable;

constexpr int64_t kRows = 21, kColumns = 131, kFirstQuery = 40;

class Rows : public testing::TestWithParam<Named> {
 protected:
  Rows()
      : matrix_(GetParam().dtype, Layout::kRows, 1, 1, kRows, kColumns),
        masked_(GetParam().dtype, Layout::kRows, 1, 1, kRows, kColumns),
        result_(GetParam().dtype, Layout::kRows, 1, 1, kRows, kColumns) {
    Random random(4);
    matrix_.randomize(random, 2);
    // (q + 3 k) % 4 != 1, in positions that start at 7 and 9.
    auto graph = std::make_shared<Graph>();
    const auto number = [&](int64_t n) { return graph->constant(n); };
    const int32_t sum =
        graph->binary(Op::kAdd, graph->variable(Variable::kQuery),
                      graph->binary(Op::kMul, number(3), graph->variable(Variable::kKey)));
    const Expression mask{
        graph, graph->binary(Op::kNotEqual, graph->binary(Op::kMod, sum, number(4)), number(1))};
    storage_ = compile(mask, {}, {.is_narrow = true});
    program_ = storage_.view();
  }
  const Kernel& kernel() const {
    return *GetParam().table->kernels[static_cast<int>(GetParam().dtype)];
  }
  RowsLaunch launch(const Array& from, const Array& to) const {
    RowsLaunch rows{};
    rows.rows = kRows;
    rows.columns = kColumns;
    rows.dtype = GetParam().dtype;
    rows.from = from.view.data;
    rows.to = to.view.data;
    rows.from_row = rows.to_row = kColumns;
    rows.factor = 1;
    rows.first_query = kFirstQuery;
    return rows;
  }
  void set_program(RowsLaunch& rows) const {
    rows.rule.program = 0;
    rows.program = &program_;
    rows.program_sizes = storage_.sizes;
    rows.origin = {0, 0, 7, 9};
  }
  static bool is_shown(int64_t row, int64_t column) {
    return (kFirstQuery + row + 7 + 3 * (column + 9)) % 4 != 1;
  }
  void run(void (*pass)(const RowsLaunch&, void*), const RowsLaunch& rows) {
    const int64_t bytes = kernel().rows_scratch_bytes(kColumns, rows.program_sizes);
    std::vector<unsigned char> memory(static_cast<size_t>(bytes) + 64, 0xff);
    pass(rows, memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64);
  }
  Array matrix_, masked_, result_;
  expr::ProgramStorage storage_;
  TileProgram program_;
};

INSTANTIATE_TEST_SUITE_P(Kernels, Rows, testing::ValuesIn(all_kernels()), name_of_kernel);

TEST_P(Rows, HideWhatTheRuleHides) {
  RowsLaunch rows = launch(matrix_, masked_);
  set_program(rows);
  rows.rule.band = {-30, 60};
  rows.rule.key_begin = 15;
  rows.rule.key_end = 120;
  rows.rule.query_end = kFirstQuery + 18;
  run(kernel().mask_rows, rows);
  const std::vector<double> before = matrix_.values(), after = masked_.values();
  for (int64_t r = 0; r < kRows; ++r)
    for (int64_t c = 0; c < kColumns; ++c) {
      const int64_t distance = c - (kFirstQuery + r);
      const bool sees =
          is_shown(r, c) && -30 <= distance && distance <= 60 && 15 <= c && c < 120 && r < 18;
      const auto at = static_cast<size_t>(r * kColumns + c);
      EXPECT_EQ(after[at], sees ? before[at] : -kInf) << r << " " << c;
    }
}

// The same columns in the same order: not a bit differs from masking first.
TEST_P(Rows, SoftmaxUnderAProgramIsThatOfTheMaskedRows) {
  RowsLaunch mask = launch(matrix_, masked_), fused = launch(matrix_, result_);
  set_program(mask);
  set_program(fused);
  run(kernel().mask_rows, mask);
  run(kernel().softmax_rows, fused);
  run(kernel().softmax_rows, launch(masked_, masked_));
  EXPECT_EQ(masked_.bytes(), result_.bytes());
  const std::vector<double> p = result_.values();
  for (int64_t r = 0; r < kRows; ++r)
    for (int64_t c = 0; c < kColumns; ++c)
      EXPECT_EQ(p[static_cast<size_t>(r * kColumns + c)] > 0, is_shown(r, c)) << r << " " << c;
}

// A sink takes its part of every row, and leaves the ratios of the others as they are.
TEST_P(Rows, SinkJoinsTheSoftmax) {
  const bool is_double = GetParam().dtype == DType::kFloat64;
  const float sink = 0.75F;
  const double double_sink = 0.75;
  std::vector<float> lse(kRows);
  std::vector<double> double_lse(kRows);
  RowsLaunch rows = launch(matrix_, result_);
  run(kernel().softmax_rows, launch(matrix_, masked_));
  rows.sink = is_double ? static_cast<const void*>(&double_sink) : &sink;
  rows.logsumexp = is_double ? static_cast<void*>(double_lse.data()) : lse.data();
  rows.logsumexp_row = 1;
  run(kernel().softmax_rows, rows);
  const std::vector<double> without = masked_.values(), with = result_.values();
  for (int64_t r = 0; r < kRows; ++r) {
    const auto at = static_cast<size_t>(r);
    const double rest = 1 - std::exp(0.75 - (is_double ? double_lse[at] : double(lse[at])));
    for (int64_t c = 0; c < kColumns; ++c) {
      const auto i = static_cast<size_t>(r * kColumns + c);
      EXPECT_NEAR(with[i], rest * without[i], 0.02 * without[i]) << r << " " << c;
    }
  }
}

}  // namespace
}  // namespace tilewise
