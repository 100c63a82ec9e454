// SPDX-License-Identifier: Apache-2.0
// One function per level of Python's grammar, loosest first; each returns a node.
#include "expr/parse.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "base/message.h"
#include "expr/tokens.h"
#include "tilewise/error.h"

namespace tilewise::expr {
namespace {

constexpr const char* kNoReals = "a mask has integers only";

struct Value {
  int32_t node = -1;
  size_t at = 0;  // where its text begins
  // A bool made of numbers by `and`, `or` or a branch of `if`, where Python keeps the number. It is
  // a condition like any other, but may not be compared or negated bitwise.
  bool is_truth = false;
};

class Parser {
 public:
  Parser(const Source& source, bool is_score, const std::vector<Symbol>& declared)
      : source_(source), is_score_(is_score), declared_(declared) {
    advance();
  }

  Expression parse() {
    Value value = conditional();
    if (token_.kind != TokenKind::kEnd) unexpected("an operator or the end of the text");
    value = is_score_ ? as_real(value) : as_bool(value);
    return {std::make_shared<const Graph>(std::move(graph_)), value.node};
  }

 private:
  // Recursion is bounded by one of these in every cycle of the grammar.
  class Level {
   public:
    explicit Level(Parser& parser) : parser_(parser) {
      if (++parser_.depth_ > kMaxDepth) {
        parser_.source_.reject(parser_.token_.at, "nested too deeply",
                               "at most " + std::to_string(kMaxDepth) + " levels",
                               "put what it enumerates into a table");
      }
    }
    ~Level() { --parser_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Parser& parser_;
  };

  void advance() { token_ = next_token(source_, token_.at + token_.text.size()); }
  bool accept(std::string_view word) {
    if (!token_.is(word)) return false;
    advance();
    return true;
  }
  void require(std::string_view word, const std::string& expected) {
    if (!accept(word)) unexpected(expected);
  }
  [[noreturn]] void unexpected(const std::string& expected, const std::string& hint = "") const {
    source_.reject(token_.at, quoted(token_), expected, hint);
  }

  // Types.
  [[nodiscard]] Type type(const Value& value) const { return graph_.node(value.node).type; }
  [[noreturn]] void wrong_type(const Value& value, const char* expected, const char* hint) const {
    const Type got = type(value);
    source_.reject(value.at,
                   value.is_truth       ? "the truth of a number"
                   : got == Type::kBool ? "a bool"
                   : got == Type::kInt  ? "an integer"
                                        : "a real number",
                   expected, hint);
  }
  Value as_bool(const Value& value) {
    if (type(value) == Type::kBool) return value;
    return {graph_.truth(value.node), value.at, true};
  }
  Value as_number(const Value& value) const {
    if (type(value) == Type::kBool)
      wrong_type(value, "a number", "where(condition, 1, 0) makes a number of a bool");
    return value;
  }
  Value as_int(const Value& value) const {
    if (type(as_number(value)) != Type::kInt)
      wrong_type(value, "an integer", "divide integers with //");
    return value;
  }
  Value as_real(const Value& value) { return {graph_.promoted(as_number(value).node), value.at}; }
  // Operand of an operator that is bitwise on Python's integers.
  Value as_pure_bool(const Value& value) const {
    if (type(value) != Type::kBool || value.is_truth)
      wrong_type(value, "a bool", "there are no bitwise operators: write and, or, not");
    return value;
  }
  // Two numbers of one type.
  void unify(Value& a, Value& b) {
    if (type(as_number(a)) == type(as_number(b))) return;
    a = as_real(a);
    b = as_real(b);
  }
  Value binary(Op op, const Value& a, const Value& b) {
    return {graph_.binary(op, a.node, b.node), a.at};
  }
  void require_score(size_t at, const std::string& got, const char* expected, const char* hint) {
    if (!is_score_) source_.reject(at, got, expected, hint);
  }

  // The grammar.
  Value conditional() {
    const Level level(*this);
    const Value a = disjunction();
    if (!accept("if")) return a;
    const Value condition = disjunction();
    require("else", "'else'");
    return choose(condition, a, conditional());
  }

