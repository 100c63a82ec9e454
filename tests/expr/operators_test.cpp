// SPDX-License-Identifier: Apache-2.0
#include "expr/operators.h"

#include <gtest/gtest.h>

#include <functional>

#include "support/error_of.h"
#include "tilewise/error.h"

namespace tilewise::expr {
namespace {

class OperatorsTest : public ::testing::Test {
 protected:
  OperatorsTest()
      : integer{graph().variable(Variable::kQuery), 0},
        real{graph().variable(Variable::kScore), 2},
        boolean{graph().binary(Op::kLess, integer.node, integer.node), 4} {}

  Graph& graph() { return operators.graph(); }
  static Token token(std::string_view text) { return {TokenKind::kOperator, text, 0}; }
  // "is <got>, expected <expected>" and the column, without the quoted line.
  static std::string error_of(const std::function<void()>& act) {
    const std::string text = test::error_of(act);
    return text.substr(0, text.find(';'));
  }

  Operators operators{{"test", "q s q<q"}};
  Operand integer, real, boolean;
};

TEST_F(OperatorsTest, NumbersAreUnified) {
  const int32_t promoted = graph().unary(Op::kToReal, integer.node);
  EXPECT_EQ(operators.arithmetic(Op::kAdd, integer, integer).node,
            graph().binary(Op::kAdd, integer.node, integer.node));
  EXPECT_EQ(operators.arithmetic(Op::kMax, integer, real).node,
            graph().binary(Op::kMax, promoted, real.node));
  EXPECT_EQ(operators.compare(token("<="), real, integer).node,
            graph().binary(Op::kLessEqual, real.node, promoted));
  EXPECT_EQ(operators.choose(boolean, integer, real).node,
            graph().where(boolean.node, promoted, real.node));
  EXPECT_EQ(operators.divide(integer, integer).node, graph().binary(Op::kDiv, promoted, promoted));
  EXPECT_EQ(operators.function(Op::kExp, integer).node, graph().unary(Op::kExp, promoted));
  EXPECT_EQ(operators.function(Op::kToReal, real).node, real.node);
}

TEST_F(OperatorsTest, GreaterIsLessWithOperandsSwapped) {
  EXPECT_EQ(operators.compare(token(">"), real, integer).node,
            operators.compare(token("<"), integer, real).node);
  EXPECT_EQ(operators.compare(token(">="), real, integer).node,
            operators.compare(token("<="), integer, real).node);
}

TEST_F(OperatorsTest, BoolsAreComparedByWhere) {
  const Operand other{graph().constant(true), 6};
  const int32_t opposite = graph().unary(Op::kNot, other.node);
  EXPECT_EQ(operators.compare(token("=="), boolean, other).node,
            graph().where(boolean.node, other.node, opposite));
  EXPECT_EQ(operators.compare(token("!="), boolean, other).node,
            graph().where(boolean.node, opposite, other.node));
}

TEST_F(OperatorsTest, TheTruthOfANumberIsKnownAsSuch) {
  EXPECT_TRUE(operators.as_bool(integer).is_truth);
  EXPECT_FALSE(operators.as_bool(boolean).is_truth);
  EXPECT_TRUE(operators.connect(Op::kAnd, boolean, integer).is_truth);
  EXPECT_TRUE(operators.choose(boolean, boolean, real).is_truth);
  EXPECT_FALSE(operators.choose(integer, boolean, boolean).is_truth);
  EXPECT_FALSE(operators.opposite(integer).is_truth);
  const Operand truth = operators.connect(Op::kOr, integer, boolean);
  EXPECT_EQ(error_of([&] { operators.compare(token("=="), truth, boolean); }),
            "test: text at line 1, column 1, is the truth of a number, expected a bool");
  EXPECT_EQ(error_of([&] { operators.bitwise(Op::kOr, boolean, truth); }),
            "test: text at line 1, column 1, is the truth of a number, expected a bool");
  EXPECT_EQ(error_of([&] { operators.bitwise_opposite(truth); }),
            "test: text at line 1, column 1, is the truth of a number, expected a bool");
}

TEST_F(OperatorsTest, ErrorsPointAtTheOperand) {
  const std::string no_number = "test: text at line 1, column 5, is a bool, expected a number";
  EXPECT_EQ(error_of([&] { operators.arithmetic(Op::kMul, real, boolean); }), no_number);
  EXPECT_EQ(error_of([&] { operators.compare(token("<"), boolean, integer); }), no_number);
  EXPECT_EQ(error_of([&] { operators.divide(real, boolean); }), no_number);
  EXPECT_EQ(error_of([&] { operators.negate(boolean); }), no_number);
  EXPECT_EQ(error_of([&] { operators.function(Op::kAbs, boolean); }), no_number);
  EXPECT_EQ(error_of([&] { operators.function(Op::kLog, boolean); }), no_number);
  EXPECT_EQ(error_of([&] { operators.floor_divide(Op::kMod, boolean, integer); }), no_number);
  EXPECT_EQ(error_of([&] { operators.floor_divide(Op::kMod, integer, real); }),
            "test: text at line 1, column 3, is a real number, expected an integer");
  EXPECT_EQ(error_of([&] { operators.bitwise(Op::kAnd, boolean, real); }),
            "test: text at line 1, column 3, is a real number, expected a bool");
}

}  // namespace
}  // namespace tilewise::expr
