// SPDX-License-Identifier: Apache-2.0
// Masks and scores: which pairs of a query and a key see each other, and what becomes of their
// scaled product s = scale * q.k. Both are expressions in the language of docs/language.md, written
// as C++ lambdas (here), as text, or chosen by name (rules.h).
//
//   tw::IntTable doc{"doc"};
//   tw::Mask packed = tw::mask([&](auto b, auto h, auto q, auto k) {
//     return k <= q && doc[q] == doc[k] && q - k < tw::scalar("window");
//   });
//   tw::RealTable slope{"slope"};
//   tw::Score alibi = tw::score([&](auto s, auto b, auto h, auto q, auto k) {
//     return s - slope[h] * (q - k);
//   });
//
// The lambda runs once, when the mask or score is made. b, h, q, k are the batch, the query head,
// the query and the key, counted from the global offsets of the step. Tables and named numbers get
// their data later: integers when a step is bound, real tables with each run.
//
// `/` of two integers floors, and so does `%`: -7 / 2 is -4, -7 % 2 is 1, as Python's // and %.
// Integers have 64 bits and wrap. && and || evaluate both sides.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "tilewise/export.h"

namespace tilewise {

class Mask;
class Score;

namespace expr {

struct Expression;  // src/expr/ir.h

// A value of the rule that is being built. It may be used inside its own lambda only, on the same
// thread; elsewhere an operator throws InvalidArgument.
struct Handle {
  uint64_t rule = 0;  // number of the rule; each has its own
  int32_t node = -1;
};

template <class T>
concept IntegralNumber = std::integral<T> && !std::same_as<T, bool>;

class TILEWISE_API Int : public Handle {
 public:
  explicit Int(Handle handle) : Handle(handle) {}
  template <IntegralNumber Number>
  Int(Number value) : Int(literal(static_cast<int64_t>(value))) {}

 private:
  static Int literal(int64_t value);
};

class TILEWISE_API Real : public Handle {
 public:
  explicit Real(Handle handle) : Handle(handle) {}
  Real(Int value);
  template <IntegralNumber Number>
  Real(Number value) : Real(Int(value)) {}
  template <std::floating_point Number>
  Real(Number value) : Real(literal(static_cast<double>(value))) {}

 private:
  static Real literal(double value);
};

class TILEWISE_API Bool : public Handle {
 public:
  explicit Bool(Handle handle) : Handle(handle) {}
  explicit Bool(Int value);  // value != 0
  template <std::same_as<bool> Truth>
  Bool(Truth value) : Bool(literal(value)) {}

 private:
  static Bool literal(bool value);
};

TILEWISE_API Int operator+(Int a, Int b);
TILEWISE_API Int operator-(Int a, Int b);
TILEWISE_API Int operator*(Int a, Int b);
TILEWISE_API Int operator/(Int a, Int b);  // floors
TILEWISE_API Int operator%(Int a, Int b);  // floors
TILEWISE_API Int operator-(Int a);
TILEWISE_API Int min(Int a, Int b);
TILEWISE_API Int max(Int a, Int b);
TILEWISE_API Int abs(Int a);

TILEWISE_API Real operator+(Real a, Real b);
TILEWISE_API Real operator-(Real a, Real b);
TILEWISE_API Real operator*(Real a, Real b);
TILEWISE_API Real operator/(Real a, Real b);
TILEWISE_API Real operator-(Real a);
TILEWISE_API Real min(Real a, Real b);
TILEWISE_API Real max(Real a, Real b);
TILEWISE_API Real abs(Real a);
TILEWISE_API Real exp(Real a);
TILEWISE_API Real log(Real a);
TILEWISE_API Real tanh(Real a);
TILEWISE_API Real sqrt(Real a);

TILEWISE_API Bool operator<(Int a, Int b);
TILEWISE_API Bool operator<=(Int a, Int b);
TILEWISE_API Bool operator>(Int a, Int b);
TILEWISE_API Bool operator>=(Int a, Int b);
TILEWISE_API Bool operator==(Int a, Int b);
TILEWISE_API Bool operator!=(Int a, Int b);
TILEWISE_API Bool operator<(Real a, Real b);
TILEWISE_API Bool operator<=(Real a, Real b);
TILEWISE_API Bool operator>(Real a, Real b);
TILEWISE_API Bool operator>=(Real a, Real b);
TILEWISE_API Bool operator==(Real a, Real b);
TILEWISE_API Bool operator!=(Real a, Real b);

TILEWISE_API Bool operator&&(Bool a, Bool b);
TILEWISE_API Bool operator||(Bool a, Bool b);
TILEWISE_API Bool operator!(Bool a);
TILEWISE_API Bool operator==(Bool a, Bool b);
TILEWISE_API Bool operator!=(Bool a, Bool b);

TILEWISE_API Int where(Bool condition, Int a, Int b);
TILEWISE_API Real where(Bool condition, Real a, Real b);
TILEWISE_API Bool where(Bool condition, Bool a, Bool b);
template <IntegralNumber A, IntegralNumber B>
Int where(Bool condition, A a, B b) {
  return where(condition, Int(a), Int(b));
}

// Of the sequence, and of the step (plan.h, Step).
TILEWISE_API Int query_length();
TILEWISE_API Int kv_length();
TILEWISE_API Int query_offset();
TILEWISE_API Int key_offset();

// The rule under construction on this thread, from its constructor to its destructor. Rules may
// be built inside of others.
class TILEWISE_API Building {
 public:
  Building();
  ~Building();
  Building(const Building&) = delete;
  Building& operator=(const Building&) = delete;

