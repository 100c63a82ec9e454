// SPDX-License-Identifier: Apache-2.0
// Random expressions: their programs on every instruction set against the scalar evaluator, which
// shares no code with them. Real values are small multiples of 1/8, so that every sum and product
// is exact in float and results must be equal; exp, log, tanh and sqrt have their own test
// (vocabulary_test), division its own below.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "expr/bytecode.h"
#include "expr/eval_scalar.h"
#include "kernels/cpu/supported_vocabularies.h"

namespace tilewise {
namespace {

using expr::BytecodeOptions;
using expr::Graph;
using expr::IntTable;
using expr::Op;
using expr::Point;
using expr::ScalarEvaluator;
using expr::Type;
using expr::Variable;

// Symbols of all random graphs: an int and a real scalar, int tables of 1 to 4 axes, real tables.
struct Data {
  explicit Data(Random& random) {
    graph = std::make_shared<Graph>();
    for (const char* name : {"i", "x", "t1", "t2", "t3", "t4", "r1", "r2"}) add(name, random);
    values.query_length = random.between(1, 500);
    values.kv_length = random.between(1, 500);
    values.query_offset = random.between(-9, 9);
    values.key_offset = random.between(-9, 9);
  }
  void add(const std::string& name, Random& random) {
    const int rank = name.size() == 2 ? name[1] - '0' : 0;
    const bool is_real = name[0] == 'r' || name[0] == 'x';
    graph->symbol({name, is_real ? Type::kReal : Type::kInt, rank});
    expr::Values::Entry entry;
    entry.integer = random.between(-6, 6);
    entry.real = static_cast<double>(random.between(-8, 8)) / 8;
    if (rank > 0 && !is_real) {
      auto table = std::make_shared<IntTable>();
      int64_t size = 1;
      for (int axis = 0; axis < rank; ++axis) {
        table->shape.push_back(random.between(1, 5));
        size *= table->shape.back();
      }
      for (int64_t i = 0; i < size; ++i)
        table->data.push_back(static_cast<int32_t>(random.between(-9, 9)));
      entry.table = table;
    }
    if (rank > 0 && is_real) {
      Tensor table{};
      int64_t stride = 1;
      for (int axis = 3; axis >= 0; --axis) {
        table.shape[axis] = axis < 4 - rank ? 1 : random.between(1, 7);
        table.strides[axis] = axis < 4 - rank ? 0 : stride;
        stride *= table.shape[axis];
      }
      table.dtype = rank == 1 ? DType::kFloat32 : DType::kFloat64;
      memory.emplace_back(static_cast<size_t>(stride) * 8);
      table.data = memory.back().data();
      for (int64_t i = 0; i < stride; ++i) {
        const double x = static_cast<double>(random.between(-16, 16)) / 8;
        if (table.dtype == DType::kFloat32)
          static_cast<float*>(table.data)[i] = static_cast<float>(x);
        else
          static_cast<double*>(table.data)[i] = x;
      }
      entry.real_table = table;
    }
    values.symbols.push_back(entry);
    tensors.push_back(entry.real_table);
  }
  std::shared_ptr<Graph> graph;
  expr::Values values;
  std::vector<Tensor> tensors;  // by symbol
  std::vector<std::vector<char>> memory;
};

// Grows an expression and bounds the size of its numbers: ints may be as large as they like, reals
// stay multiples of 2^-9 below 2^14.
class Grower {
 public:
  Grower(Data& data, Random& random) : data_(data), random_(random) {}
  int32_t grow(Type type, int depth) {
    switch (type) {
      case Type::kBool:
        return boolean(depth);
      case Type::kInt:
        return integer(depth);
      case Type::kReal:
        break;
    }
    return real(depth);
  }
  [[nodiscard]] bool is_narrow() const { return largest_ < 0x1p31; }

