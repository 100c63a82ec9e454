// SPDX-License-Identifier: Apache-2.0
// The products of every kernel against loops in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#include <tuple>
#include <vector>

#include "base/dtype.h"
#include "base/random.h"
#include "kernels/cpu/registry.h"

namespace tilewise {
namespace {

// A matrix somewhere inside a larger buffer whose other elements are NaN (all bits set).
struct TestMatrix {
  DType dtype;
  int64_t rows, columns, row, column, origin;
  std::vector<unsigned char> memory;

  TestMatrix(Random& random, DType type, int64_t r, int64_t c) : dtype(type), rows(r), columns(c) {
    const int64_t step = random.between(0, 3) == 0 ? random.between(2, 3) : 1;
    const int64_t gap = random.between(0, 1) * random.between(1, 9);
    const bool by_column = random.between(0, 1) == 1;
    row = by_column ? step : step * columns + gap;
    column = by_column ? step * rows + gap : step;
    const int64_t last_row = std::max<int64_t>(rows - 1, 0) * row;
    const int64_t last_column = std::max<int64_t>(columns - 1, 0) * column;
    origin = random.between(0, 5);
    const int64_t elements = origin + last_row + last_column + 1 + random.between(0, 5);
    memory.assign(elements * dtype_bytes(dtype), 0xff);
    if (random.between(0, 4) == 0) origin += last_row, row = -row;
    if (random.between(0, 4) == 0) origin += last_column, column = -column;
  }
  void fill(Random& random) {
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j) store_element(data(), dtype, at(i, j), random.normal());
  }
  int64_t at(int64_t i, int64_t j) const { return i * row + j * column; }
  char* data() { return reinterpret_cast<char*>(memory.data()) + origin * dtype_bytes(dtype); }
  double get(int64_t i, int64_t j) { return load_element(data(), dtype, at(i, j)); }
};

double unit_of(DType dtype) {  // half a unit in the last place of 1
  switch (dtype) {
    case DType::kFloat32:
      return 0x1p-24;
    case DType::kBFloat16:
      return 0x1p-8;
    case DType::kFloat16:
      return 0x1p-11;
    case DType::kFloat64:
      break;
  }
  return 0x1p-53;
}

class Matmul : public testing::TestWithParam<std::tuple<std::string, int>> {
 protected:
  const Kernel& kernel() const {
    return *choose_kernels(std::get<0>(GetParam())).kernels[std::get<1>(GetParam())];
  }
  bool is_double() const { return std::strcmp(kernel().arithmetic, "fp64") == 0; }

