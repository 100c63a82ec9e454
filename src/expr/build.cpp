// SPDX-License-Identifier: Apache-2.0
// The C++ front end: every operator adds a node to the graph of the rule that is being built on
// this thread.
#include <atomic>

#include "base/message.h"
#include "expr/ir.h"
#include "expr/print.h"
#include "expr/tokens.h"
#include "tilewise/error.h"
#include "tilewise/expr.h"

namespace tilewise {
namespace expr {

struct Building::State {
  Graph graph;
  uint64_t rule = 0;         // its number
  State* outside = nullptr;  // the rule inside whose lambda this one is built
};

namespace {

thread_local Building::State* current = nullptr;

uint64_t next_number() {
  static std::atomic<uint64_t> count{0};
  return ++count;
}

Building::State& state() {
  if (current == nullptr) {
    throw InvalidArgument(message(
        "expression", "value", "used where no rule is built", "the lambda of mask() or score()",
        "variables, tables, named numbers and operators have a meaning there only"));
  }
  return *current;
}
Graph& graph() { return state().graph; }

// The node of an operand, which must be of the rule under construction.
int32_t node(const Handle& operand) {
  if (operand.rule != state().rule) {
    throw InvalidArgument(message("expression", "value", "of another rule",
                                  "one of the rule that is being built",
                                  "use the lambda's own parameters"));
  }
  return operand.node;
}
Handle handle(int32_t node) { return {state().rule, node}; }

template <class Result>
Result unary(Op op, const Handle& a) {
  return Result(handle(graph().unary(op, node(a))));
}
template <class Result>
Result binary(Op op, const Handle& a, const Handle& b) {
  return Result(handle(graph().binary(op, node(a), node(b))));
}
template <class Result>
Result select(const Handle& condition, const Handle& a, const Handle& b) {
  return Result(handle(graph().where(node(condition), node(a), node(b))));
}
Int variable(Variable which) { return Int(handle(graph().variable(which))); }

template <class Result>
Result look_up(const std::string& name, Type type, const Int* index, size_t count) {
  int32_t operands[kMaxOperands];
  for (size_t i = 0; i < count; ++i) operands[i] = node(index[i]);
  return Result(handle(graph().lookup(name, type, operands, static_cast<int>(count))));
}

std::string checked_name(const char* operation, std::string name) {
  if (!is_name(name)) {
    throw InvalidArgument(message(operation, "name", '"' + name + '"',
                                  "letters, digits and _, and no word of the language"));
  }
  return name;
}

std::shared_ptr<const Expression> finished(Building::State& state, int32_t root) {
  auto expression = std::make_shared<Expression>();
  expression->graph = std::make_shared<const Graph>(std::move(state.graph));
  expression->root = root;
  (void)print(*expression);  // every rule has a text, or is refused here
  return expression;
}

std::string text_of(const Expression* expression, const char* nothing) {
  if (expression == nullptr) return nothing;
  return expression->name.empty() ? print(*expression) : expression->name;
}

}  // namespace

Int Int::literal(int64_t value) { return Int(handle(graph().constant(value))); }
Real Real::literal(double value) { return Real(handle(graph().constant(value))); }
Bool Bool::literal(bool value) { return Bool(handle(graph().constant(value))); }
Real::Real(Int value) : Handle(handle(graph().promoted(expr::node(value)))) {}
Bool::Bool(Int value) : Handle(handle(graph().truth(expr::node(value)))) {}

Int operator+(Int a, Int b) { return binary<Int>(Op::kAdd, a, b); }
Int operator-(Int a, Int b) { return binary<Int>(Op::kSub, a, b); }
Int operator*(Int a, Int b) { return binary<Int>(Op::kMul, a, b); }
Int operator/(Int a, Int b) { return binary<Int>(Op::kFloorDiv, a, b); }
Int operator%(Int a, Int b) { return binary<Int>(Op::kMod, a, b); }
Int operator-(Int a) { return unary<Int>(Op::kNeg, a); }
Int min(Int a, Int b) { return binary<Int>(Op::kMin, a, b); }
Int max(Int a, Int b) { return binary<Int>(Op::kMax, a, b); }
Int abs(Int a) { return unary<Int>(Op::kAbs, a); }

Real operator+(Real a, Real b) { return binary<Real>(Op::kAdd, a, b); }
Real operator-(Real a, Real b) { return binary<Real>(Op::kSub, a, b); }
Real operator*(Real a, Real b) { return binary<Real>(Op::kMul, a, b); }
Real operator/(Real a, Real b) { return binary<Real>(Op::kDiv, a, b); }
Real operator-(Real a) { return unary<Real>(Op::kNeg, a); }
Real min(Real a, Real b) { return binary<Real>(Op::kMin, a, b); }
Real max(Real a, Real b) { return binary<Real>(Op::kMax, a, b); }
Real abs(Real a) { return unary<Real>(Op::kAbs, a); }
Real exp(Real a) { return unary<Real>(Op::kExp, a); }
Real log(Real a) { return unary<Real>(Op::kLog, a); }
Real tanh(Real a) { return unary<Real>(Op::kTanh, a); }
Real sqrt(Real a) { return unary<Real>(Op::kSqrt, a); }

Bool operator<(Int a, Int b) { return binary<Bool>(Op::kLess, a, b); }
Bool operator<=(Int a, Int b) { return binary<Bool>(Op::kLessEqual, a, b); }
Bool operator>(Int a, Int b) { return b < a; }
Bool operator>=(Int a, Int b) { return b <= a; }
Bool operator==(Int a, Int b) { return binary<Bool>(Op::kEqual, a, b); }
Bool operator!=(Int a, Int b) { return binary<Bool>(Op::kNotEqual, a, b); }
Bool operator<(Real a, Real b) { return binary<Bool>(Op::kLess, a, b); }
Bool operator<=(Real a, Real b) { return binary<Bool>(Op::kLessEqual, a, b); }
Bool operator>(Real a, Real b) { return b < a; }
Bool operator>=(Real a, Real b) { return b <= a; }
Bool operator==(Real a, Real b) { return binary<Bool>(Op::kEqual, a, b); }
Bool operator!=(Real a, Real b) { return binary<Bool>(Op::kNotEqual, a, b); }

Bool operator&&(Bool a, Bool b) { return binary<Bool>(Op::kAnd, a, b); }
Bool operator||(Bool a, Bool b) { return binary<Bool>(Op::kOr, a, b); }
Bool operator!(Bool a) { return unary<Bool>(Op::kNot, a); }
Bool operator==(Bool a, Bool b) { return where(a, b, !b); }
Bool operator!=(Bool a, Bool b) { return where(a, !b, b); }

Int where(Bool condition, Int a, Int b) { return select<Int>(condition, a, b); }
Real where(Bool condition, Real a, Real b) { return select<Real>(condition, a, b); }
Bool where(Bool condition, Bool a, Bool b) { return select<Bool>(condition, a, b); }

Int query_length() { return variable(Variable::kQueryLength); }
Int kv_length() { return variable(Variable::kKvLength); }
Int query_offset() { return variable(Variable::kQueryOffset); }
Int key_offset() { return variable(Variable::kKeyOffset); }

Building::Building() : state_(std::make_unique<State>()) {
  state_->rule = next_number();
  state_->outside = current;
  current = state_.get();
}
Building::~Building() { current = state_->outside; }

Int Building::batch() const { return variable(Variable::kBatch); }
Int Building::head() const { return variable(Variable::kHead); }
Int Building::query() const { return variable(Variable::kQuery); }
Int Building::key() const { return variable(Variable::kKey); }
Real Building::product() const { return Real(handle(graph().variable(Variable::kScore))); }

Mask Building::mask(Bool result) {
  const int32_t root = node(result);
  const std::vector<bool> reached = reachable(state_->graph, root);
  for (size_t i = 0; i < reached.size(); ++i) {
    if (!reached[i] || state_->graph.nodes()[i].type != Type::kReal) continue;
    throw InvalidArgument(message("mask", "rule", "made of real numbers", "integers and bools",
                                  "real tables and numbers belong to a score"));
  }
  return Mask(finished(*state_, root));
}
Score Building::score(Real result) {
  const int32_t root = node(result);
  return Score(finished(*state_, root));
}

}  // namespace expr

IntTable::IntTable(std::string name) : name_(expr::checked_name("IntTable", std::move(name))) {}
expr::Int IntTable::look_up(const expr::Int* index, size_t count) const {
  return expr::look_up<expr::Int>(name_, expr::Type::kInt, index, count);
}
RealTable::RealTable(std::string name) : name_(expr::checked_name("RealTable", std::move(name))) {}
expr::Real RealTable::look_up(const expr::Int* index, size_t count) const {
  return expr::look_up<expr::Real>(name_, expr::Type::kReal, index, count);
}

expr::Int scalar(const std::string& name) {
  return expr::Int(
      expr::handle(expr::graph().scalar(expr::checked_name("scalar", name), expr::Type::kInt)));
}
expr::Real real_scalar(const std::string& name) {
  return expr::Real(expr::handle(
      expr::graph().scalar(expr::checked_name("real_scalar", name), expr::Type::kReal)));
}

std::string Mask::text() const { return expr::text_of(expression(), "none"); }
std::string Score::text() const { return expr::text_of(expression(), "s"); }

}  // namespace tilewise