 private:
  Graph& graph() { return *data_.graph; }
  int32_t pick(std::initializer_list<Op> ops, int32_t a, int32_t b) {
    return graph().binary(ops.begin()[random_.between(0, static_cast<int64_t>(ops.size()) - 1)], a,
                          b);
  }
  // |value| <= bound for every node, kept in bounds_.
  double bound(int32_t node) const { return bounds_[static_cast<size_t>(node)]; }
  int32_t bounded(int32_t node, double bound) {
    if (bounds_.size() <= static_cast<size_t>(node)) bounds_.resize(static_cast<size_t>(node) + 1);
    bounds_[static_cast<size_t>(node)] = std::min(bound, 0x1p63);
    largest_ = std::max(largest_, bound);
    return node;
  }
  int32_t boolean(int depth) {
    if (depth == 0) return graph().constant(random_.between(0, 1) == 1);
    switch (random_.between(0, 5)) {
      case 0:
        return graph().unary(Op::kNot, boolean(depth - 1));
      case 1:
        return pick({Op::kAnd, Op::kOr}, boolean(depth - 1), boolean(depth - 1));
      case 2:
        return graph().where(boolean(depth - 1), boolean(depth - 1), boolean(depth - 1));
      case 3: {
        const int32_t a = real(depth - 1), b = real(depth - 1);
        return pick({Op::kLess, Op::kLessEqual, Op::kEqual, Op::kNotEqual}, a, b);
      }
      default: {
        const int32_t a = integer(depth - 1), b = integer(depth - 1);
        return pick({Op::kLess, Op::kLessEqual, Op::kEqual, Op::kNotEqual}, a, b);
      }
    }
  }
  int32_t leaf() {
    switch (random_.between(0, 6)) {
      case 0:
        return bounded(graph().scalar("i", Type::kInt), 6);
      case 1: {
        const int64_t large = random_.between(0, 9) == 0 ? 100000000 : 1;
        const int64_t value = random_.between(-20, 20) * large;
        return bounded(graph().constant(value), std::fabs(static_cast<double>(value)));
      }
      case 2:
      case 3:
        return bounded(graph().variable(Variable::kQuery), 2000);
      case 4:
      case 5:
        return bounded(graph().variable(Variable::kKey), 2000);
      default:
        return bounded(graph().variable(static_cast<Variable>(
                           random_.between(0, 1) ? random_.between(0, 1) : random_.between(4, 7))),
                       2000);
    }
  }
  int32_t integer(int depth) {
    if (depth == 0) return leaf();
    const int32_t a = integer(depth - 1);
    const int64_t choice = random_.between(0, 8);
    if (choice == 0) return bounded(graph().unary(Op::kNeg, a), bound(a));
    if (choice == 1) return bounded(graph().unary(Op::kAbs, a), bound(a));
    if (choice == 2) {
      int32_t index[4];
      const auto rank = static_cast<int>(random_.between(1, 4));
      for (int i = 0; i < rank; ++i) index[i] = integer(depth - 1);
      return bounded(graph().lookup("t" + std::to_string(rank), Type::kInt, index, rank), 9);
    }
    const int32_t b = integer(depth - 1);
    if (choice == 3)
      return bounded(graph().where(boolean(depth - 1), a, b), std::max(bound(a), bound(b)));
    if (choice == 4) return bounded(graph().binary(Op::kMul, a, b), bound(a) * bound(b));
    if (choice == 5) return bounded(pick({Op::kMin, Op::kMax}, a, b), std::max(bound(a), bound(b)));
    if (choice == 6) {
      const int64_t divisors[] = {1, 2, 8, 128, 3, 7, 100, -1, -3, 0};
      const int32_t d =
          random_.between(0, 1) ? b : graph().constant(divisors[random_.between(0, 9)]);
      if (d != b) bounded(d, 128);
      return bounded(pick({Op::kFloorDiv, Op::kMod}, a, d), std::max(bound(a) + 1, bound(d)));
    }
    return bounded(pick({Op::kAdd, Op::kSub}, a, b), bound(a) + bound(b));
  }
  int32_t real(int depth) {
    if (depth == 0) {
      switch (random_.between(0, 3)) {
        case 0:
          return graph().scalar("x", Type::kReal);
        case 1:
          return graph().constant(static_cast<double>(random_.between(-16, 16)) / 8);
        default:
          return graph().variable(Variable::kScore);
      }
    }
    // Every second level is cut, so that products stay exact in 24 bits.
    const auto cut = [&](int32_t x) {
      return graph().binary(Op::kMin, graph().constant(4.0),
                            graph().binary(Op::kMax, x, graph().constant(-4.0)));
    };
    switch (random_.between(0, 7)) {
      case 0: {
        const int32_t small = graph().binary(Op::kMod, integer(depth - 1), thousand());
        return graph().unary(Op::kToReal, small);
      }
      case 1: {
        int32_t index[2];
        const auto rank = static_cast<int>(random_.between(1, 2));
        for (int i = 0; i < rank; ++i) index[i] = integer(depth - 1);
        return graph().lookup("r" + std::to_string(rank), Type::kReal, index, rank);
      }
      case 2:
        return graph().where(boolean(depth - 1), real(depth - 1), real(depth - 1));
      case 3: {  // a factor of 1/8 at most once: eighths times eighths are not cut to eighths
        const double factors[] = {-2, 0.5, 3, 1};
        return graph().binary(Op::kMul, whole(cut(real(depth - 1))),
                              graph().constant(factors[random_.between(0, 3)]));
      }
      case 4:
        return graph().unary(random_.between(0, 1) ? Op::kNeg : Op::kAbs, real(depth - 1));
      case 5:
        return pick({Op::kMin, Op::kMax}, real(depth - 1), real(depth - 1));
      default:
        return pick({Op::kAdd, Op::kSub}, cut(real(depth - 1)), cut(real(depth - 1)));
    }
  }
  // 0 or 1: whether x > 0.
  int32_t whole(int32_t x) {
    return graph().where(graph().binary(Op::kLess, graph().constant(0.0), x), x,
                         graph().constant(1.0));
  }
  int32_t thousand() { return bounded(graph().constant(int64_t{1000}), 1000); }

