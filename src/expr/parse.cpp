// SPDX-License-Identifier: Apache-2.0
// One function per level of Python's grammar, loosest first; each returns a node.
#include "expr/parse.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "base/message.h"
#include "expr/operators.h"
#include "expr/tokens.h"
#include "tilewise/error.h"

namespace tilewise::expr {
namespace {

constexpr const char* kNoReals = "a mask has integers only";
constexpr size_t kAny = std::numeric_limits<size_t>::max();  // number of arguments

class Parser {
 public:
  Parser(const Source& source, bool is_score, const std::vector<Symbol>& declared)
      : source_(source),
        operators_(source),
        is_score_(is_score),
        declared_(declared),
        integers_(!is_score) {
    advance();
  }

  Expression parse() {
    Operand value = conditional();
    if (token_.kind != TokenKind::kEnd) unexpected("an operator or the end of the text");
    value = is_score_ ? operators_.as_real(value) : operators_.as_bool(value);
    return {std::make_shared<const Graph>(std::move(graph())), value.node};
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

  [[nodiscard]] Graph& graph() { return operators_.graph(); }
  void require_score(size_t at, const std::string& got, const char* expected, const char* hint) {
    if (!is_score_) source_.reject(at, got, expected, hint);
  }

  // The grammar.
  Operand conditional() {
    const Level level(*this);
    const Operand a = disjunction();
    if (!accept("if")) return a;
    const Operand condition = disjunction();
    require("else", "'else'");
    return operators_.choose(condition, a, conditional());
  }

  Operand disjunction() {
    Operand value = conjunction();
    while (accept("or")) value = operators_.connect(Op::kOr, value, conjunction());
    return value;
  }
  Operand conjunction() {
    Operand value = inversion();
    while (accept("and")) value = operators_.connect(Op::kAnd, value, inversion());
    return value;
  }
  Operand inversion() {
    const size_t at = token_.at;
    if (!accept("not")) return comparison();
    const Level level(*this);
    return {operators_.opposite(inversion()).node, at};
  }

  Operand comparison() {
    Operand left = bit_or();
    Operand all{-1, left.at};
    for (;;) {
      const Token op = token_;
      if (!op.is("<") && !op.is("<=") && !op.is(">") && !op.is(">=") && !op.is("==") &&
          !op.is("!="))
        return all.node < 0 ? left : all;
      advance();
      const Operand right = bit_or();
      const Operand one = operators_.compare(op, left, right);
      all = {all.node < 0 ? one.node : graph().binary(Op::kAnd, all.node, one.node), all.at};
      left = right;
    }
  }
  Operand bit_or() {
    Operand value = bit_and();
    while (accept("|")) value = operators_.bitwise(Op::kOr, value, bit_and());
    return value;
  }
  Operand bit_and() {
    Operand value = sum();
    while (accept("&")) value = operators_.bitwise(Op::kAnd, value, sum());
    return value;
  }

  Operand sum() {
    Operand value = product();
    for (;;) {
      const Token op = token_;
      if (!op.is("+") && !op.is("-")) return value;
      advance();
      value = operators_.arithmetic(op.is("+") ? Op::kAdd : Op::kSub, value, product());
    }
  }
  Operand product() {
    Operand value = factor();
    for (;;) {
      const Token op = token_;
      if (!op.is("*") && !op.is("/") && !op.is("//") && !op.is("%")) return value;
      if (op.is("/")) require_score(op.at, "'/'", "'//'", "/ gives a real number, a mask has none");
      advance();
      const Operand right = factor();
      if (op.is("*"))
        value = operators_.arithmetic(Op::kMul, value, right);
      else if (op.is("/"))
        value = operators_.divide(value, right);
      else
        value = operators_.floor_divide(op.is("%") ? Op::kMod : Op::kFloorDiv, value, right);
    }
  }

  Operand factor() {
    const size_t at = token_.at;
    if (!token_.is("-") && !token_.is("+") && !token_.is("~")) return primary();
    const Token op = token_;
    advance();
    if (op.is("-") && is_literal()) return {literal(true), at};
    const Level level(*this);
    const Operand operand = factor();
    const Operand result = op.is("~")   ? operators_.bitwise_opposite(operand)
                           : op.is("-") ? operators_.negate(operand)
                                        : operators_.as_number(operand);
    return {result.node, at};
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
      return graph().constant(value);
    }
    require_score(token_.at, quoted(token_), "an integer", kNoReals);
    double value = 0;
    if (std::from_chars(text.data(), end, value).ec != std::errc())
      unexpected("a number that float64 can hold");
    advance();
    return graph().constant(value);
  }

  Operand primary() {
    const Token token = token_;
    if (is_literal()) return {literal(false), token.at};
    if (accept("(")) {
      Operand value = conditional();
      require(")", "')'");
      value.at = token.at;
      return value;
    }
    if (token.kind != TokenKind::kName) unexpected("a value");
    if (token.is("True") || token.is("False")) {
      advance();
      return {graph().constant(token.is("True")), token.at};
    }
    for (int i = 0; i < kVariables; ++i) {
      if (token.text == name_of(static_cast<Variable>(i))) return variable(token, i);
    }
    if (next_token(source_, token.at + token.text.size()).is("(")) return call(token);
    if (!is_name(token.text)) unexpected("a value");
    advance();
    return symbol(token);
  }