  Value choose(const Value& condition, Value a, Value b) {
    const size_t at = std::min(condition.at, a.at);
    bool is_truth = false;
    if (type(a) == Type::kBool || type(b) == Type::kBool) {
      a = as_bool(a);
      b = as_bool(b);
      is_truth = a.is_truth || b.is_truth;
    } else {
      unify(a, b);
    }
    return {graph_.where(as_bool(condition).node, a.node, b.node), at, is_truth};
  }

  Value disjunction() {
    Value value = conjunction();
    while (accept("or")) value = connect(Op::kOr, value, conjunction());
    return value;
  }
  Value conjunction() {
    Value value = inversion();
    while (accept("and")) value = connect(Op::kAnd, value, inversion());
    return value;
  }
  Value connect(Op op, const Value& left, const Value& right) {
    const Value a = as_bool(left), b = as_bool(right);
    Value value = binary(op, a, b);
    value.is_truth = a.is_truth || b.is_truth;
    return value;
  }
  Value inversion() {
    const size_t at = token_.at;
    if (!accept("not")) return comparison();
    const Level level(*this);
    return {graph_.unary(Op::kNot, as_bool(inversion()).node), at};
  }

  Value comparison() {
    Value left = bit_or();
    Value all{-1, left.at};
    for (;;) {
      const Token op = token_;
      if (!op.is("<") && !op.is("<=") && !op.is(">") && !op.is(">=") && !op.is("==") &&
          !op.is("!="))
        return all.node < 0 ? left : all;
      advance();
      const Value right = bit_or();
      const Value one = compare(op, left, right);
      all = {all.node < 0 ? one.node : graph_.binary(Op::kAnd, all.node, one.node), all.at};
      left = right;
    }
  }
  Value compare(const Token& op, Value a, Value b) {
    const bool is_equality = op.is("==") || op.is("!=");
    if (is_equality && type(a) == Type::kBool && type(b) == Type::kBool)
      return compare_bools(op.is("=="), a, b);
    unify(a, b);
    if (op.is("<")) return binary(Op::kLess, a, b);
    if (op.is("<=")) return binary(Op::kLessEqual, a, b);
    if (op.is(">")) return binary(Op::kLess, b, a);
    if (op.is(">=")) return binary(Op::kLessEqual, b, a);
    return binary(op.is("==") ? Op::kEqual : Op::kNotEqual, a, b);
  }
  Value compare_bools(bool is_equal, const Value& a, const Value& b) {
    for (const Value& value : {a, b}) {
      if (value.is_truth)
        wrong_type(value, "a bool", "Python compares the number itself here: write != 0");
    }
    const int32_t opposite = graph_.unary(Op::kNot, b.node);
    return {
        is_equal ? graph_.where(a.node, b.node, opposite) : graph_.where(a.node, opposite, b.node),
        a.at};
  }

  Value bit_or() {
    Value value = bit_and();
    while (accept("|")) {
      const Value a = as_pure_bool(value);
      value = binary(Op::kOr, a, as_pure_bool(bit_and()));
    }
    return value;
  }
  Value bit_and() {
    Value value = sum();
    while (accept("&")) {
      const Value a = as_pure_bool(value);
      value = binary(Op::kAnd, a, as_pure_bool(sum()));
    }
    return value;
  }

  Value sum() {
    Value value = product();
    for (;;) {
      const Token op = token_;
      if (!op.is("+") && !op.is("-")) return value;
      advance();
      Value right = product();
      unify(value, right);
      value = binary(op.is("+") ? Op::kAdd : Op::kSub, value, right);
    }
  }
  Value product() {
    Value value = factor();
    for (;;) {
      const Token op = token_;
      if (!op.is("*") && !op.is("/") && !op.is("//") && !op.is("%")) return value;
      if (op.is("/")) require_score(op.at, "'/'", "'//'", "/ gives a real number, a mask has none");
      advance();
      Value right = factor();
      if (op.is("*")) {
        unify(value, right);
        value = binary(Op::kMul, value, right);
      } else if (op.is("/")) {
        value = binary(Op::kDiv, as_real(value), as_real(right));
      } else {
        const Value a = as_int(value);
        value = binary(op.is("%") ? Op::kMod : Op::kFloorDiv, a, as_int(right));
      }
    }
  }