  Data& data_;
  Random& random_;
  std::vector<double> bounds_;
  double largest_ = 0;
};

class EvalTile : public testing::TestWithParam<const VocabularyChecks*> {
 protected:
  // Compares every value of the tile with the scalar evaluator. Ints are compared as doubles.
  void expect_values(const Data& data, const std::vector<int32_t>& roots,
                     const BytecodeOptions& options, const ProgramTile& tile,
                     const std::string& what) {
    const VocabularyChecks& isa = *GetParam();
    const expr::ProgramStorage storage = compile(*data.graph, roots, data.values, options);
    const int all_rows = (tile.rows + 7) / 8 * 8;
    std::vector<double> got(roots.size() * static_cast<size_t>(all_rows * isa.width), -777);
    isa.evaluate(storage.view(data.tensors.data()), storage.sizes, tile, got.data());
    for (size_t o = 0; o < roots.size(); ++o) {
      const expr::Expression expression{data.graph, roots[o]};
      ScalarEvaluator oracle(expression, data.values);
      for (int row = 0; row < tile.rows; ++row)
        for (int lane = tile.j0 * isa.lanes; lane < tile.j1 * isa.lanes; ++lane) {
          const int query = tile.rows_are_keys ? lane : row, key = tile.rows_are_keys ? row : lane;
          const Point point = {tile.batch, tile.head, tile.query + query, tile.key + key,
                               tile.scores[row * isa.width + lane]};
          const Type type = expression.type();
          const double truth = type == Type::kBool  ? oracle.boolean(point)
                               : type == Type::kInt ? static_cast<double>(oracle.integer(point))
                                                    : oracle.real(point);
          const double value = got[(o * static_cast<size_t>(all_rows) + static_cast<size_t>(row)) *
                                       static_cast<size_t>(isa.width) +
                                   static_cast<size_t>(lane)];
          ASSERT_EQ(value, truth) << what << " output " << o << " row " << row << " lane " << lane;
        }
    }
  }

