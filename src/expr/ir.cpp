// SPDX-License-Identifier: Apache-2.0
#include "expr/ir.h"

#include <cmath>
#include <limits>
#include <utility>

#include "base/message.h"
#include "tilewise/error.h"

namespace tilewise::expr {
namespace {

constexpr uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15u;
  return hash ^ (hash >> 29);
}

uint64_t mix_text(uint64_t hash, const std::string& text) {
  hash = mix(hash, text.size());
  for (const char c : text) hash = mix(hash, static_cast<unsigned char>(c));
  return hash;
}

uint64_t slot_hash(const Node& node) {
  uint64_t hash = mix(static_cast<uint64_t>(node.op) << 8 | static_cast<uint64_t>(node.type),
                      static_cast<uint64_t>(node.immediate));
  for (const int32_t operand : node.operand) hash = mix(hash, static_cast<uint32_t>(operand));
  return hash;
}

[[noreturn]] void wrong_types(Op op) {
  throw InternalError("expression: operator " + std::to_string(static_cast<int>(op)) +
                      " does not take these types; please report this");
}

}  // namespace

const char* name_of(Variable variable) {
  static constexpr const char* kNames[kVariables] = {
      "b", "h", "q", "k", "query_length", "kv_length", "query_offset", "key_offset", "s"};
  return kNames[static_cast<int>(variable)];
}

std::string describe(const Symbol& symbol) {
  const std::string type = symbol.type == Type::kReal ? "real" : "integer";
  if (symbol.rank == 0) return "a named " + type + " number";
  return "a table of " + type + " numbers with " + std::to_string(symbol.rank) +
         (symbol.rank == 1 ? " index" : " indices");
}

int32_t Graph::add(const Node& node) {
  if (slots_.empty()) slots_.assign(64, -1);
  const auto find = [this](const Node& wanted) {
    size_t at = slot_hash(wanted) & (slots_.size() - 1);
    while (slots_[at] >= 0 && nodes_[static_cast<size_t>(slots_[at])] != wanted)
      at = (at + 1) & (slots_.size() - 1);
    return at;
  };
  const size_t at = find(node);
  if (slots_[at] >= 0) return slots_[at];
  if (nodes_.size() >= static_cast<size_t>(kMaxNodes)) {
    throw InvalidArgument(message("expression", "size", "more than " + std::to_string(kMaxNodes),
                                  "at most " + std::to_string(kMaxNodes) + " different parts",
                                  "put what it enumerates into a table"));
  }
  const auto index = static_cast<int32_t>(nodes_.size());
  nodes_.push_back(node);
  slots_[at] = index;
  if (nodes_.size() * 2 > slots_.size()) {
    slots_.assign(slots_.size() * 2, -1);
    for (size_t i = 0; i < nodes_.size(); ++i) slots_[find(nodes_[i])] = static_cast<int32_t>(i);
  }
  return index;
}

int32_t Graph::symbol(const Symbol& symbol) {
  for (size_t i = 0; i < symbols_.size(); ++i) {
    if (symbols_[i].name != symbol.name) continue;
    if (symbols_[i] == symbol) return static_cast<int32_t>(i);
    throw InvalidArgument(message("expression", symbol.name, describe(symbol),
                                  describe(symbols_[i]) + ", as elsewhere in the expression",
                                  "one name has one meaning"));
  }
  if (symbols_.size() >= kMaxSymbols) {
    throw InvalidArgument(message("expression", "names", "more than " + std::to_string(kMaxSymbols),
                                  "at most " + std::to_string(kMaxSymbols)));
  }
  symbols_.push_back(symbol);
  return static_cast<int32_t>(symbols_.size() - 1);
}

int32_t Graph::constant(bool value) {
  return add({.op = Op::kConst, .type = Type::kBool, .immediate = value ? 1 : 0});
}
int32_t Graph::constant(int64_t value) {
  return add({.op = Op::kConst, .type = Type::kInt, .immediate = value});
}
int32_t Graph::constant(double value) {
  if (std::isnan(value)) value = std::numeric_limits<double>::quiet_NaN();
  return add({.op = Op::kConst, .type = Type::kReal, .immediate = std::bit_cast<int64_t>(value)});
}
int32_t Graph::variable(Variable variable) {
  return add({.op = Op::kVariable,
              .type = variable == Variable::kScore ? Type::kReal : Type::kInt,
              .immediate = static_cast<int64_t>(variable)});
}
int32_t Graph::scalar(const std::string& name, Type type) {
  return add({.op = Op::kScalar, .type = type, .immediate = symbol({name, type, 0})});
}

