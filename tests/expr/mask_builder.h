// SPDX-License-Identifier: Apache-2.0
// Expressions in C++ operators, for the tests of this folder.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "expr/ir.h"
#include "expr/values.h"

namespace tilewise::expr {

// A graph under construction and the data of its tables and scalars, in the order of its symbols.
class MaskBuilder {
 public:
  struct Term {
    MaskBuilder* builder;
    int32_t node;
  };

  MaskBuilder() : graph_(std::make_shared<Graph>()) {}

  Term variable(Variable v) { return {this, graph_->variable(v)}; }
  Term q() { return variable(Variable::kQuery); }
  Term k() { return variable(Variable::kKey); }
  Term b() { return variable(Variable::kBatch); }
  Term h() { return variable(Variable::kHead); }
  Term integer(int64_t value) { return {this, graph_->constant(value)}; }
  Term boolean(bool value) { return {this, graph_->constant(value)}; }
  Term real(double value) { return {this, graph_->constant(value)}; }
  Term scalar(const std::string& name, int64_t value) {
    const int32_t node = graph_->scalar(name, Type::kInt);
    values.symbols.resize(graph_->symbols().size());
    values.symbols[static_cast<size_t>(graph_->node(node).immediate)].integer = value;
    return {this, node};
  }
  Term real_scalar(const std::string& name, double value) {
    const int32_t node = graph_->scalar(name, Type::kReal);
    values.symbols.resize(graph_->symbols().size());
    values.symbols[static_cast<size_t>(graph_->node(node).immediate)].real = value;
    return {this, node};
  }
  Term look_up(const std::string& name, std::shared_ptr<const IntTable> table,
               const std::vector<Term>& index) {
    std::vector<int32_t> nodes;
    for (const Term& term : index) nodes.push_back(term.node);
    const int32_t node =
        graph_->lookup(name, Type::kInt, nodes.data(), static_cast<int>(nodes.size()));
    values.symbols.resize(graph_->symbols().size());
    values.symbols[static_cast<size_t>(graph_->node(node).immediate)].table = std::move(table);
    return {this, node};
  }
  Term unary(Op op, Term a) { return {this, graph_->unary(op, a.node)}; }
  Term binary(Op op, Term a, Term b) { return {this, graph_->binary(op, a.node, b.node)}; }
  Term where(Term c, Term a, Term b) { return {this, graph_->where(c.node, a.node, b.node)}; }

  // The graph may grow further: nodes are only added.
  Expression expression(Term root, const std::string& name = {}) const {
    return {graph_, root.node, name};
  }
  Values values;

 private:
  std::shared_ptr<Graph> graph_;
};

using Term = MaskBuilder::Term;

inline Term operator+(Term a, Term b) { return a.builder->binary(Op::kAdd, a, b); }
inline Term operator-(Term a, Term b) { return a.builder->binary(Op::kSub, a, b); }
inline Term operator*(Term a, Term b) { return a.builder->binary(Op::kMul, a, b); }
inline Term operator/(Term a, Term b) { return a.builder->binary(Op::kFloorDiv, a, b); }
inline Term operator%(Term a, Term b) { return a.builder->binary(Op::kMod, a, b); }
inline Term operator<(Term a, Term b) { return a.builder->binary(Op::kLess, a, b); }
inline Term operator<=(Term a, Term b) { return a.builder->binary(Op::kLessEqual, a, b); }
inline Term operator>(Term a, Term b) { return b < a; }
inline Term operator>=(Term a, Term b) { return b <= a; }
inline Term operator==(Term a, Term b) { return a.builder->binary(Op::kEqual, a, b); }
inline Term operator!=(Term a, Term b) { return a.builder->binary(Op::kNotEqual, a, b); }
inline Term operator&&(Term a, Term b) { return a.builder->binary(Op::kAnd, a, b); }
inline Term operator||(Term a, Term b) { return a.builder->binary(Op::kOr, a, b); }
inline Term operator!(Term a) { return a.builder->unary(Op::kNot, a); }
inline Term operator+(Term a, int64_t b) { return a + a.builder->integer(b); }
inline Term operator-(Term a, int64_t b) { return a - a.builder->integer(b); }
inline Term operator*(Term a, int64_t b) { return a * a.builder->integer(b); }
inline Term operator/(Term a, int64_t b) { return a / a.builder->integer(b); }
inline Term operator%(Term a, int64_t b) { return a % a.builder->integer(b); }
inline Term operator<(Term a, int64_t b) { return a < a.builder->integer(b); }
inline Term operator<=(Term a, int64_t b) { return a <= a.builder->integer(b); }
inline Term operator>(Term a, int64_t b) { return a > a.builder->integer(b); }
inline Term operator>=(Term a, int64_t b) { return a >= a.builder->integer(b); }
inline Term operator==(Term a, int64_t b) { return a == a.builder->integer(b); }
inline Term operator!=(Term a, int64_t b) { return a != a.builder->integer(b); }
inline Term min(Term a, Term b) { return a.builder->binary(Op::kMin, a, b); }
inline Term max(Term a, Term b) { return a.builder->binary(Op::kMax, a, b); }
inline Term min(Term a, int64_t b) { return min(a, a.builder->integer(b)); }
inline Term max(Term a, int64_t b) { return max(a, a.builder->integer(b)); }
inline Term abs(Term a) { return a.builder->unary(Op::kAbs, a); }
inline Term clamp(Term a, int64_t lo, int64_t hi) { return min(max(a, lo), hi); }
inline Term where(Term c, Term a, Term b) { return c.builder->where(c, a, b); }
inline Term to_real(Term a) { return a.builder->unary(Op::kToReal, a); }

inline std::shared_ptr<const IntTable> int_table(std::vector<int32_t> data,
                                                 std::vector<int64_t> shape = {}) {
  if (shape.empty()) shape = {static_cast<int64_t>(data.size())};
  return std::make_shared<const IntTable>(IntTable{std::move(data), std::move(shape)});
}

}  // namespace tilewise::expr
