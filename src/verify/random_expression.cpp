// SPDX-License-Identifier: Apache-2.0
#include "verify/random_expression.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <limits>

#include "expr/arithmetic.h"

namespace tilewise::verify {
namespace {

using expr::Graph;
using expr::Op;
using expr::Type;
using expr::Variable;

struct Table {
  const char* name;
  Type type;
  int rank;
  int64_t shape[expr::kMaxOperands];
};
constexpr Table kTables[] = {
    {"doc", Type::kInt, 1, {97}},           {"step", Type::kInt, 1, {7}},
    {"layout", Type::kInt, 2, {4, 5}},      {"tree", Type::kInt, 3, {2, 6, 5}},
    {"links", Type::kInt, 4, {2, 3, 4, 3}}, {"slope", Type::kReal, 1, {4}},
    {"bias", Type::kReal, 2, {4, 31}},
};
constexpr const char* kIntScalar = "window";
constexpr const char* kRealScalar = "cap";

class Builder {
 public:
  Builder(uint64_t seed, uint64_t index, const RandomExpressionOptions& options)
      : options_(options), random_(seed, index) {}

  RandomExpression build() {
    for (int i = 0; i < expr::kVariables - 1; ++i)
      nodes_of(Type::kInt).push_back(graph_.variable(static_cast<Variable>(i)));
    if (options_.is_score) nodes_of(Type::kReal).push_back(graph_.variable(Variable::kScore));
    for (int i = 0; i < options_.operators; ++i) grow();
    const std::vector<int32_t>& roots = nodes_of(options_.is_score ? Type::kReal : Type::kBool);
    const int32_t root = roots.empty() ? boolean() : roots.back();
    RandomExpression result;
    result.expression = {std::make_shared<const Graph>(graph_), root};
    give_values(result);
    return result;
  }

 private:
  bool chance(double probability) { return random_.uniform() < probability; }
  int64_t between(int64_t low, int64_t high) { return random_.between(low, high); }

  std::vector<int32_t>& nodes_of(Type type) { return nodes_[static_cast<size_t>(type)]; }
  // Often one of the last, so that expressions become deep; the same one twice now and then.
  int32_t pick(Type type) {
    const std::vector<int32_t>& nodes = nodes_of(type);
    const auto last = static_cast<int64_t>(nodes.size()) - 1;
    const int64_t first = chance(0.6) ? std::max<int64_t>(last - 3, 0) : 0;
    return nodes[static_cast<size_t>(between(first, last))];
  }
  void keep(int32_t node) { nodes_of(graph_.node(node).type).push_back(node); }
  // Operands in braces are drawn from left to right by every compiler; arguments are not.
  void keep_unary(Op op, int32_t a) { keep(graph_.unary(op, a)); }
  void keep_binary(Op op, const std::array<int32_t, 2>& x) { keep(graph_.binary(op, x[0], x[1])); }
  void keep_where(const std::array<int32_t, 3>& x) { keep(graph_.where(x[0], x[1], x[2])); }

  int64_t int_literal() {
    switch (between(0, 9)) {
      case 0:
        return chance(0.5) ? expr::kMinInt : expr::kMaxInt;
      case 1:
        return between(expr::kMinInt, expr::kMinInt + 3);
      case 2:
      case 3: {  // around a power of two, of either sign
        const int64_t power = int64_t{1} << between(0, 62);
        const int64_t value = power + between(-1, 1);
        return chance(0.5) ? value : -value;
      }
      case 4:
        return between(0, 100);
      default:
        return between(-8, 16);
    }
  }
  double real_literal() {
    static constexpr double kExtremes[] = {0.0, -0.0, 1e-310, std::numeric_limits<double>::max(),
                                           std::numeric_limits<double>::min()};
    static constexpr double kNotFinite[] = {std::numeric_limits<double>::infinity(),
                                            -std::numeric_limits<double>::infinity(),
                                            std::numeric_limits<double>::quiet_NaN()};
    if (chance(0.1)) return kExtremes[between(0, std::ssize(kExtremes) - 1)];
    if (!options_.is_bindable && chance(0.1)) return kNotFinite[between(0, 2)];
    return chance(0.5) ? static_cast<double>(between(-16, 16)) / 4 : 3 * random_.normal();
  }

  int32_t integer() {
    if (chance(0.25)) return graph_.constant(int_literal());
    if (chance(0.05)) return graph_.scalar(kIntScalar, Type::kInt);
    return pick(Type::kInt);
  }
  int32_t real() {
    const double kind = random_.uniform();
    if (kind < 0.2 || nodes_of(Type::kReal).empty()) return graph_.constant(real_literal());
    if (kind < 0.25) return graph_.scalar(kRealScalar, Type::kReal);
    return kind < 0.35 ? graph_.unary(Op::kToReal, integer()) : pick(Type::kReal);
  }
  int32_t boolean() {
    if (chance(0.05)) return graph_.constant(chance(0.5));
    if (nodes_of(Type::kBool).empty()) grow_comparison();
    return pick(Type::kBool);
  }

  void grow() {
    const double kind = random_.uniform();
    if (options_.is_score && kind < 0.5)
      grow_real();
    else if (kind < 0.6)
      grow_integer();
    else if (kind < 0.8)
      grow_comparison();
    else
      grow_bool();
  }