  [[nodiscard]] Int batch() const;
  [[nodiscard]] Int head() const;
  [[nodiscard]] Int query() const;
  [[nodiscard]] Int key() const;
  [[nodiscard]] Real product() const;
  // Throw InvalidArgument for a mask that uses reals, and if the text would be beyond the budgets
  // of docs/language.md.
  [[nodiscard]] Mask mask(Bool result);
  [[nodiscard]] Score score(Real result);

  struct State;

 private:
  std::unique_ptr<State> state_;
};

}  // namespace expr

// A table of integers with 1 to 4 indices: doc[q], layout(h, q / 128, k / 128). The name says which
// data it gets; it must not be a word of the language.
class TILEWISE_API IntTable {
 public:
  explicit IntTable(std::string name);
  [[nodiscard]] expr::Int operator[](expr::Int index) const { return look_up(&index, 1); }
  template <std::convertible_to<expr::Int>... Index>
  [[nodiscard]] expr::Int operator()(Index... index) const {
    static_assert(sizeof...(Index) >= 1 && sizeof...(Index) <= 4, "a table has 1 to 4 indices");
    const expr::Int list[] = {expr::Int(index)...};
    return look_up(list, sizeof...(Index));
  }

 private:
  [[nodiscard]] expr::Int look_up(const expr::Int* index, size_t count) const;
  std::string name_;
};

// The same of real numbers, in scores only. It is given with every run and may want a gradient.
class TILEWISE_API RealTable {
 public:
  explicit RealTable(std::string name);
  [[nodiscard]] expr::Real operator[](expr::Int index) const { return look_up(&index, 1); }
  template <std::convertible_to<expr::Int>... Index>
  [[nodiscard]] expr::Real operator()(Index... index) const {
    static_assert(sizeof...(Index) >= 1 && sizeof...(Index) <= 4, "a table has 1 to 4 indices");
    const expr::Int list[] = {expr::Int(index)...};
    return look_up(list, sizeof...(Index));
  }

 private:
  [[nodiscard]] expr::Real look_up(const expr::Int* index, size_t count) const;
  std::string name_;
};

// A number that gets its value with the data of a step.
[[nodiscard]] TILEWISE_API expr::Int scalar(const std::string& name);
[[nodiscard]] TILEWISE_API expr::Real real_scalar(const std::string& name);

// May query q see key k? An opaque, immutable, cheaply copied value. Default: every key is visible.
class TILEWISE_API Mask {
 public:
  Mask() = default;
  explicit Mask(std::shared_ptr<const expr::Expression> expression)
      : expression_(std::move(expression)) {}
  // One line that means the mask: "none", "causal", "window:4,0", or the expression.
  [[nodiscard]] std::string text() const;
  [[nodiscard]] const expr::Expression* expression() const noexcept { return expression_.get(); }

 private:
  std::shared_ptr<const expr::Expression> expression_;  // null: none
};

// What the softmax sees instead of s. Default: s itself.
class TILEWISE_API Score {
 public:
  Score() = default;
  explicit Score(std::shared_ptr<const expr::Expression> expression)
      : expression_(std::move(expression)) {}
  // One line that means the score: "s", "softcap:cap=30", or the expression.
  [[nodiscard]] std::string text() const;
  [[nodiscard]] const expr::Expression* expression() const noexcept { return expression_.get(); }

 private:
  std::shared_ptr<const expr::Expression> expression_;  // null: s
};

// rule(b, h, q, k) returns a condition, or an integer that is not 0 where the key is visible.
template <class Rule>
[[nodiscard]] Mask mask(const Rule& rule) {
  expr::Building building;
  return building.mask(
      expr::Bool(rule(building.batch(), building.head(), building.query(), building.key())));
}

// rule(s, b, h, q, k) returns a number.
template <class Rule>
[[nodiscard]] Score score(const Rule& rule) {
  expr::Building building;
  return building.score(expr::Real(rule(building.product(), building.batch(), building.head(),
                                        building.query(), building.key())));
}

}  // namespace tilewise