  Operand variable(const Token& token, int index) {
    const auto which = static_cast<Variable>(index);
    if (which == Variable::kScore)
      require_score(token.at, "'s'", "an integer", "only a score may use the product s");
    advance();
    return {graph().variable(which), token.at};
  }

  // "(" or "[" is the current token; `close` ends the list. Names in it are integers or not.
  std::vector<Operand> list(std::string_view close, bool integers) {
    const bool outside = integers_;
    integers_ = integers;
    advance();
    std::vector<Operand> values;
    do values.push_back(conditional());
    while (accept(","));
    require(close, close == ")" ? "',' or ')'" : "',' or ']'");
    integers_ = outside;
    return values;
  }

  Operand call(const Token& name) {
    struct Function {
      std::string_view name;
      size_t least, most;
      Op op;
    };
    static constexpr Function kFunctions[] = {
        {"min", 2, kAny, Op::kMin},  {"max", 2, kAny, Op::kMax}, {"abs", 1, 1, Op::kAbs},
        {"where", 3, 3, Op::kWhere}, {"exp", 1, 1, Op::kExp},    {"log", 1, 1, Op::kLog},
        {"tanh", 1, 1, Op::kTanh},   {"sqrt", 1, 1, Op::kSqrt},  {"float", 1, 1, Op::kToReal}};
    if (name.is("int")) return integer(name);
    const auto* function = std::find_if(std::begin(kFunctions), std::end(kFunctions),
                                        [&](const Function& f) { return name.text == f.name; });
    if (function == std::end(kFunctions)) {
      unexpected("a function of the language",
                 "min, max, abs, where, int, float, exp, log, tanh and sqrt; a table is written "
                 "name[index]");
    }
    const bool gives_real = function->op >= Op::kExp && function->op <= Op::kToReal;
    if (gives_real) require_score(name.at, quoted(name), "an integer", kNoReals);
    advance();
    const std::vector<Operand> values = list(")", integers_ && function->op != Op::kToReal);
    check_count(name, values.size(), function->least, function->most);
    Operand result = apply(function->op, values);
    result.at = name.at;
    return result;
  }
  void check_count(const Token& name, size_t count, size_t least, size_t most) const {
    if (least <= count && count <= most) return;
    source_.reject(name.at, quoted(name) + " of " + std::to_string(count),
                   (most == kAny ? "at least " : "") + std::to_string(least) +
                       (least == 1 ? " argument" : " arguments"));
  }
  Operand integer(const Token& name) {
    advance();
    const std::vector<Operand> values = list(")", true);
    check_count(name, values.size(), 1, 1);
    return {operators_.as_int(values[0]).node, name.at};
  }
  Operand apply(Op op, const std::vector<Operand>& values) {
    if (op == Op::kWhere) return operators_.choose(values[0], values[1], values[2]);
    if (op != Op::kMin && op != Op::kMax) return operators_.function(op, values[0]);
    Operand value = values[0];
    for (size_t i = 1; i < values.size(); ++i) value = operators_.arithmetic(op, value, values[i]);
    return value;
  }

  Operand symbol(const Token& name) {
    Symbol symbol{std::string(name.text), Type::kInt, 0};
    const auto declared = std::find_if(declared_.begin(), declared_.end(),
                                       [&](const Symbol& s) { return s.name == symbol.name; });
    if (declared != declared_.end())
      symbol.type = declared->type;
    else if (!integers_)
      symbol.type = Type::kReal;
    std::vector<Operand> index;
    if (token_.is("[")) index = list("]", true);
    symbol.rank = static_cast<int>(index.size());
    check_symbol(name, symbol, declared == declared_.end() ? nullptr : &*declared);
    if (index.empty()) return {graph().scalar(symbol.name, symbol.type), name.at};
    int32_t operands[kMaxOperands];
    for (size_t i = 0; i < index.size(); ++i) operands[i] = operators_.as_int(index[i]).node;
    return {graph().lookup(symbol.name, symbol.type, operands, symbol.rank), name.at};
  }
  void check_symbol(const Token& name, const Symbol& symbol, const Symbol* declared) {
    if (symbol.rank > kMaxOperands) {
      source_.reject(name.at, "a table with " + std::to_string(symbol.rank) + " indices",
                     "at most " + std::to_string(kMaxOperands));
    }
    if (declared != nullptr && *declared != symbol)
      source_.reject(name.at, describe(symbol), describe(*declared) + ", as it is declared");
    if (symbol.type == Type::kReal) require_score(name.at, describe(symbol), "integers", kNoReals);
    for (const Symbol& known : graph().symbols()) {
      if (known.name != symbol.name || known == symbol) continue;
      const bool may_be_integer = known.type != symbol.type;
      source_.reject(name.at, describe(symbol), describe(known) + ", as before",
                     may_be_integer ? "a name in an index is an integer, elsewhere a real number; "
                                      "write int(name)"
                                    : "");
    }
  }

  Source source_;
  Operators operators_;
  bool is_score_;
  const std::vector<Symbol>& declared_;
  Token token_;
  int depth_ = 0;
  bool integers_;  // names are integers at this place
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
