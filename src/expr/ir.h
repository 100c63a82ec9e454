// SPDX-License-Identifier: Apache-2.0
// The expressions of masks and scores: an immutable, hash-consed graph. Passes read one graph and
// make another; nobody changes a node.
//
// Meaning of the operators, for every evaluator:
//   int    64 bits, wraps. FloorDiv and Mod floor as Python's // and % do; x // 0 = x % 0 = 0 (a
//          divisor that may be 0 is refused when data is bound, so this is never observed).
//   real   the arithmetic of the evaluator (double in the oracle, Real in a kernel).
//   bool   true or false; And, Or evaluate both sides.
//   Lookup an index is clamped into its axis (one that may leave it is refused when data is bound).
#pragma once

#include <bit>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace tilewise::expr {

enum class Type : uint8_t { kBool, kInt, kReal };

enum class Op : uint8_t {
  // Leaves.
  kConst,     // immediate: 0 or 1, the number, or the bits of the double
  kVariable,  // immediate: Variable
  kScalar,    // immediate: index of a symbol; int or real
  // Int or real; all operands and the result are of one type.
  kAdd,
  kSub,
  kMul,
  kMin,
  kMax,
  kAbs,
  kNeg,
  // Int.
  kFloorDiv,
  kMod,
  // Real.
  kDiv,
  kExp,
  kLog,
  kTanh,
  kSqrt,
  kToReal,  // of an int
  // Bool, from two ints or two reals. > and >= are these with operands swapped.
  kLess,
  kLessEqual,
  kEqual,
  kNotEqual,
  // Bool.
  kAnd,
  kOr,
  kNot,
  // Any type: operand 0 is the condition, 1 and 2 the values.
  kWhere,
  // immediate: index of a symbol, a table; operands are ints, one per axis; int or real.
  kLookup,
};

// What an expression is a function of. Positions are global: a local index plus the offset of the
// step. Lengths are those of the sequence.
enum class Variable : uint8_t {
  kBatch,
  kHead,
  kQuery,
  kKey,
  kQueryLength,
  kKvLength,
  kQueryOffset,
  kKeyOffset,
  kScore,  // s, real: the scaled product of query and key; in scores only
};
inline constexpr int kVariables = 9;
// "b", "h", "q", "k", "query_length", "kv_length", "query_offset", "key_offset", "s".
[[nodiscard]] const char* name_of(Variable variable);

// A name that gets its value from data: a scalar (rank 0) or a table of 1 to 4 axes.
struct Symbol {
  std::string name;
  Type type = Type::kInt;  // kInt or kReal
  int rank = 0;
  bool operator==(const Symbol&) const = default;
};

// "a named integer number", "a table of real numbers with 2 indices".
[[nodiscard]] std::string describe(const Symbol& symbol);

inline constexpr int kMaxOperands = 4;

struct Node {
  Op op;
  Type type;
  uint8_t count = 0;                                 // operands
  int32_t operand[kMaxOperands] = {-1, -1, -1, -1};  // nodes before this one
  int64_t immediate = 0;
  bool operator==(const Node&) const = default;

  [[nodiscard]] double real() const noexcept { return std::bit_cast<double>(immediate); }
  [[nodiscard]] bool is_const() const noexcept { return op == Op::kConst; }
  [[nodiscard]] bool is(Variable variable) const noexcept {
    return op == Op::kVariable && immediate == static_cast<int64_t>(variable);
  }
};

// Nodes in an order in which operands come first; equal nodes are one. While it is built a graph
// belongs to one thread.
class Graph {
 public:
  // The index of a node equal to this one. Adds nothing clever: see simplify.h. Throws
  // InvalidArgument beyond kMaxNodes.
  int32_t add(const Node& node);
  // The index of the symbol. Throws InvalidArgument if the name stands for something else already.
  int32_t symbol(const Symbol& symbol);

  int32_t constant(bool value);
  int32_t constant(int64_t value);
  int32_t constant(double value);  // every NaN is one
  int32_t variable(Variable variable);
  int32_t scalar(const std::string& name, Type type);
  // Operands of one type, which decides the type of the result where the operator allows several.
  // Throws InternalError for types that the operator does not take.
  int32_t unary(Op op, int32_t a);
  int32_t binary(Op op, int32_t a, int32_t b);
  int32_t where(int32_t condition, int32_t a, int32_t b);
  // An int where a real is wanted: a literal becomes the real literal.
  int32_t promoted(int32_t a);
  // A number where a bool is wanted: true if it is not 0.
  int32_t truth(int32_t a);
  int32_t lookup(const std::string& table, Type type, const int32_t* index, int count);

  [[nodiscard]] const std::vector<Node>& nodes() const noexcept { return nodes_; }
  [[nodiscard]] const Node& node(int32_t index) const { return nodes_[static_cast<size_t>(index)]; }
  [[nodiscard]] const std::vector<Symbol>& symbols() const noexcept { return symbols_; }
  [[nodiscard]] const Symbol& symbol_of(const Node& node) const {
    return symbols_[static_cast<size_t>(node.immediate)];
  }

  // Budgets: an expression of a stranger may not cost more than this.
  static constexpr int32_t kMaxNodes = 1 << 14;
  static constexpr size_t kMaxSymbols = 256;

 private:
  std::vector<Node> nodes_;
  std::vector<int32_t> slots_;  // open addressing; -1: free
  std::vector<Symbol> symbols_;
};

// A graph and the node that is its value. `name`: what people call it ("causal"), or empty.
struct Expression {
  std::shared_ptr<const Graph> graph;
  int32_t root = -1;
  std::string name = {};
  [[nodiscard]] const Node& node() const { return graph->node(root); }
  [[nodiscard]] Type type() const { return node().type; }
};

// Which nodes the root depends on, one flag per node.
[[nodiscard]] std::vector<bool> reachable(const Graph& graph, int32_t root);
// Whether the root depends on the variable.
[[nodiscard]] bool depends_on(const Expression& expression, Variable variable);
// Of the structure alone: equal in every process and for every order in which the graph was built;
// different names of symbols differ.
[[nodiscard]] uint64_t hash_of(const Graph& graph, int32_t root);

}  // namespace tilewise::expr
