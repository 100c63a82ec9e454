// SPDX-License-Identifier: Apache-2.0
// Random expressions for the tests of this folder: every operator, tables of one to four axes,
// operands that come back, and literals up to the ends of the integers.
#pragma once

#include <cstdint>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "expr/arithmetic.h"
#include "expr/mask_builder.h"

namespace tilewise::expr {

class RandomMask {
 public:
  explicit RandomMask(uint64_t seed) : random_(seed) {}

  Term boolean(int depth) {
    if (depth <= 0 || one_in(3)) return comparison(depth);
    const auto part = [&] { return boolean(depth - 1 - static_cast<int>(below(2))); };
    switch (below(7)) {
      case 0:
      case 1:
        return part() && part();
      case 2:
      case 3:
        return part() || part();
      case 4:
        return !part();
      case 5:
        return where(part(), part(), part());
      default:
        return part() && part() && part();
    }
  }
  Term integer(int depth) {
    if (depth <= 0) return leaf();
    const auto part = [&] { return integer(depth - 1 - static_cast<int>(below(2))); };
    switch (below(17)) {
      case 0:
      case 1:
        return part() + part();
      case 2:
      case 3:
        return part() - part();
      case 4:
        return part() * part();
      case 5: {
        const Term x = part();
        return x * x;
      }
      case 6:
        return part() / part();
      case 7:
        return part() / literal();
      case 8:
        return part() % part();
      case 9:
        return part() % literal();
      case 10:
        return min(part(), part());
      case 11:
        return max(part(), part());
      case 12:
        return abs(part());
      case 13:
        return builder.unary(Op::kNeg, part());
      case 14:
        return where(boolean(depth - 2), part(), part());
      default:
        return look_up(depth - 1);
    }
  }
  Term real(int depth) {
    if (depth <= 0) {
      switch (below(4)) {
        case 0:
          return builder.real(static_cast<double>(below(200) - 100) / 8);
        case 1:
          return builder.real_scalar("slope", 0.3);
        default:
          return to_real(integer(1));
      }
    }
    const auto part = [&] { return real(depth - 1 - static_cast<int>(below(2))); };
    constexpr Op kBinary[] = {Op::kAdd, Op::kSub, Op::kMul, Op::kDiv, Op::kMin, Op::kMax};
    constexpr Op kUnary[] = {Op::kAbs, Op::kNeg, Op::kExp, Op::kLog, Op::kTanh, Op::kSqrt};
    switch (below(5)) {
      case 0:
      case 1:
        return builder.binary(kBinary[below(std::ssize(kBinary))], part(), part());
      case 2:
        return builder.unary(kUnary[below(std::ssize(kUnary))], part());
      case 3:
        return where(boolean(1), part(), part());
      default:
        return to_real(integer(depth - 1));
    }
  }

  int64_t below(int64_t n) { return random_.between(0, n - 1); }
  bool one_in(int64_t n) { return below(n) == 0; }
  MaskBuilder builder;

 private:
  Term literal() {
    constexpr int64_t kExtreme[] = {
        kMinInt,          kMaxInt,          kMinInt + 1, int64_t{1} << 62, -(int64_t{1} << 31),
        int64_t{1} << 32, int64_t{1} << 40, 3037000500};
    switch (below(12)) {
      case 0:
        return builder.integer(below(3) - 1);
      case 1:
        return builder.integer(-below(20));
      case 2:
        return builder.integer(below(300));
      case 3:
        return builder.integer(int64_t{1} << below(9));
      case 4:
        return builder.integer(below(5) - 2);
      case 5:
        if (one_in(2)) return builder.integer(kExtreme[below(std::ssize(kExtreme))]);
        [[fallthrough]];
      default:
        return builder.integer(below(64));
    }
  }
  Term leaf() {
    switch (below(16)) {
      case 0:
        return builder.b();
      case 1:
        return builder.h();
      case 2:
        return builder.scalar("width", 17);
      case 3:
        return builder.variable(Variable::kKvLength);
      case 4:
      case 5:
        return literal();
      default:
        return one_in(2) ? builder.q() : builder.k();
    }
  }
  Term comparison(int depth) {
    if (one_in(12)) return compare(real(1), real(static_cast<int>(below(3))));
    const auto part = [&] { return integer(std::max(0, depth - static_cast<int>(below(3)))); };
    Term x = part();
    // An operand that was compared before: something for refinement.
    if (!compared_.empty() && one_in(2))
      x = compared_[static_cast<size_t>(below(std::ssize(compared_)))];
    compared_.push_back(x);
    return compare(x, one_in(2) ? literal() : part());
  }
  Term compare(Term x, Term y) {
    switch (below(6)) {
      case 0:
        return x < y;
      case 1:
        return x <= y;
      case 2:
        return x > y;
      case 3:
        return x >= y;
      case 4:
        return x == y;
      default:
        return x != y;
    }
  }
  Term look_up(int depth) {
    const std::vector<std::shared_ptr<const IntTable>>& all = tables();
    const auto which = static_cast<size_t>(below(std::ssize(all)));
    std::vector<Term> index;
    for (size_t i = 0; i < all[which]->shape.size(); ++i)
      index.push_back(i == 0 && one_in(3) ? builder.h() : integer(depth - 1));
    return builder.look_up("t" + std::to_string(which), all[which], index);
  }
  // Small values, ascending ids, shuffled ids and any integers, each in five shapes.
  static const std::vector<std::shared_ptr<const IntTable>>& tables() {
    static const std::vector<std::shared_ptr<const IntTable>> all = [] {
      std::vector<std::shared_ptr<const IntTable>> made;
      const std::vector<int64_t> shapes[] = {{700}, {37}, {24, 31}, {3, 9, 17}, {2, 3, 9, 17}};
      Random random(99);
      for (int kind = 0; kind < 4; ++kind) {
        for (const std::vector<int64_t>& shape : shapes) {
          int64_t size = 1;
          for (const int64_t extent : shape) size *= extent;
          std::vector<int32_t> data(static_cast<size_t>(size));
          int32_t id = 0;
          for (int32_t& x : data) {
            if (random.between(0, 19) == 0) ++id;
            const auto any = static_cast<int32_t>(random.bits());
            const auto shuffled =
                static_cast<int32_t>(static_cast<uint32_t>(id) * 2654435761u % 97);
            x = kind == 0   ? static_cast<int32_t>(random.between(-3, 6))
                : kind == 1 ? id
                : kind == 2 ? shuffled
                            : any;
          }
          made.push_back(int_table(std::move(data), shape));
        }
      }
      return made;
    }();
    return all;
  }

  Random random_;
  std::vector<Term> compared_;
};

}  // namespace tilewise::expr