int32_t Graph::unary(Op op, int32_t a) {
  const Type type = node(a).type;
  Type result = type;
  switch (op) {
    case Op::kAbs:
    case Op::kNeg:
      if (type == Type::kBool) wrong_types(op);
      break;
    case Op::kNot:
      if (type != Type::kBool) wrong_types(op);
      break;
    case Op::kToReal:
      if (type != Type::kInt) wrong_types(op);
      result = Type::kReal;
      break;
    case Op::kExp:
    case Op::kLog:
    case Op::kTanh:
    case Op::kSqrt:
      if (type != Type::kReal) wrong_types(op);
      break;
    default:
      wrong_types(op);
  }
  return add({.op = op, .type = result, .count = 1, .operand = {a, -1, -1, -1}});
}

int32_t Graph::binary(Op op, int32_t a, int32_t b) {
  const Type type = node(a).type;
  if (node(b).type != type) wrong_types(op);
  Type result = type;
  switch (op) {
    case Op::kAdd:
    case Op::kSub:
    case Op::kMul:
    case Op::kMin:
    case Op::kMax:
      if (type == Type::kBool) wrong_types(op);
      break;
    case Op::kFloorDiv:
    case Op::kMod:
      if (type != Type::kInt) wrong_types(op);
      break;
    case Op::kDiv:
      if (type != Type::kReal) wrong_types(op);
      break;
    case Op::kLess:
    case Op::kLessEqual:
    case Op::kEqual:
    case Op::kNotEqual:
      if (type == Type::kBool) wrong_types(op);
      result = Type::kBool;
      break;
    case Op::kAnd:
    case Op::kOr:
      if (type != Type::kBool) wrong_types(op);
      break;
    default:
      wrong_types(op);
  }
  return add({.op = op, .type = result, .count = 2, .operand = {a, b, -1, -1}});
}

int32_t Graph::where(int32_t condition, int32_t a, int32_t b) {
  if (node(condition).type != Type::kBool || node(a).type != node(b).type) wrong_types(Op::kWhere);
  return add(
      {.op = Op::kWhere, .type = node(a).type, .count = 3, .operand = {condition, a, b, -1}});
}

int32_t Graph::promoted(int32_t a) {
  const Node& value = node(a);
  if (value.type == Type::kReal) return a;
  if (value.type == Type::kInt && value.is_const())
    return constant(static_cast<double>(value.immediate));
  return unary(Op::kToReal, a);
}

int32_t Graph::truth(int32_t a) {
  const Type type = node(a).type;
  if (type == Type::kBool) return a;
  return binary(Op::kNotEqual, a, type == Type::kReal ? constant(0.0) : constant(int64_t{0}));
}

int32_t Graph::lookup(const std::string& table, Type type, const int32_t* index, int count) {
  if (count < 1 || count > kMaxOperands || type == Type::kBool) wrong_types(Op::kLookup);
  Node look{.op = Op::kLookup, .type = type, .count = static_cast<uint8_t>(count)};
  for (int i = 0; i < count; ++i) {
    if (node(index[i]).type != Type::kInt) wrong_types(Op::kLookup);
    look.operand[i] = index[i];
  }
  look.immediate = symbol({table, type, count});
  return add(look);
}

std::vector<bool> reachable(const Graph& graph, int32_t root) {
  std::vector<bool> reached(graph.nodes().size(), false);
  reached[static_cast<size_t>(root)] = true;
  for (int32_t i = root; i >= 0; --i) {
    if (!reached[static_cast<size_t>(i)]) continue;
    const Node& node = graph.node(i);
    for (int j = 0; j < node.count; ++j) reached[static_cast<size_t>(node.operand[j])] = true;
  }
  return reached;
}

bool depends_on(const Expression& expression, Variable variable) {
  const std::vector<bool> reached = reachable(*expression.graph, expression.root);
  for (size_t i = 0; i < reached.size(); ++i) {
    if (reached[i] && expression.graph->nodes()[i].is(variable)) return true;
  }
  return false;
}

uint64_t hash_of(const Graph& graph, int32_t root) {
  std::vector<uint64_t> hash(static_cast<size_t>(root) + 1);
  for (int32_t i = 0; i <= root; ++i) {
    const Node& node = graph.node(i);
    uint64_t h =
        mix(static_cast<uint64_t>(node.op) << 8 | static_cast<uint64_t>(node.type), node.count);
    if (node.op == Op::kScalar || node.op == Op::kLookup)
      h = mix_text(h, graph.symbol_of(node).name);
    else
      h = mix(h, static_cast<uint64_t>(node.immediate));
    for (int j = 0; j < node.count; ++j) h = mix(h, hash[static_cast<size_t>(node.operand[j])]);
    hash[static_cast<size_t>(i)] = h;
  }
  return hash[static_cast<size_t>(root)];
}

}  // namespace tilewise::expr