  Value factor() {
    const size_t at = token_.at;
    if (!token_.is("-") && !token_.is("+") && !token_.is("~")) return primary();
    const Token op = token_;
    advance();
    if (op.is("-") && is_literal()) return {literal(true), at};
    const Level level(*this);
    const Value operand = factor();
    if (op.is("~")) return {graph_.unary(Op::kNot, as_pure_bool(operand).node), at};
    const int32_t number = as_number(operand).node;
    return {op.is("-") ? graph_.unary(Op::kNeg, number) : number, at};
  }

  [[nodiscard]] bool is_literal() const {
    return token_.kind == TokenKind::kInteger || token_.kind == TokenKind::kReal ||
           token_.is("inf") || token_.is("nan");
  }
  // A number with the sign before it, so that -2^63 is one.
  int32_t literal(bool is_negative) {
    std::string text = is_negative ? "-" : "";
    text += token_.text;
    const char* const end = text.data() + text.size();
    if (token_.kind == TokenKind::kInteger) {
      int64_t value = 0;
      if (std::from_chars(text.data(), end, value).ec != std::errc())
        unexpected("an integer of 64 bits");
      advance();
      return graph_.constant(value);
    }
    require_score(token_.at, quoted(token_), "an integer", kNoReals);
    double value = 0;
    if (std::from_chars(text.data(), end, value).ec != std::errc())
      unexpected("a number that float64 can hold");
    advance();
    return graph_.constant(value);
  }

  Value primary() {
    const Token token = token_;
    if (is_literal()) return {literal(false), token.at};
    if (accept("(")) {
      Value value = conditional();
      require(")", "')'");
      value.at = token.at;
      return value;
    }
    if (token.kind != TokenKind::kName) unexpected("a value");
    if (token.is("True") || token.is("False")) {
      advance();
      return {graph_.constant(token.is("True")), token.at};
    }
    for (int i = 0; i < kVariables; ++i) {
      if (token.text == name_of(static_cast<Variable>(i))) return variable(token, i);
    }
    if (next_token(source_, token.at + token.text.size()).is("(")) return call(token);
    if (!is_name(token.text)) unexpected("a value");
    advance();
    return symbol(token);
  }

  Value variable(const Token& token, int index) {
    const auto which = static_cast<Variable>(index);
    if (which == Variable::kScore)
      require_score(token.at, "'s'", "an integer", "only a score may use the product s");
    advance();
    return {graph_.variable(which), token.at};
  }

  // "(" or "[" is the current token; `close` ends the list.
  std::vector<Value> list(std::string_view close) {
    advance();
    std::vector<Value> values;
    do values.push_back(conditional());
    while (accept(","));
    require(close, close == ")" ? "',' or ')'" : "',' or ']'");
    return values;
  }

