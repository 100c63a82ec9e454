// SPDX-License-Identifier: Apache-2.0
// The instructions of base/tile_program.h on blocks of vectors: dispatched once per block. Meanings
// are those of expr/ir.h; out may be one of the operands.
#pragma once

#include <cstdint>
#include <cstring>

#include "base/dtype.h"
#include "base/tile_program.h"
#include "kernels/cpu/generic/elementary-inl.h"
#include "kernels/cpu/generic/int_lanes-inl.h"

namespace {

using tilewise::ProgramInstruction;
using tilewise::ProgramOp;
using tilewise::ProgramTable;
using tilewise::TileProgram;

// A register as an instruction sees it: vector (i, j) lies at data + i * row + j * vector bytes. A
// vector of bools is a uint16_t with one bit per lane; bits beyond the lanes are arbitrary.
struct Operand {
  char* data;
  int32_t row;
  int32_t vector;
  char* at(int i, int j) const { return data + i * row + j * vector; }
};

// kLanes consecutive positions per vector, or those of `each`.
struct Positions {
  int64_t first;
  const int64_t* each;  // null: first, first + 1, ...
};

// What the leaves of a program are on a tile, in global positions. Of queries, keys and heads the
// ones along the axis that is being computed count.
struct TilePlace {
  int64_t batch;
  Positions heads;  // of the queries; consecutive: all first
  Positions queries;
  Positions keys;
};

// One instruction on `rows` x NV vectors.
template <class X, class I, int NV>
struct Block {
  using Vec = typename X::Vec;
  using Real = typename X::Real;
  using Ints = typename I::Ints;
  using Unsigned = typename I::Unsigned;
  using Int = typename I::Int;
  static constexpr int L = X::kLanes;
  static constexpr uint32_t kAllLanes = (uint32_t{1} << L) - 1;

  const Operand* registers;
  const ProgramInstruction& code;
  int rows;

  template <class V>
  TILEWISE_INLINE V get(const char* p) {
    V value;
    std::memcpy(&value, p, sizeof(value));
    return value;
  }
  template <class V>
  TILEWISE_INLINE void put(char* p, V value) {
    std::memcpy(p, &value, sizeof(value));
  }
  const Operand& operand(int o) const { return registers[code.operand[o]]; }

