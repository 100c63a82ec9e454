// SPDX-License-Identifier: Apache-2.0
// The form of programs; their values are tested where they run (tests/kernels/cpu/eval_tile_test).
#include "expr/bytecode.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <memory>

#include "tilewise/error.h"

namespace tilewise::expr {
namespace {

class Bytecode : public testing::Test {
 protected:
  ProgramStorage compile_root(int32_t root, BytecodeOptions options = {.is_narrow = true}) {
    values_.symbols.resize(graph_.symbols().size());
    return compile(graph_, {root}, values_, options);
  }
  static int count(const ProgramStorage& program, ProgramStage stage) {
    const int s = static_cast<int>(stage);
    return program.stage_end[s] - (s == 0 ? 0 : program.stage_end[s - 1]);
  }
  static bool has(const ProgramStorage& program, ProgramOp op) {
    return std::any_of(program.code.begin(), program.code.end(),
                       [op](const ProgramInstruction& i) { return i.op == op; });
  }
  Graph graph_;
  Values values_;
  int32_t q_ = graph_.variable(Variable::kQuery), k_ = graph_.variable(Variable::kKey);
  int32_t h_ = graph_.variable(Variable::kHead), s_ = graph_.variable(Variable::kScore);
};

TEST_F(Bytecode, EveryNodeRunsInTheStageOfWhatItDependsOn) {
  // (q * q < h * h) and k * k <= q
  const int32_t root = graph_.binary(
      Op::kAnd,
      graph_.binary(Op::kLess, graph_.binary(Op::kMul, q_, q_), graph_.binary(Op::kMul, h_, h_)),
      graph_.binary(Op::kLessEqual, graph_.binary(Op::kMul, k_, k_), q_));
  const ProgramStorage program = compile_root(root);
  EXPECT_EQ(count(program, ProgramStage::kUniform), 2);  // h, h * h
  EXPECT_EQ(count(program, ProgramStage::kQuery), 3);    // q, q * q, <
  EXPECT_EQ(count(program, ProgramStage::kKey), 2);      // k, k * k
  EXPECT_EQ(count(program, ProgramStage::kPair), 2);     // <=, and
  const ProgramStorage decode = compile_root(root, {.is_narrow = true, .heads_are_queries = true});
  EXPECT_EQ(count(decode, ProgramStage::kUniform), 0);
  EXPECT_EQ(count(decode, ProgramStage::kQuery), 5);
}

TEST_F(Bytecode, RegistersAreUsedAgain) {
  int32_t sum = graph_.binary(Op::kAdd, q_, k_);
  for (int i = 0; i < 100; ++i)
    sum = graph_.binary(Op::kMul, sum, graph_.binary(Op::kAdd, sum, q_));
  const ProgramStorage program = compile_root(sum);
  // The sum, and what it is multiplied with.
  EXPECT_LE(program.sizes.registers[static_cast<int>(ProgramType::kInt)]
                                   [static_cast<int>(ProgramStage::kPair)],
            3);
}

TEST_F(Bytecode, WhatALaterStageReadsKeepsItsRegister) {
  // All of q * 1, q * 2, ... are read by pairs.
  int32_t sum = k_;
  for (int64_t i = 2; i < 12; ++i) {
    sum = graph_.binary(Op::kAdd, sum, graph_.binary(Op::kMul, q_, graph_.constant(i)));
  }
  const ProgramStorage program = compile_root(sum);
  std::vector<int16_t> outs;
  for (const ProgramInstruction& i : program.code) {
    if (program.registers[static_cast<size_t>(i.out)].stage == ProgramStage::kQuery)
      outs.push_back(i.out);
  }
  std::sort(outs.begin(), outs.end());
  EXPECT_EQ(std::unique(outs.begin(), outs.end()), outs.end());
}

TEST_F(Bytecode, PowersOfTwoAreShiftsAlsoAsScalarsAndLengths) {
  const int32_t width = graph_.scalar("width", Type::kInt);
  values_.symbols.resize(1);
  values_.symbols[0].integer = 16;
  values_.kv_length = 1024;
  const int32_t root =
      graph_.binary(Op::kAdd, graph_.binary(Op::kFloorDiv, q_, width),
                    graph_.binary(Op::kMod, k_, graph_.variable(Variable::kKvLength)));
  const ProgramStorage program = compile_root(root);
  EXPECT_TRUE(has(program, ProgramOp::kShiftRight));
  EXPECT_TRUE(has(program, ProgramOp::kBitAnd));
  EXPECT_EQ(count(program, ProgramStage::kUniform), 0);  // the divisors are gone
  values_.symbols[0].integer = 12;
  EXPECT_TRUE(has(compile_root(root), ProgramOp::kFloorDivConstant));
  values_.symbols[0].integer = -12;
  EXPECT_TRUE(has(compile_root(root), ProgramOp::kFloorDiv));
}

TEST_F(Bytecode, ConstantFactorsAreImmediate) {
  const ProgramStorage half = compile_root(graph_.binary(Op::kDiv, s_, graph_.constant(2.0)));
  ASSERT_EQ(half.code.size(), 1U);
  EXPECT_EQ(half.code[0].op, ProgramOp::kMulConstant);
  EXPECT_EQ(half.code[0].immediate, std::bit_cast<int64_t>(0.5));
  const ProgramStorage left = compile_root(graph_.binary(Op::kMul, graph_.constant(3.0), s_));
  ASSERT_EQ(left.code.size(), 1U);
  EXPECT_EQ(left.code[0].immediate, std::bit_cast<int64_t>(3.0));
  // An inverse that is no normal float is not taken.
  for (double divisor : {0.0, 1e-39, 1e39}) {
    EXPECT_TRUE(
        has(compile_root(graph_.binary(Op::kDiv, s_, graph_.constant(divisor))), ProgramOp::kDiv))
        << divisor;
  }
}

TEST_F(Bytecode, SumsTakeInAProduct) {
  const int32_t x = graph_.scalar("x", Type::kReal);
  const int32_t product = graph_.binary(Op::kMul, s_, s_);
  for (const Op op : {Op::kAdd, Op::kSub}) {
    const ProgramStorage right = compile_root(graph_.binary(op, x, product));
    ASSERT_EQ(right.code.size(), 2U);  // x, the sum
    EXPECT_EQ(right.code[1].op, op == Op::kAdd ? ProgramOp::kAddProduct : ProgramOp::kSubProduct);
  }
  EXPECT_TRUE(has(compile_root(graph_.binary(Op::kAdd, product, x)), ProgramOp::kAddProduct));
  EXPECT_TRUE(has(compile_root(graph_.binary(Op::kSub, product, x)), ProgramOp::kSubReal));
  const int32_t distance = graph_.unary(Op::kToReal, graph_.binary(Op::kSub, q_, k_));
  const ProgramStorage slope = compile_root(
      graph_.binary(Op::kSub, s_, graph_.binary(Op::kMul, graph_.constant(0.5), distance)));
  EXPECT_EQ(count(slope, ProgramStage::kPair), 1);
  EXPECT_EQ(slope.code.back().op, ProgramOp::kSubDistance);
}

// The backward reads more of the same graph, and must round the score as the forward does.
TEST_F(Bytecode, SumsTakeInAProductThatOthersReadToo) {
  const int32_t product = graph_.binary(Op::kMul, s_, s_);
  const int32_t sum = graph_.binary(Op::kAdd, s_, product);
  const ProgramStorage both = compile(graph_, {sum, product}, values_, {.is_narrow = true});
  EXPECT_TRUE(has(both, ProgramOp::kAddProduct));
  EXPECT_TRUE(has(both, ProgramOp::kMulReal));
}

TEST_F(Bytecode, TanhTakesInFactorsThatNobodyElseReads) {
  const int32_t inner = graph_.binary(Op::kDiv, s_, graph_.constant(20.0));
  const int32_t tanh = graph_.unary(Op::kTanh, inner);
  const int32_t capped = graph_.binary(Op::kMul, graph_.constant(20.0), tanh);
  const ProgramStorage alone = compile_root(capped);
  ASSERT_EQ(alone.code.size(), 1U);
  EXPECT_EQ(alone.code[0].op, ProgramOp::kTanh);
  EXPECT_EQ(std::bit_cast<double>(alone.code[0].immediate), 1 / 20.0);
  EXPECT_EQ(std::bit_cast<double>(alone.code[0].factor), 20.0);
  const ProgramStorage shared =
      compile(graph_, {capped, tanh, inner}, values_, {.is_narrow = true});
  ASSERT_EQ(shared.code.size(), 3U);  // the argument, tanh, times 20
  EXPECT_EQ(std::bit_cast<double>(shared.code[1].immediate), 1.0);
  EXPECT_EQ(std::bit_cast<double>(shared.code[1].factor), 1.0);
}

TEST_F(Bytecode, ScoresHaveNoMemory) {
  const ProgramStorage program = compile_root(graph_.binary(Op::kAdd, s_, s_));
  ASSERT_GE(program.score, 0);
  EXPECT_EQ(program.registers[static_cast<size_t>(program.score)].index, -1);
  EXPECT_EQ(compile_root(graph_.binary(Op::kLess, k_, q_)).score, -1);
}

TEST_F(Bytecode, SizesOfTwoProgramsCoverBoth) {
  const ProgramSizes a = compile_root(graph_.binary(Op::kAdd, s_, s_)).sizes;
  const ProgramSizes b = compile_root(graph_.binary(Op::kLess, k_, q_)).sizes;
  const ProgramSizes both = larger(a, b);
  for (int type = 0; type < kProgramTypes; ++type) {
    for (int stage = 0; stage < kProgramStages; ++stage) {
      EXPECT_GE(both.registers[type][stage], a.registers[type][stage]);
      EXPECT_GE(both.registers[type][stage], b.registers[type][stage]);
    }
  }
  EXPECT_EQ(both.total, std::max(a.total, b.total));
}

TEST_F(Bytecode, OneTableForAllItsLookups) {
  const int32_t a = graph_.lookup("documents", Type::kInt, &q_, 1);
  const int32_t b = graph_.lookup("documents", Type::kInt, &k_, 1);
  auto table = std::make_shared<IntTable>();
  table->data = {1, 2, 3};
  table->shape = {3};
  values_.symbols.resize(1);
  values_.symbols[0].table = table;
  const ProgramStorage program = compile_root(graph_.binary(Op::kEqual, a, b));
  ASSERT_EQ(program.tables.size(), 1U);
  EXPECT_EQ(program.tables[0].data, table->data.data());
  EXPECT_EQ(program.tables[0].shape[0], 3);
}

}  // namespace
}  // namespace tilewise::expr