  Value call(const Token& name) {
    struct Function {
      std::string_view name;
      size_t least, most;
      Op op;
    };
    static constexpr size_t kAny = std::numeric_limits<size_t>::max();
    static constexpr Function kFunctions[] = {
        {"min", 2, kAny, Op::kMin},  {"max", 2, kAny, Op::kMax}, {"abs", 1, 1, Op::kAbs},
        {"where", 3, 3, Op::kWhere}, {"exp", 1, 1, Op::kExp},    {"log", 1, 1, Op::kLog},
        {"tanh", 1, 1, Op::kTanh},   {"sqrt", 1, 1, Op::kSqrt},  {"float", 1, 1, Op::kToReal}};
    const auto* function = std::find_if(std::begin(kFunctions), std::end(kFunctions),
                                        [&](const Function& f) { return name.text == f.name; });
    if (function == std::end(kFunctions)) {
      unexpected("a function of the language",
                 "min, max, abs, where, float, exp, log, tanh and sqrt; a table is written "
                 "name[index]");
    }
    const bool gives_real = function->op >= Op::kExp && function->op <= Op::kToReal;
    if (gives_real) require_score(name.at, quoted(name), "an integer", kNoReals);
    advance();
    const std::vector<Value> values = list(")");
    if (values.size() < function->least || values.size() > function->most) {
      const std::string least = std::to_string(function->least);
      source_.reject(name.at, quoted(name) + " of " + std::to_string(values.size()),
                     function->most == kAny ? "at least " + least + " arguments"
                     : function->least == 1 ? "1 argument"
                                            : least + " arguments");
    }
    Value result = apply(function->op, values);
    result.at = name.at;
    return result;
  }
  Value apply(Op op, const std::vector<Value>& values) {
    Value first = values[0];
    switch (op) {
      case Op::kWhere:
        return choose(values[0], values[1], values[2]);
      case Op::kMin:
      case Op::kMax:
        for (size_t i = 1; i < values.size(); ++i) {
          Value next = values[i];
          unify(first, next);
          first = binary(op, first, next);
        }
        return first;
      case Op::kAbs:
        return {graph_.unary(op, as_number(first).node)};
      case Op::kToReal:  // float(2) stays what it is written as
        return {type(as_number(first)) == Type::kReal ? first.node : graph_.unary(op, first.node)};
      default:
        return {graph_.unary(op, as_real(first).node)};
    }
  }

  Value symbol(const Token& name) {
    Symbol symbol{std::string(name.text), Type::kInt, 0};
    const auto declared = std::find_if(declared_.begin(), declared_.end(),
                                       [&](const Symbol& s) { return s.name == symbol.name; });
    if (declared != declared_.end())
      symbol.type = declared->type;
    else if (is_score_ && indices_ == 0)
      symbol.type = Type::kReal;
    std::vector<Value> index;
    if (token_.is("[")) {
      ++indices_;
      index = list("]");
      --indices_;
    }
    symbol.rank = static_cast<int>(index.size());
    check_symbol(name, symbol, declared == declared_.end() ? nullptr : &*declared);
    if (index.empty()) return {graph_.scalar(symbol.name, symbol.type), name.at};
    int32_t operands[kMaxOperands];
    for (size_t i = 0; i < index.size(); ++i) operands[i] = as_int(index[i]).node;
    return {graph_.lookup(symbol.name, symbol.type, operands, symbol.rank), name.at};
  }
  void check_symbol(const Token& name, const Symbol& symbol, const Symbol* declared) {
    if (symbol.rank > kMaxOperands) {
      source_.reject(name.at, "a table with " + std::to_string(symbol.rank) + " indices",
                     "at most " + std::to_string(kMaxOperands));
    }
    if (declared != nullptr && *declared != symbol)
      source_.reject(name.at, describe(symbol), describe(*declared) + ", as it is declared");
    if (symbol.type == Type::kReal) require_score(name.at, describe(symbol), "integers", kNoReals);
    for (const Symbol& known : graph_.symbols()) {
      if (known.name != symbol.name || known == symbol) continue;
      const bool may_be_integer = known.type != symbol.type;
      source_.reject(name.at, describe(symbol), describe(known) + ", as before",
                     may_be_integer ? "a name in an index is an integer, elsewhere a real number; "
                                      "declare it an integer"
                                    : "");
    }
  }

  Source source_;
  bool is_score_;
  const std::vector<Symbol>& declared_;
  Graph graph_;
  Token token_;
  int depth_ = 0;
  int indices_ = 0;  // how many brackets are open
};

Expression parse(const char* operation, std::string_view text, bool is_score,
                 const std::vector<Symbol>& declared) {
  if (text.size() > kMaxTextBytes) {
    throw InvalidArgument(message(operation, "text", std::to_string(text.size()) + " bytes long",
                                  "at most " + std::to_string(kMaxTextBytes) + " bytes",
                                  "put what it enumerates into a table"));
  }
  return Parser({operation, text}, is_score, declared).parse();
}

}  // namespace

Expression parse_mask(std::string_view text, const std::vector<Symbol>& declared) {
  return parse("mask", text, false, declared);
}
Expression parse_score(std::string_view text, const std::vector<Symbol>& declared) {
  return parse("score", text, true, declared);
}

}  // namespace tilewise::expr