  ProgramTile random_tile(Random& random) {
    const VocabularyChecks& isa = *GetParam();
    ProgramTile tile{};
    tile.batch = random.between(0, 5);
    tile.head = random.between(0, 5);
    tile.query = random.between(-50, 1000);
    tile.key = random.between(-50, 1000);
    tile.rows_are_keys = random.between(0, 1) == 1;
    tile.rows = static_cast<int>(random.between(1, 40));
    tile.j1 = static_cast<int>(random.between(1, isa.width / isa.lanes));
    tile.j0 = static_cast<int>(random.between(0, tile.j1 - 1));
    scores_.resize(static_cast<size_t>((tile.rows + 7) / 8 * 8 * isa.width));
    for (double& s : scores_) s = static_cast<double>(random.between(-40, 40)) / 8;
    tile.scores = scores_.data();
    return tile;
  }
  std::vector<double> scores_;
};

TEST_P(EvalTile, RandomExpressionsHaveTheValuesOfTheScalarEvaluator) {
  int narrow = 0;
  for (uint64_t seed = 0; seed < 400; ++seed) {
    Random random(seed);
    Data data(random);
    Grower grower(data, random);
    std::vector<int32_t> roots;
    for (int64_t n = random.between(1, 3); n > 0; --n)
      roots.push_back(grower.grow(static_cast<Type>(random.between(0, 2)),
                                  static_cast<int>(random.between(0, 6))));
    const ProgramTile tile = random_tile(random);
    const std::string what = "seed " + std::to_string(seed);
    expect_values(data, roots, {.is_narrow = false}, tile, what + " wide");
    if (HasFatalFailure()) return;
    if (!grower.is_narrow()) continue;
    ++narrow;
    expect_values(data, roots, {.is_narrow = true}, tile, what + " narrow");
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(narrow, 100);  // the vector path is tested
}

TEST_P(EvalTile, FloorDivisionIsExactInAllOf32Bits) {
  Random random(3);
  Data data(random);
  Graph& g = *data.graph;
  auto table = std::make_shared<IntTable>();
  for (int64_t i = 0; i < 4096; ++i) {
    const int64_t extremes[] = {INT32_MIN, INT32_MIN + 1, INT32_MAX, INT32_MAX - 1};
    table->data.push_back(static_cast<int32_t>(random.between(0, 3)
                                                   ? random.between(INT32_MIN, INT32_MAX)
                                                   : extremes[random.between(0, 3)]));
  }
  table->shape = {4096};
  data.values.symbols[2].table = table;  // t1
  const int32_t q = g.variable(Variable::kQuery), k = g.variable(Variable::kKey);
  const int32_t a = g.lookup("t1", Type::kInt, &q, 1);
  std::vector<int32_t> roots;
  for (int64_t divisor : {1, 3, 7, 641, -5, 46341, 16777219, INT32_MAX, INT32_MIN})
    for (Op op : {Op::kFloorDiv, Op::kMod}) roots.push_back(g.binary(op, a, g.constant(divisor)));
  // A divisor that differs from pair to pair; -1 would leave 32 bits.
  const int32_t d = g.binary(Op::kMax, g.lookup("t1", Type::kInt, &k, 1), g.constant(int64_t{1}));
  for (Op op : {Op::kFloorDiv, Op::kMod}) roots.push_back(g.binary(op, a, d));
  for (int n = 0; n < 20; ++n) {
    ProgramTile tile = random_tile(random);
    tile.query = random.between(0, 4000);
    tile.key = random.between(0, 4000);
    expect_values(data, roots, {.is_narrow = true}, tile, "case " + std::to_string(n));
    if (HasFatalFailure()) return;
  }
}

TEST_P(EvalTile, WideIntsWrapAndKeepAllBits) {
  Random random(5);
  Data data(random);
  Graph& g = *data.graph;
  const int32_t q = g.variable(Variable::kQuery), k = g.variable(Variable::kKey);
  const int32_t large = g.constant(int64_t{1} << 40);
  const int32_t product =
      g.binary(Op::kMul, g.binary(Op::kAdd, q, large), g.binary(Op::kAdd, k, large));
  const int32_t least = g.constant(INT64_MIN);
  const std::vector<int32_t> roots = {
      g.binary(Op::kMod, product, g.constant(int64_t{1000003})),
      g.binary(Op::kLess, product, g.constant(int64_t{0})),
      g.binary(Op::kFloorDiv, g.binary(Op::kAdd, q, large), g.constant(int64_t{1} << 20)),
      g.binary(Op::kFloorDiv, least, g.binary(Op::kMod, k, g.constant(int64_t{-2}))),
      g.unary(Op::kAbs, least)};
  for (int n = 0; n < 20; ++n) {
    ProgramTile tile = random_tile(random);
    tile.query = (int64_t{1} << 33) + n;
    expect_values(data, roots, {.is_narrow = false}, tile, "case " + std::to_string(n));
    if (HasFatalFailure()) return;
  }
}

// Lanes that read one element, elements side by side in either order, and any others; also of
// tables whose axes run backwards or whose elements are far apart.
TEST_P(EvalTile, LookupsOfEveryPattern) {
  Random random(11);
  Data data(random);
  Graph& g = *data.graph;
  auto table = std::make_shared<IntTable>();
  table->shape = {3000};
  for (int64_t i = 0; i < 3000; ++i)
    table->data.push_back(static_cast<int32_t>(random.between(-99, 99)));
  data.values.symbols[2].table = table;  // t1
  std::vector<float> reals(9000);
  for (float& x : reals) x = static_cast<float>(random.between(-99, 99));
  const int32_t q = g.variable(Variable::kQuery), k = g.variable(Variable::kKey);
  const int32_t middle = g.constant(int64_t{1500});
  const int32_t up = g.binary(Op::kAdd, g.binary(Op::kSub, k, q), middle);
  const int32_t down = g.binary(Op::kSub, middle, g.binary(Op::kAdd, q, k));
  const int32_t block = g.binary(Op::kFloorDiv, g.binary(Op::kAdd, q, k), g.constant(int64_t{64}));
  const int32_t clamped = g.binary(Op::kMin, up, middle);
  std::vector<int32_t> roots;
  for (const int32_t index : {up, down, block, clamped}) {
    const int32_t looked_up = g.lookup("t1", Type::kInt, &index, 1);
    const int32_t pair[] = {looked_up, index};
    roots.insert(roots.end(), {looked_up, g.lookup("r1", Type::kReal, &index, 1),
                               g.lookup("r2", Type::kReal, pair, 2)});
  }
  // Elements beyond 2^30 exist nowhere: only index 0 of that axis is read.
  for (const int64_t far : {int64_t{2}, int64_t{1} << 40}) {
    for (const int64_t step : {1, -1, 2}) {
      data.tensors[6] = {
          reals.data() + (step < 0 ? 2999 : 0), DType::kFloat32, {1, 1, 1, 3000}, {0, 0, 0, step}};
      data.tensors[7] = {reals.data(),
                         DType::kFloat32,
                         {1, 1, far == 2 ? 2 : 1, 3000},
                         {0, 0, far, step < 0 ? 2 : 1}};
      data.values.symbols[6].real_table = data.tensors[6];
      data.values.symbols[7].real_table = data.tensors[7];
      for (int n = 0; n < 3; ++n) {
        ProgramTile tile = random_tile(random);
        for (const bool is_narrow : {false, true})
          expect_values(data, roots, {.is_narrow = is_narrow}, tile,
                        "step " + std::to_string(step));
        if (HasFatalFailure()) return;
      }
    }
  }
}

// Within a few ulp of the arithmetic; a constant divisor is a product with its inverse.
TEST_P(EvalTile, SoftcapWithSlopes) {
  Random random(9);
  Data data(random);
  Graph& g = *data.graph;
  const int32_t s = g.variable(Variable::kScore), cap = g.constant(30.0);
  const int32_t capped = g.binary(Op::kMul, cap, g.unary(Op::kTanh, g.binary(Op::kDiv, s, cap)));
  const int32_t distance = g.unary(
      Op::kToReal, g.binary(Op::kSub, g.variable(Variable::kKey), g.variable(Variable::kQuery)));
  const int32_t root = g.binary(Op::kAdd, capped, g.binary(Op::kMul, g.constant(0.0625), distance));
  const VocabularyChecks& isa = *GetParam();
  const expr::ProgramStorage storage = compile(g, {root}, data.values, {.is_narrow = true});
  const expr::Expression expression{data.graph, root};
  ScalarEvaluator oracle(expression, data.values);
  const bool is_double = std::string(isa.name) == "ScalarF64";
  for (int n = 0; n < 30; ++n) {
    const ProgramTile tile = random_tile(random);
    std::vector<double> got(scores_.size());
    isa.evaluate(storage.view(), storage.sizes, tile, got.data());
    for (int row = 0; row < tile.rows; ++row)
      for (int lane = tile.j0 * isa.lanes; lane < tile.j1 * isa.lanes; ++lane) {
        const int query = tile.rows_are_keys ? lane : row, key = tile.rows_are_keys ? row : lane;
        const auto at = static_cast<size_t>(row * isa.width + lane);
        const double truth = oracle.real(
            {tile.batch, tile.head, tile.query + query, tile.key + key, tile.scores[at]});
        // Terms up to 5 and up to 64; 8 roundings and 2 ulp of tanh.
        const double unit = is_double ? 0x1p-52 : 0x1p-23;
        ASSERT_NEAR(got[at], truth, (5 * 10 + 64 * 2) * unit) << "case " << n;
      }
  }
}

INSTANTIATE_TEST_SUITE_P(All, EvalTile, testing::ValuesIn(supported_vocabularies()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace tilewise
