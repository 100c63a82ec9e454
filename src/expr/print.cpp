// SPDX-License-Identifier: Apache-2.0
#include "expr/print.h"

#include <charconv>
#include <cmath>

#include "base/message.h"
#include "expr/parse.h"
#include "tilewise/error.h"

namespace tilewise::expr {
namespace {

// Python's levels of precedence, loosest first, as far as they are printed.
enum Level {
  kAny,
  kOrs,
  kAnds,
  kNots,
  kComparisons,
  kSums,
  kProducts,
  kSigns,
  kPrimaries,
  kNever  // no node: always in parentheses
};

struct Infix {
  Level level;
  const char* text;
};
// Level kAny: not written between its operands.
Infix infix_of(Op op) {
  switch (op) {
    case Op::kOr:
      return {kOrs, " or "};
    case Op::kAnd:
      return {kAnds, " and "};
    case Op::kLess:
      return {kComparisons, " < "};
    case Op::kLessEqual:
      return {kComparisons, " <= "};
    case Op::kEqual:
      return {kComparisons, " == "};
    case Op::kNotEqual:
      return {kComparisons, " != "};
    case Op::kAdd:
      return {kSums, " + "};
    case Op::kSub:
      return {kSums, " - "};
    case Op::kMul:
      return {kProducts, " * "};
    case Op::kDiv:
      return {kProducts, " / "};
    case Op::kFloorDiv:
      return {kProducts, " // "};
    case Op::kMod:
      return {kProducts, " % "};
    default:
      return {kAny, nullptr};
  }
}

const char* function_of(Op op) {
  switch (op) {
    case Op::kMin:
      return "min(";
    case Op::kMax:
      return "max(";
    case Op::kAbs:
      return "abs(";
    case Op::kExp:
      return "exp(";
    case Op::kLog:
      return "log(";
    case Op::kTanh:
      return "tanh(";
    case Op::kSqrt:
      return "sqrt(";
    case Op::kToReal:
      return "float(";
    default:
      return "where(";
  }
}

std::string text_of_real(double value) {
  if (std::isnan(value)) return "nan";
  char buffer[32];
  std::string text(buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";  // 5 would be an integer
  return text;
}

std::string text_of_constant(const Node& node) {
  switch (node.type) {
    case Type::kBool:
      return node.immediate != 0 ? "True" : "False";
    case Type::kInt:
      return std::to_string(node.immediate);
    case Type::kReal:
      return text_of_real(node.real());
  }
  return {};
}

// What is left to write: a node or a text. A stack of these instead of recursion, because a graph
// may be as deep as it is large.
struct Piece {
  int32_t node = -1;
  const char* text = nullptr;
  Level least = kAny;     // a node of a looser level is put in parentheses
  int depth = 0;          // levels of the parser
  bool promotes = false;  // the parser makes a real of an int at this place
  bool integers = false;  // the parser takes names for integers at this place
};

class Printer {
 public:
  explicit Printer(const Graph& graph) : graph_(graph) {}

  std::string print(int32_t root) {
    // The root of a score is promoted; in a mask, or a part of one, every name is an integer.
    const bool is_score = graph_.node(root).type == Type::kReal;
    stack_.push_back({.node = root, .depth = 1, .promotes = is_score, .integers = !is_score});
    while (!stack_.empty()) {
      const Piece piece = stack_.back();
      stack_.pop_back();
      if (piece.node >= 0)
        write(piece);
      else
        text_ += piece.text;
      if (text_.size() > kMaxTextBytes || piece.depth > kMaxDepth) too_large();
    }
    return std::move(text_);
  }

 private:
  [[noreturn]] static void too_large() {
    throw InvalidArgument(message("expression", "text",
                                  "longer than " + std::to_string(kMaxTextBytes) +
                                      " bytes or deeper than " + std::to_string(kMaxDepth) +
                                      " levels",
                                  "a shorter one", "put what it enumerates into a table"));
  }

  // An int made real; its conversion need not be written where the parser adds it. (It would make a
  // real literal of a literal.)
  [[nodiscard]] bool is_promotable(int32_t index) const {
    const Node& node = graph_.node(index);
    return node.op == Op::kToReal && !graph_.node(node.operand[0]).is_const();
  }

  void push(const Piece& piece) { stack_.push_back(piece); }
  void push(const char* text) { stack_.push_back({.text = text}); }
  // Operand i of the node of a piece, so many levels deeper.
  void push_operand(const Piece& parent, int i, Level least, int deeper) {
    const Node& node = graph_.node(parent.node);
    push({.node = node.operand[i],
          .least = least,
          .depth = parent.depth + deeper,
          .promotes = promotes(node, i),
          .integers = node.op == Op::kLookup || (parent.integers && node.op != Op::kToReal)});
  }
  void push_operands(const Piece& parent, const char* close) {
    push(close);
    for (int i = graph_.node(parent.node).count - 1; i >= 0; --i) {
      push_operand(parent, i, kAny, 1);
      if (i > 0) push(", ");
    }
  }
  // The same node inside of parentheses or a call.
  void push_inside(Piece piece, const char* open) {
    piece.least = kAny;
    ++piece.depth;
    push(")");
    push(piece);
    push(open);
  }

  // Pieces are pushed last first.
  void write(const Piece& piece) {
    const Node& node = graph_.node(piece.node);
    if (node.op == Op::kToReal && piece.promotes && is_promotable(piece.node)) {
      Piece operand = piece;
      operand.node = node.operand[0];
      operand.promotes = false;
      return push(operand);
    }
    if (level_of(node) < piece.least) return push_inside(piece, "(");
    const bool has_name = node.op == Op::kScalar || node.op == Op::kLookup;
    if (has_name && (node.type == Type::kInt) != piece.integers) {
      Piece inside = piece;
      inside.integers = !piece.integers;
      return push_inside(inside, inside.integers ? "int(" : "float(");
    }
    switch (node.op) {
      case Op::kConst:
        text_ += text_of_constant(node);
        return;
      case Op::kVariable:
        text_ += name_of(static_cast<Variable>(node.immediate));
        return;
      case Op::kScalar:
        text_ += graph_.symbol_of(node).name;
        return;
      case Op::kLookup:
        text_ += graph_.symbol_of(node).name;
        text_ += '[';
        return push_operands(piece, "]");
      case Op::kNot:
        text_ += "not ";
        return push_operand(piece, 0, kNots, 1);
      case Op::kNeg:
        text_ += '-';
        return push_operand(piece, 0, is_unsigned_literal(node.operand[0]) ? kNever : kSigns, 1);
      default:
        break;
    }
    const Infix infix = infix_of(node.op);
    if (infix.level == kAny) {
      text_ += function_of(node.op);
      return push_operands(piece, ")");
    }
    const auto next = static_cast<Level>(infix.level + 1);
    const bool associates = infix.level != kComparisons;
    push_operand(piece, 1, next, 0);
    push(infix.text);
    push_operand(piece, 0, associates ? infix.level : next, 0);
  }

  // Whether an int written as operand i is promoted: by its function, or by the other operand, if
  // that one is written as a real.
  [[nodiscard]] bool promotes(const Node& node, int i) const {
    switch (node.op) {
      case Op::kDiv:
      case Op::kExp:
      case Op::kLog:
      case Op::kTanh:
      case Op::kSqrt:
        return true;
      case Op::kNot:
      case Op::kNeg:
      case Op::kAbs:
      case Op::kToReal:
      case Op::kLookup:
        return false;
      default:
        break;
    }
    // Of two promotable operands the first is converted in writing and promotes the second.
    const int first = node.op == Op::kWhere ? 1 : 0;
    if (i == first) return !is_promotable(node.operand[first + 1]);
    return i == first + 1;
  }

  // -5 is a literal, -(5) the negation of one.
  [[nodiscard]] bool is_unsigned_literal(int32_t index) const {
    const Node& node = graph_.node(index);
    return node.is_const() && level_of(node) == kPrimaries;
  }
  [[nodiscard]] static Level level_of(const Node& node) {
    switch (node.op) {
      case Op::kConst: {
        const bool is_negative =
            node.type == Type::kReal ? std::signbit(node.real()) : node.immediate < 0;
        return is_negative ? kSigns : kPrimaries;
      }
      case Op::kNot:
        return kNots;
      case Op::kNeg:
        return kSigns;
      default:
        break;
    }
    const Level level = infix_of(node.op).level;
    return level == kAny ? kPrimaries : level;
  }

  const Graph& graph_;
  std::string text_;
  std::vector<Piece> stack_;
};

}  // namespace

std::string print(const Expression& expression) {
  return Printer(*expression.graph).print(expression.root);
}

}  // namespace tilewise::expr