  // out = f(vectors of type V...).
  template <class V, class F>
  void unary(const F& f) const {
    const Operand out = registers[code.out], a = operand(0);
    for (int i = 0; i < rows; ++i)
      TILEWISE_UNROLL for (int j = 0; j < NV; ++j) put(out.at(i, j), f(get<V>(a.at(i, j))));
  }
  template <class V, class F>
  void binary(const F& f) const {
    const Operand out = registers[code.out], a = operand(0), b = operand(1);
    for (int i = 0; i < rows; ++i)
      TILEWISE_UNROLL for (int j = 0; j < NV; ++j)
          put(out.at(i, j), f(get<V>(a.at(i, j)), get<V>(b.at(i, j))));
  }
  // A comparison: bits from two vectors.
  template <class V, class F>
  void compare(const F& f) const {
    binary<V>([&](V a, V b) { return static_cast<uint16_t>(f(a, b)); });
  }
  template <class V, class F>
  void where(const F& f) const {
    const Operand out = registers[code.out], a = operand(0), b = operand(1), c = operand(2);
    for (int i = 0; i < rows; ++i)
      TILEWISE_UNROLL for (int j = 0; j < NV; ++j)
          put(out.at(i, j), f(get<uint16_t>(a.at(i, j)), get<V>(b.at(i, j)), get<V>(c.at(i, j))));
  }
  // out = c + a b.
  template <class F>
  void add_product(const F& f) const {
    const Operand out = registers[code.out], a = operand(0), b = operand(1), c = operand(2);
    for (int i = 0; i < rows; ++i)
      TILEWISE_UNROLL for (int j = 0; j < NV; ++j)
          put(out.at(i, j), f(get<Vec>(a.at(i, j)), get<Vec>(b.at(i, j)), get<Vec>(c.at(i, j))));
  }
  // out = d + c (a - b).
  template <class F>
  void add_distance(const F& f) const {
    using U = Unsigned;
    const Operand out = registers[code.out], a = operand(0), b = operand(1), c = operand(2),
                  d = operand(3);
    for (int i = 0; i < rows; ++i) TILEWISE_UNROLL for (int j = 0; j < NV; ++j) {
        const auto distance = (Ints)((U)get<Ints>(a.at(i, j)) - (U)get<Ints>(b.at(i, j)));
        put(out.at(i, j), f(I::to_real(distance), get<Vec>(c.at(i, j)), get<Vec>(d.at(i, j))));
      }
  }
  template <class V>
  void fill(V value) const {
    const Operand out = registers[code.out];
    for (int i = 0; i < rows; ++i)
      TILEWISE_UNROLL for (int j = 0; j < NV; ++j) put(out.at(i, j), value);
  }
  // Positions along the axis that is computed: row i holds those from i * kLanes on.
  void count(const Positions& positions, int64_t step) const {
    const Operand out = registers[code.out];
    for (int i = 0; i < rows; ++i) {
      Ints value;
      for (int l = 0; l < L; ++l)
        value[l] = static_cast<Int>(positions.each ? positions.each[i * L + l]
                                                   : positions.first + step * (i * L + l));
      put(out.at(i, 0), value);
    }
  }
  // Where the lookup of lane l finds its element.
  int64_t element(const int64_t* shape, const int64_t* strides, int i, int j, int l) const {
    int64_t at = 0;
    for (int axis = 0; axis < code.count; ++axis) {
      Int index;
      std::memcpy(&index, operand(axis).at(i, j) + l * sizeof(Int), sizeof(index));
      const int64_t last = shape[axis] - 1;
      at += strides[axis] * (index < 0 ? 0 : index > last ? last : index);
    }
    return at;
  }
  TILEWISE_INLINE bool all_equal(Ints a, Ints b) {
    return (I::equal(a, b) & kAllLanes) == kAllLanes;
  }
  // out = load(i, j, l) of every lane. Layouts of blocks give one element to whole units. The
  // register of the result may be that of an index.
  template <class V, class Load>
  void look_up(const Load& load) const {
    const Operand& out = registers[code.out];
    for (int j = 0; j < NV; ++j) {
      Ints above[4] = {};
      V value{};
      for (int i = 0; i < rows; ++i) {
        bool is_as_above = i > 0, is_one = true;
        for (int axis = 0; axis < code.count; ++axis) {
          const auto index = get<Ints>(operand(axis).at(i, j));
          is_as_above = is_as_above && all_equal(index, above[axis]);
          is_one = is_one && all_equal(index, Ints{} + index[0]);
          above[axis] = index;
        }
        if (!is_as_above) {
          decltype(load(i, j, 0)) lane[L];
          const int count = is_one ? 1 : L;
          for (int l = 0; l < count; ++l) lane[l] = load(i, j, l);
          for (int l = count; l < L; ++l) lane[l] = lane[0];
          value = get<V>(reinterpret_cast<const char*>(lane));
        }
        put(out.at(i, j), value);
      }
    }
  }
  void look_up_ints(const ProgramTable& table) const {
    look_up<Ints>([&](int i, int j, int l) {
      return static_cast<Int>(table.data[element(table.shape, table.strides, i, j, l)]);
    });
  }
  void look_up_reals(const tilewise::Tensor& table) const {
    const int first_axis = 4 - code.count;
    look_up<Vec>([&](int i, int j, int l) {
      const int64_t at = element(table.shape + first_axis, table.strides + first_axis, i, j, l);
      return static_cast<Real>(table.dtype == tilewise::DType::kFloat32
                                   ? static_cast<double>(static_cast<const float*>(table.data)[at])
                                   : tilewise::load_element(table.data, table.dtype, at));
    });
  }
  void divide(bool wants_rest) const {
    binary<Ints>([&](Ints a, Ints b) {
      Ints r;
      for (int l = 0; l < L; ++l) {
        const Int x = a[l], y = b[l];
        const Int q = y == 0 ? 0 : I::quotient(x, y);
        r[l] = !wants_rest ? q
               : y == 0    ? 0
                           : static_cast<Int>(static_cast<uint64_t>(x) -
                                           static_cast<uint64_t>(q) * static_cast<uint64_t>(y));
      }
      return r;
    });
  }
};

// The instructions of ints.
template <class X, class I, int NV>
__attribute__((noinline)) void run_int_instruction(const Block<X, I, NV>& b) {
  using Ints = typename I::Ints;
  using U = typename I::Unsigned;
  using Int = typename I::Int;
  switch (b.code.op) {
    case ProgramOp::kIntConstant:
      return b.fill(Ints{} + static_cast<Int>(b.code.immediate));
    case ProgramOp::kAddInt:
      return b.template binary<Ints>([](Ints x, Ints y) { return (Ints)((U)x + (U)y); });
    case ProgramOp::kSubInt:
      return b.template binary<Ints>([](Ints x, Ints y) { return (Ints)((U)x - (U)y); });
    case ProgramOp::kMulInt:
      return b.template binary<Ints>([](Ints x, Ints y) { return (Ints)((U)x * (U)y); });
    case ProgramOp::kMinInt:
      return b.template binary<Ints>([](Ints x, Ints y) { return x < y ? x : y; });
    case ProgramOp::kMaxInt:
      return b.template binary<Ints>([](Ints x, Ints y) { return x < y ? y : x; });
    case ProgramOp::kAbsInt:
      return b.template unary<Ints>([](Ints x) { return x < 0 ? (Ints)(U{} - (U)x) : x; });
    case ProgramOp::kNegInt:
      return b.template unary<Ints>([](Ints x) { return (Ints)(U{} - (U)x); });
    case ProgramOp::kFloorDiv:
      return b.divide(false);
    case ProgramOp::kMod:
      return b.divide(true);
    case ProgramOp::kShiftRight: {
      const auto shift = static_cast<Int>(b.code.immediate);
      return b.template unary<Ints>([shift](Ints x) { return x >> shift; });
    }
    case ProgramOp::kBitAnd: {
      const auto bits = static_cast<Int>(b.code.immediate);
      return b.template unary<Ints>([bits](Ints x) { return x & bits; });
    }
    case ProgramOp::kWhereInt:
      return b.template where<Ints>([](uint16_t c, Ints x, Ints y) { return I::select(c, x, y); });
    case ProgramOp::kLessInt:
      return b.template compare<Ints>([](Ints x, Ints y) { return I::less(x, y); });
    case ProgramOp::kLessEqualInt:
      return b.template compare<Ints>([](Ints x, Ints y) { return ~I::less(y, x); });
    case ProgramOp::kEqualInt:
      return b.template compare<Ints>([](Ints x, Ints y) { return I::equal(x, y); });
    case ProgramOp::kNotEqualInt:
      return b.template compare<Ints>([](Ints x, Ints y) { return ~I::equal(x, y); });
    case ProgramOp::kToReal: {
      return b.template unary<Ints>([](Ints x) { return I::to_real(x); });
    }
    default:
      return;
  }
}

// The instructions of reals and bools.
template <class X, class I, int NV>
__attribute__((noinline)) void run_real_instruction(const Block<X, I, NV>& b) {
  using Vec = typename X::Vec;
  using Real = typename X::Real;
  switch (b.code.op) {
    case ProgramOp::kRealConstant:
      return b.fill(X::broadcast(static_cast<Real>(__builtin_bit_cast(double, b.code.immediate))));
    case ProgramOp::kAddReal:
      return b.template binary<Vec>([](Vec x, Vec y) { return X::add(x, y); });
    case ProgramOp::kSubReal:
      return b.template binary<Vec>([](Vec x, Vec y) { return X::sub(x, y); });
    case ProgramOp::kMulReal:
      return b.template binary<Vec>([](Vec x, Vec y) { return X::mul(x, y); });
    case ProgramOp::kMulConstant: {
      const Vec f = X::broadcast(static_cast<Real>(__builtin_bit_cast(double, b.code.immediate)));
      return b.template unary<Vec>([f](Vec x) { return X::mul(x, f); });
    }
    case ProgramOp::kAddProduct:
      return b.add_product([](Vec x, Vec y, Vec z) { return X::fma(x, y, z); });
    case ProgramOp::kSubProduct:
      return b.add_product([](Vec x, Vec y, Vec z) { return X::fnma(x, y, z); });
    case ProgramOp::kAddDistance:
      return b.add_distance([](Vec x, Vec y, Vec z) { return X::fma(x, y, z); });
    case ProgramOp::kSubDistance:
      return b.add_distance([](Vec x, Vec y, Vec z) { return X::fnma(x, y, z); });
    case ProgramOp::kMinReal:  // the words give y where either is NaN
      return b.template binary<Vec>(
          [](Vec x, Vec y) { return X::select(X::unordered(x), x, X::min(x, y)); });
    case ProgramOp::kMaxReal:
      return b.template binary<Vec>(
          [](Vec x, Vec y) { return X::select(X::unordered(x), x, X::max(x, y)); });
    case ProgramOp::kAbsReal:
      return b.template unary<Vec>([](Vec x) { return X::max(negative<X>(x), x); });
    case ProgramOp::kNegReal:
      return b.template unary<Vec>([](Vec x) { return negative<X>(x); });
    case ProgramOp::kDiv:
      return b.template binary<Vec>([](Vec x, Vec y) { return X::div(x, y); });
    case ProgramOp::kExp:
      return b.template unary<Vec>([](Vec x) { return exp_real<X>(x); });
    case ProgramOp::kLog:
      return b.template unary<Vec>([](Vec x) { return log_real<X>(x); });
    case ProgramOp::kTanh: {
      const Vec in = X::broadcast(static_cast<Real>(__builtin_bit_cast(double, b.code.immediate)));
      const Vec out = X::broadcast(static_cast<Real>(__builtin_bit_cast(double, b.code.factor)));
      return b.template unary<Vec>(
          [in, out](Vec x) { return X::mul(out, tanh_real<X>(X::mul(in, x))); });
    }
    case ProgramOp::kSqrt:
      return b.template unary<Vec>([](Vec x) { return X::sqrt(x); });
    case ProgramOp::kWhereReal:
      return b.template where<Vec>(
          [](uint16_t c, Vec x, Vec y) { return X::select(X::lanes(c), x, y); });
    case ProgramOp::kLessReal:
      return b.template compare<Vec>([](Vec x, Vec y) { return X::bits(X::less(x, y)); });
    case ProgramOp::kLessEqualReal:
      return b.template compare<Vec>(
          [](Vec x, Vec y) { return X::bits(X::either(X::less(x, y), X::equal(x, y))); });
    case ProgramOp::kEqualReal:
      return b.template compare<Vec>([](Vec x, Vec y) { return X::bits(X::equal(x, y)); });
    case ProgramOp::kNotEqualReal:
      return b.template compare<Vec>([](Vec x, Vec y) { return ~X::bits(X::equal(x, y)); });
    case ProgramOp::kBoolConstant:
      return b.fill(static_cast<uint16_t>(b.code.immediate ? 0xffff : 0));
    case ProgramOp::kAnd:
      return b.template compare<uint16_t>([](uint16_t x, uint16_t y) { return x & y; });
    case ProgramOp::kOr:
      return b.template compare<uint16_t>([](uint16_t x, uint16_t y) { return x | y; });
    case ProgramOp::kNot:
      return b.template unary<uint16_t>([](uint16_t x) { return static_cast<uint16_t>(~x); });
    case ProgramOp::kWhereBool:
      return b.template where<uint16_t>([](uint16_t c, uint16_t x, uint16_t y) {
        return static_cast<uint16_t>((c & x) | (~c & y));
      });
    default:
      return run_int_instruction<X, I, NV>(b);
  }
}

// Instructions [begin, end) on `rows` x NV vectors.
template <class X, class I, int NV>
void run_instructions(const TileProgram& program, int32_t begin, int32_t end,
                      const Operand* registers, const TilePlace& place, int rows) {
  using Ints = typename I::Ints;
  using Int = typename I::Int;
  for (int32_t i = begin; i < end; ++i) {
    const Block<X, I, NV> block{registers, program.code[i], rows};
    switch (program.code[i].op) {
      case ProgramOp::kBatch:
        block.fill(Ints{} + static_cast<Int>(place.batch));
        break;
      case ProgramOp::kHead:
        block.count(place.heads, 0);
        break;
      case ProgramOp::kQuery:
        block.count(place.queries, 1);
        break;
      case ProgramOp::kKey:
        block.count(place.keys, 1);
        break;
      case ProgramOp::kLookupInt:
        block.look_up_ints(program.tables[program.code[i].immediate]);
        break;
      case ProgramOp::kLookupReal:
        block.look_up_reals(program.real_tables[program.tables[program.code[i].immediate].symbol]);
        break;
      default:
        run_real_instruction<X, I, NV>(block);
        break;
    }
  }
}

}  // namespace