  void grow_integer() {
    static constexpr Op kOps[] = {Op::kAdd, Op::kSub, Op::kMul, Op::kMin, Op::kMax};
    switch (between(0, 9)) {
      case 0: {
        const Op op = chance(0.5) ? Op::kNeg : Op::kAbs;
        keep_unary(op, integer());
      } break;
      case 1:
      case 2: {
        const Op op = chance(0.5) ? Op::kFloorDiv : Op::kMod;
        keep_binary(op, {integer(), divisor()});
      } break;
      case 3:
        keep_where({boolean(), integer(), integer()});
        break;
      case 4:
      case 5:
        keep(lookup(kTables[between(0, 4)]));
        break;
      default: {
        const Op op = kOps[between(0, std::ssize(kOps) - 1)];
        const int32_t a = integer();
        keep_binary(op, {a, chance(0.1) ? a : integer()});
      }
    }
  }
  int32_t divisor() {
    if (!options_.is_bindable && chance(0.3)) return integer();
    int64_t value = chance(0.7) ? between(1, 40) : int_literal();
    if (value == 0) value = -3;
    return graph_.constant(value);
  }

  void grow_real() {
    static constexpr Op kBinary[] = {Op::kAdd, Op::kSub, Op::kMul, Op::kDiv, Op::kMin, Op::kMax};
    static constexpr Op kUnary[] = {Op::kExp, Op::kLog, Op::kTanh, Op::kSqrt, Op::kAbs, Op::kNeg};
    switch (between(0, 9)) {
      case 0:
      case 1: {
        const Op op = kUnary[between(0, std::ssize(kUnary) - 1)];
        keep_unary(op, real());
      } break;
      case 2:
        keep_where({boolean(), real(), real()});
        break;
      case 3:
      case 4:
        keep(lookup(kTables[between(5, 6)]));
        break;
      default: {
        const Op op = kBinary[between(0, std::ssize(kBinary) - 1)];
        const int32_t a = real();
        keep_binary(op, {a, chance(0.1) ? a : real()});
      }
    }
  }

  void grow_comparison() {
    static constexpr Op kOps[] = {Op::kLess, Op::kLessEqual, Op::kEqual, Op::kNotEqual};
    const Op op = kOps[between(0, 3)];
    if (options_.is_score && chance(0.3)) {
      keep_binary(op, {real(), real()});
    } else {
      const int32_t a = integer();
      keep_binary(op, {a, chance(0.05) ? a : integer()});
    }
  }
  void grow_bool() {
    const int32_t a = boolean();
    switch (between(0, 5)) {
      case 0:
        keep_unary(Op::kNot, a);
        break;
      case 1:
        keep_where({a, boolean(), boolean()});
        break;
      default: {
        const Op op = chance(0.5) ? Op::kAnd : Op::kOr;
        keep_binary(op, {a, boolean()});
      }
    }
  }

  int32_t lookup(const Table& table) {
    int32_t index[expr::kMaxOperands];
    for (int i = 0; i < table.rank; ++i) {
      index[i] = integer();
      if (!options_.is_bindable) continue;
      const int32_t last = graph_.constant(table.shape[i] - 1);
      index[i] = graph_.binary(Op::kMin, index[i], last);
      index[i] = graph_.binary(Op::kMax, index[i], graph_.constant(int64_t{0}));
    }
    return graph_.lookup(table.name, table.type, index, table.rank);
  }

  void give_values(RandomExpression& result) {
    expr::Values& values = result.values;
    values.query_length = between(1, 99), values.kv_length = between(1, 99);
    if (chance(0.5)) values.query_offset = between(0, 49), values.key_offset = between(0, 49);
    for (const expr::Symbol& symbol : graph_.symbols()) {
      expr::Values::Entry entry;
      if (symbol.rank == 0) {
        entry.integer = chance(0.3) ? int_literal() : between(-5, 60);
        entry.real = 2 * random_.normal();
      }
      for (const Table& table : kTables) {
        if (symbol.name == table.name) fill(table, entry, result.memory);
      }
      values.symbols.push_back(entry);
    }
  }
  void fill(const Table& table, expr::Values::Entry& entry,
            std::vector<std::vector<double>>& memory) {
    int64_t size = 1;
    for (int i = 0; i < table.rank; ++i) size *= table.shape[i];
    if (table.type == Type::kReal) {
      std::vector<double>& data = memory.emplace_back();
      for (int64_t i = 0; i < size; ++i) data.push_back(random_.normal());
      const int64_t rows = table.rank == 2 ? table.shape[0] : 1;
      entry.real_table =
          Tensor::bhsd(data.data(), DType::kFloat64, 1, 1, rows, table.shape[table.rank - 1]);
      return;
    }
    auto integers = std::make_shared<expr::IntTable>();
    integers->shape.assign(table.shape, table.shape + table.rank);
    const bool is_sorted = chance(0.4);  // documents are
    const int64_t most = chance(0.1) ? std::numeric_limits<int32_t>::max() : between(1, 60);
    int64_t value = 0;
    for (int64_t i = 0; i < size; ++i) {
      value = is_sorted ? value + chance(0.1) : between(-(most / 2), most);
      integers->data.push_back(static_cast<int32_t>(value));
    }
    entry.table = std::move(integers);
  }

  RandomExpressionOptions options_;
  Random random_;
  Graph graph_;
  std::vector<int32_t> nodes_[3];  // by type
};

}  // namespace

std::vector<int64_t> table_shape(const std::string& name) {
  for (const Table& table : kTables) {
    if (name == table.name) return {table.shape, table.shape + table.rank};
  }
  return {};
}

RandomExpression random_expression(uint64_t seed, uint64_t index,
                                   const RandomExpressionOptions& options) {
  return Builder(seed, index, options).build();
}

expr::Point random_point(const expr::Values& values, Random& random) {
  expr::Point point;
  point.batch = random.between(0, 3);
  point.head = random.between(0, 3);
  point.query = values.query_offset + random.between(0, values.query_length - 1);
  point.key = values.key_offset + random.between(0, values.kv_length - 1);
  point.score = 3 * random.normal();
  return point;
}

}  // namespace tilewise::verify
