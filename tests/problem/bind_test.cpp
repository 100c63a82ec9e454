// SPDX-License-Identifier: Apache-2.0
#include "problem/bind.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "support/error_of.h"
#include "tilewise/error.h"

namespace tilewise {
namespace {

using expr::Expression;
using expr::Graph;
using expr::Op;
using expr::Type;
using expr::Variable;

// doc[q] == doc[k] + width
Expression document_mask() {
  auto graph = std::make_shared<Graph>();
  const int32_t q = graph->variable(Variable::kQuery), k = graph->variable(Variable::kKey);
  const int32_t left = graph->lookup("doc", Type::kInt, &q, 1);
  const int32_t right = graph->lookup("doc", Type::kInt, &k, 1);
  const int32_t shifted = graph->binary(Op::kAdd, right, graph->scalar("width", Type::kInt));
  return {graph, graph->binary(Op::kEqual, left, shifted)};
}

// s * cap + slope[h]
Expression score() {
  auto graph = std::make_shared<Graph>();
  const int32_t h = graph->variable(Variable::kHead);
  const int32_t scaled =
      graph->binary(Op::kMul, graph->variable(Variable::kScore), graph->scalar("cap", Type::kReal));
  return {graph, graph->binary(Op::kAdd, scaled, graph->lookup("slope", Type::kReal, &h, 1))};
}

using test::error_of;

class BindTest : public ::testing::Test {
 protected:
  std::vector<int32_t> ids_ = {0, 0, 1, 2};
  Step step_{.batch = 1,
             .query_length = 4,
             .kv_length = 3,
             .query_offset = 7,
             .key_offset = 9,
             .tables = {{"doc", ids_.data(), IntegerType::kInt32, {4}}},
             .scalars = {{"width", 5}}};

  std::string bind_error(const Step& step) const {
    const Expression mask = document_mask();
    return error_of([&] { (void)bind(mask, step, "schedule"); });
  }
};

TEST_F(BindTest, CopiesTablesScalarsLengthsAndOffsets) {
  const expr::Values values = bind(document_mask(), step_, "schedule");
  ids_[0] = 99;  // a copy does not change
  ASSERT_EQ(values.symbols.size(), 2u);
  EXPECT_EQ(values.symbols[0].table->data, (std::vector<int32_t>{0, 0, 1, 2}));
  EXPECT_EQ(values.symbols[1].integer, 5);
  EXPECT_EQ(values.query_length, 4);
  EXPECT_EQ(values.kv_length, 3);
  EXPECT_EQ(values.query_offset, 7);
  EXPECT_EQ(values.key_offset, 9);
}

TEST_F(BindTest, ReadsEveryIntegerType) {
  const std::vector<int64_t> wide = {-3, 1LL << 31, 0, 2};
  const std::vector<uint8_t> flags = {0, 1, 255, 0};
  step_.tables[0] = {"doc", flags.data(), IntegerType::kBool, {4}};
  EXPECT_EQ(bind(document_mask(), step_, "schedule").symbols[0].table->data,
            (std::vector<int32_t>{0, 1, 1, 0}));
  step_.tables[0] = {"doc", wide.data(), IntegerType::kInt64, {4}};
  EXPECT_EQ(bind_error(step_),
            "schedule: table \"doc\"[1] is 2147483648, expected a value that fits in 32 bits");
}

TEST_F(BindTest, RealTablesComeAtRunTimeAndIntegersStandForReals) {
  step_.tables.clear();
  step_.scalars = {{"cap", 2}};
  EXPECT_EQ(bind(score(), step_, "schedule").symbols[0].real, 2.0);
  step_.scalars = {{"cap", 0.25}};
  EXPECT_EQ(bind(score(), step_, "schedule").symbols[0].real, 0.25);
}

TEST_F(BindTest, NamesWhatIsMissingOrDoesNotFit) {
  Step step = step_;
  step.tables.clear();
  EXPECT_EQ(bind_error(step),
            "schedule: table \"doc\" is missing, expected an integer table with 1 axis; the "
            "expression uses it; none is given");
  step = step_;
  step.scalars = {{"with", 5}};
  EXPECT_EQ(bind_error(step),
            "schedule: scalar \"width\" is missing, expected a number; the expression uses it; "
            "given: with");
  step.scalars = {{"width", 0.5}};
  EXPECT_EQ(bind_error(step),
            "schedule: scalar \"width\" is 0.5, expected an integer; the expression uses it as "
            "one");
  step = step_;
  step.tables[0].shape = {2, 2};
  EXPECT_EQ(bind_error(step),
            "schedule: table \"doc\".shape is [2, 2], expected 1 axis; the expression looks it up "
            "by as many indices");
  step.tables[0].shape = {0};
  EXPECT_EQ(bind_error(step), "schedule: table \"doc\".shape is [0], expected 1 to 2^40 elements");
  step.tables[0].shape = {4};
  step.tables[0].data = nullptr;
  EXPECT_EQ(bind_error(step),
            "schedule: table \"doc\".data is null, expected the address of its first value");
  step = step_;
  step.tables[0].type = static_cast<IntegerType>(7);
  EXPECT_EQ(bind_error(step),
            "schedule: table \"doc\".type is 7, expected 0 (int32), 1 (int64) or 2 (bool)");
}

TEST_F(BindTest, RefusesWhatNobodyUses) {
  const Expression mask = document_mask(), with_score = score();
  const auto error = [&](const Step& step) {
    return error_of([&] { require_used(&mask, &with_score, step, "schedule"); });
  };
  EXPECT_EQ(error(step_), "no error");
  Step step = step_;
  step.scalars.emplace_back("cap", 1.5);
  EXPECT_EQ(error(step), "no error");
  step.scalars.emplace_back("cap", 1.5);
  EXPECT_EQ(error(step), "schedule: scalar \"cap\" is given twice, expected one of that name");
  step = step_;
  step.tables.push_back({"slope", ids_.data(), IntegerType::kInt32, {4}});
  EXPECT_EQ(error(step),
            "schedule: table \"slope\" is given, expected names that the mask or the score uses; "
            "real tables are given at run time, beside the tensors");
  EXPECT_NE(error_of([&] { require_used(nullptr, nullptr, step_, "schedule"); }), "no error");
}

TEST_F(BindTest, KnowsWhetherDataChanged) {
  const Expression mask = document_mask();
  const expr::Values values = bind(mask, step_, "schedule");
  EXPECT_TRUE(has_values(mask, values, step_));
  const std::vector<int64_t> wide = {0, 0, 1, 2};
  Step same = step_;
  same.tables[0] = {"doc", wide.data(), IntegerType::kInt64, {4}};
  EXPECT_TRUE(has_values(mask, values, same));
  Step other = step_;
  other.scalars = {{"width", 6}};
  EXPECT_FALSE(has_values(mask, values, other));
  ids_[3] = 3;
  EXPECT_FALSE(has_values(mask, values, step_));
  other = step_;
  other.tables.clear();
  EXPECT_FALSE(has_values(mask, values, other));
}

}  // namespace
}  // namespace tilewise