  // Runs the kernel and checks every element of C, and every byte outside it.
  void check(Random& random, TestMatrix& a, TestMatrix& b, TestMatrix& c, double alpha,
             bool accumulate) {
    a.fill(random), b.fill(random), c.fill(random);
    std::vector<double> expected(c.rows * c.columns), sizes(c.rows * c.columns);
    for (int64_t i = 0; i < c.rows; ++i)
      for (int64_t j = 0; j < c.columns; ++j) {
        double sum = 0, size = 0;
        for (int64_t k = 0; k < a.columns; ++k) {
          sum += a.get(i, k) * b.get(k, j);
          size += std::abs(a.get(i, k) * b.get(k, j));
        }
        const double before = accumulate ? c.get(i, j) : 0;
        expected[i * c.columns + j] = alpha * sum + before;
        sizes[i * c.columns + j] = std::abs(alpha) * size + std::abs(before);
      }
    const std::vector<unsigned char> before = c.memory;
    const MatmulLaunch launch = {c.rows,   c.columns, a.columns, a.data(), a.dtype,   a.row,
                                 a.column, b.data(),  b.dtype,   b.row,    b.column,  c.data(),
                                 c.dtype,  c.row,     c.column,  alpha,    accumulate};
    const int64_t bytes = kernel().matmul_scratch_bytes(launch);
    void* scratch = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    std::memset(scratch, 0xff, bytes);
    kernel().matmul(launch, scratch);
    std::free(scratch);

    const double arithmetic = is_double() ? 0x1p-53 : 0x1p-24;
    std::vector<bool> inside(c.memory.size());
    for (int64_t i = 0; i < c.rows; ++i)
      for (int64_t j = 0; j < c.columns; ++j) {
        const double want = expected[i * c.columns + j];
        const double allowed = (a.columns + 4) * arithmetic * sizes[i * c.columns + j] +
                               unit_of(c.dtype) * std::abs(want) +
                               (c.dtype == DType::kFloat16 ? 0x1p-25 : 0);  // below its smallest
        ASSERT_LE(std::abs(c.get(i, j) - want), allowed)
            << c.rows << " x " << c.columns << " x " << a.columns << " at " << i << ", " << j;
        const int64_t first = (c.origin + c.at(i, j)) * dtype_bytes(c.dtype);
        for (int64_t n = 0; n < dtype_bytes(c.dtype); ++n) inside[first + n] = true;
      }
    for (size_t n = 0; n < inside.size(); ++n) {
      ASSERT_TRUE(inside[n] || c.memory[n] == before[n]) << "byte " << n << " is not of C";
    }
  }
};

TEST_P(Matmul, RandomShapesStridesAndDtypes) {
  Random random(17, std::get<1>(GetParam()));
  const auto dtype = [&] {
    return is_double() ? DType::kFloat64 : static_cast<DType>(random.between(0, 2));
  };
  for (int n = 0; n < 80; ++n) {
    const auto size = [&] {
      return random.between(0, 1) ? random.between(1, 17) : random.between(1, 130);
    };
    const int64_t rows = size(), columns = size(), depth = random.between(0, 9) ? size() : 0;
    const bool same = random.between(0, 1) == 1;
    const DType first = same ? static_cast<DType>(std::get<1>(GetParam())) : dtype();
    TestMatrix a(random, first, rows, depth), b(random, same ? first : dtype(), depth, columns);
    TestMatrix c(random, dtype(), rows, columns);
    check(random, a, b, c, n % 3 == 0 ? 1 : random.normal(), n % 4 == 0);
    if (HasFatalFailure()) return;
  }
}

// More than one block of rows, of columns and of depth (of pairs, too), none of them whole.
TEST_P(Matmul, SeveralBlocks) {
  Random random(18, std::get<1>(GetParam()));
  const auto dtype = static_cast<DType>(std::get<1>(GetParam()));
  const int64_t sizes[][3] = {{203, 401, 30}, {203, 21, 517}, {20, 401, 300}};
  for (const auto& [rows, columns, depth] : sizes)
    for (int n = 0; n < 3; ++n) {
      TestMatrix a(random, dtype, rows, depth), b(random, dtype, depth, columns);
      TestMatrix c(random, dtype, rows, columns);
      check(random, a, b, c, 0.125, n == 0);
      if (HasFatalFailure()) return;
    }
}

// An element of C depends on its row of A and its column of B only: bit for bit the same alone.
TEST_P(Matmul, ElementDoesNotDependOnItsNeighbours) {
  const auto dtype = static_cast<DType>(std::get<1>(GetParam()));
  Random random(19);
  const int64_t rows = 50, columns = 70, depth = 301;
  std::vector<double> a(rows * depth), b(depth * columns), c(rows * columns), one(1);
  for (int64_t i = 0; i < rows * depth; ++i) store_element(a.data(), dtype, i, random.normal());
  for (int64_t i = 0; i < depth * columns; ++i) store_element(b.data(), dtype, i, random.normal());
  MatmulLaunch launch = {rows,    columns, depth,    a.data(), dtype,   depth, 1, b.data(), dtype,
                         columns, 1,       c.data(), dtype,    columns, 1,     1, false};
  std::vector<char> memory(kernel().matmul_scratch_bytes(launch) + 64);
  void* scratch = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64);
  kernel().matmul(launch, scratch);
  const int64_t bytes = dtype_bytes(dtype);
  for (int64_t i : {0, 7, 49})
    for (int64_t j : {0, 15, 16, 69}) {
      launch.rows = launch.columns = 1;
      launch.a = reinterpret_cast<char*>(a.data()) + i * depth * bytes;
      launch.b = reinterpret_cast<char*>(b.data()) + j * bytes;
      launch.c = one.data();
      kernel().matmul(launch, scratch);
      EXPECT_EQ(load_element(one.data(), dtype, 0), load_element(c.data(), dtype, i * columns + j));
    }
}

std::vector<std::string> isas() {
  std::vector<std::string> names;
  for (const KernelTable* table : supported_kernels()) names.emplace_back(table->name);
  return names;
}
INSTANTIATE_TEST_SUITE_P(EveryKernel, Matmul,
                         testing::Combine(testing::ValuesIn(isas()), testing::Range(0, 4)),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" +
                                  dtype_name(static_cast<DType>(std::get<1>(info.param)));
                         });

}  // namespace
}  // namespace tilewise
