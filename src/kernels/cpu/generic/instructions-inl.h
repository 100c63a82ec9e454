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
#include "kernels/cpu/generic/lookups-inl.h"

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
  // The same for all lanes, of a table that is_near.
  Ints elements(const int64_t* shape, const int64_t* strides, int i, int j) const {
    Ints at = {};
    for (int axis = 0; axis < code.count; ++axis) {
      const auto index = get<Ints>(operand(axis).at(i, j));
      const Ints last = Ints{} + static_cast<Int>(shape[axis] - 1);
      const Ints least = index < 0 ? Ints{} : index;
      at += (least > last ? last : least) * static_cast<Int>(strides[axis]);
    }
    return at;
  }
  // Elements, and what they are made of, stay below 2^30.
  bool is_near(const int64_t* shape, const int64_t* strides) const {
    constexpr int64_t kFar = int64_t{1} << 30;
    int64_t span = 0;
    for (int axis = 0; axis < code.count; ++axis) {
      const int64_t stride = strides[axis] < 0 ? -strides[axis] : strides[axis];
      if (stride >= kFar || shape[axis] > kFar) return false;
      span += stride * (shape[axis] - 1);
      if (span >= kFar) return false;
    }
    return true;
  }
  // out = fetch(elements of all lanes). Layouts of blocks give the same elements to many rows. The
  // register of the result may be that of an index.
  template <class Fetch>
  void look_up(const int64_t* shape, const int64_t* strides, const Fetch& fetch_all) const {
    const Operand& out = registers[code.out];
    for (int j = 0; j < NV; ++j) {
      Ints above = elements(shape, strides, 0, j);
      auto value = fetch_all(above);
      for (int i = 0; i < rows; ++i) {
        const Ints at = elements(shape, strides, i, j);
        if (i > 0 && !all_equal<X>(at, above)) value = fetch_all(at);
        above = at;
        put(out.at(i, j), value);
      }
    }
  }
  // The same lane by lane.
  template <class V, class Load>
  void look_up_each(const int64_t* shape, const int64_t* strides, const Load& load) const {
    const Operand& out = registers[code.out];
    for (int i = 0; i < rows; ++i)
      for (int j = 0; j < NV; ++j) {
        decltype(load(0)) lane[L];
        for (int l = 0; l < L; ++l) lane[l] = load(element(shape, strides, i, j, l));
        put(out.at(i, j), get<V>(reinterpret_cast<const char*>(lane)));
      }
  }
  void look_up_ints(const ProgramTable& table) const {
    if constexpr (sizeof(Int) == 4)
      if (is_near(table.shape, table.strides))
        return look_up(table.shape, table.strides,
                       [&](Ints at) { return fetch_ints<X>(table.data, at); });
    look_up_each<Ints>(table.shape, table.strides,
                       [&](int64_t at) { return static_cast<Int>(table.data[at]); });
  }
  void look_up_reals(const tilewise::Tensor& table) const {
    const int first_axis = 4 - code.count;
    const int64_t *shape = table.shape + first_axis, *strides = table.strides + first_axis;
    if constexpr (sizeof(Int) == 4 && sizeof(Real) == 4)
      if (table.dtype == tilewise::DType::kFloat32 && is_near(shape, strides)) {
        const auto* data = static_cast<const float*>(table.data);
        return look_up(shape, strides, [&](Ints at) { return fetch_reals<X>(data, at); });
      }
    look_up_each<Vec>(shape, strides, [&](int64_t at) {
      return static_cast<Real>(tilewise::load_element(table.data, table.dtype, at));
    });
  }
  void divide(bool wants_rest) const {
    using U = Unsigned;
    binary<Ints>([&](Ints x, Ints y) {
      const Ints by_zero = y == 0, divisor = by_zero ? Ints{} + 1 : y;
      const Ints q = I::quotient(x, divisor);
      return by_zero ? Ints{} : wants_rest ? (Ints)((U)x - (U)q * (U)divisor) : q;
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
    case ProgramOp::kFloorDivConstant: {
      const int64_t y = b.code.immediate;
      return b.template unary<Ints>([y](Ints x) { return I::quotient_by(x, y); });
    }
    case ProgramOp::kModConstant: {
      const int64_t y = b.code.immediate;
      return b.template unary<Ints>([y](Ints x) {
        return (Ints)((U)x - (U)I::quotient_by(x, y) * (U)(Ints{} + static_cast<Int>(y)));
      });
    }
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
