// SPDX-License-Identifier: Apache-2.0
// Both questions ask whether a bounded linear equation has an integer solution (NumPy's
// shares_memory asks the same): sum of coefficient_i * x_i = target with 0 <= x_i <= limit_i.
// Depth first search, largest coefficient first: for layouts that nest (all that occur in
// practice) each level leaves one or two values of x, so the search is a few steps long.
#include "problem/memory_overlap.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/checked.h"

namespace tilewise {
namespace {

constexpr int64_t kAddressLimit = int64_t{1} << 62;
constexpr int kMaxSteps = 1 << 16;  // under a millisecond
constexpr int kMaxTerms = 9;        // two tensors of four axes, and the bytes of an element

int64_t magnitude(int64_t value) { return value < 0 ? -value : value; }

class Equation {
 public:
  void add(int64_t coefficient, int64_t limit) {
    if (limit == 0) return;
    terms_[count_++] = {coefficient, limit};
  }

  // x and y with one coefficient reach what a single variable of the joint limit reaches.
  void merge_equal_coefficients() {
    sort();
    int kept = 0;
    for (int i = 0; i < count_; ++i) {
      if (kept > 0 && terms_[kept - 1].coefficient == terms_[i].coefficient) {
        terms_[kept - 1].limit += terms_[i].limit;
      } else {
        terms_[kept++] = terms_[i];
      }
    }
    count_ = kept;
  }

  // True also when kMaxSteps do not decide.
  bool may_have_solutions(int64_t target, int wanted) {
    sort();
    reach_[count_] = 0;
    divisor_[count_] = 0;
    for (int i = count_ - 1; i >= 0; --i) {
      reach_[i] = reach_[i + 1] + terms_[i].coefficient * terms_[i].limit;
      divisor_[i] = std::gcd(divisor_[i + 1], terms_[i].coefficient);
    }
    steps_ = 0;
    missing_ = wanted;
    return target >= 0 && target <= reach_[0] && search(0, target);
  }

 private:
  struct Term {
    int64_t coefficient;
    int64_t limit;
  };

  void sort() {
    std::sort(terms_, terms_ + count_,
              [](const Term& a, const Term& b) { return a.coefficient > b.coefficient; });
  }

  bool search(int level, int64_t target) {
    if (level == count_) return --missing_ == 0;
    const auto [coefficient, limit] = terms_[level];
    const int64_t rest = reach_[level + 1];
    const int64_t low =
        target > rest ? (target - rest + coefficient - 1) / coefficient : int64_t{0};
    const int64_t high = std::min(limit, target / coefficient);
    for (int64_t x = low; x <= high; ++x) {
      if (++steps_ > kMaxSteps) return true;
      const int64_t remainder = target - coefficient * x;
      const int64_t divisor = divisor_[level + 1];
      if (divisor != 0 && remainder % divisor != 0) continue;
      if (search(level + 1, remainder)) return true;
    }
    return false;
  }

  Term terms_[kMaxTerms] = {};
  int count_ = 0;
  int64_t reach_[kMaxTerms + 1] = {};    // largest sum of the terms from here on
  int64_t divisor_[kMaxTerms + 1] = {};  // of every sum of the terms from here on
  int steps_ = 0;
  int missing_ = 0;
};

}  // namespace

bool byte_range(const Tensor& tensor, ByteRange& range) noexcept {
  const int64_t size = dtype_bytes(tensor.dtype);
  int64_t low = 0;  // byte offsets of the first element that is lowest and highest
  int64_t high = 0;
  for (int axis = 0; axis < 4; ++axis) {
    int64_t last = 0;
    if (!checked_multiply(tensor.shape[axis] - 1, tensor.strides[axis], last)) return false;
    if (!checked_multiply(last, size, last)) return false;
    int64_t& side = last < 0 ? low : high;
    if (!checked_add(side, last, side)) return false;
  }
  const auto address = reinterpret_cast<uintptr_t>(tensor.data);
  if (address >= static_cast<uintptr_t>(kAddressLimit)) return false;
  if (high > kAddressLimit || low < -kAddressLimit) return false;
  range.begin = static_cast<int64_t>(address) + low;
  range.end = static_cast<int64_t>(address) + high + size;
  return range.begin >= 0 && range.end <= kAddressLimit;
}

bool aliases_itself(const Tensor& tensor) noexcept {
  // Indices i and j collide iff sum stride * (i - j) = 0; x = i - j + (shape - 1) counts from 0.
  // x = shape - 1 everywhere is i = j, so a second solution is a collision.
  Equation equation;
  int64_t target = 0;
  for (int axis = 0; axis < 4; ++axis) {
    const int64_t last = tensor.shape[axis] - 1;
    const int64_t stride = magnitude(tensor.strides[axis]);
    if (last == 0) continue;
    if (stride == 0) return true;
    equation.add(stride, 2 * last);
    target += stride * last;
  }
  return equation.may_have_solutions(target, 2);
}

bool share_memory(const Tensor& a, const Tensor& b) noexcept {
  ByteRange range_a;
  ByteRange range_b;
  if (!byte_range(a, range_a) || !byte_range(b, range_b)) return true;
  if (range_a.end <= range_b.begin || range_b.end <= range_a.begin) return false;
  // A byte of a is begin_a + sum |stride_a| x + s; one of b, counted from its end,
  // end_b - 1 - (sum |stride_b| y + t), with s and t below the sizes of the elements.
  Equation equation;
  for (const Tensor* tensor : {&a, &b}) {
    const int64_t size = dtype_bytes(tensor->dtype);
    for (int axis = 0; axis < 4; ++axis) {
      if (tensor->strides[axis] == 0) continue;
      equation.add(magnitude(tensor->strides[axis]) * size, tensor->shape[axis] - 1);
    }
  }
  equation.add(1, dtype_bytes(a.dtype) - 1 + dtype_bytes(b.dtype) - 1);
  equation.merge_equal_coefficients();
  return equation.may_have_solutions(range_b.end - 1 - range_a.begin, 1);
}

}  // namespace tilewise
