// SPDX-License-Identifier: Apache-2.0
#include "engine/score_tables.h"

#include <gtest/gtest.h>

#include <array>
#include <functional>

#include "engine/score_programs.h"
#include "problem/bind.h"
#include "tilewise/error.h"

namespace tilewise {
namespace {

std::vector<ScoreTable> tables_of(const char* text, const Step& step) {
  const Score score = score_from_text(text);
  const expr::Values values = bind(*score.expression(), step, "schedule");
  return make_score_programs(score, values, step, 3, "schedule").tables;
}

TEST(ScoreTables, RealTablesAreBySymbol) {
  const std::vector<ScoreTable> known =
      tables_of("s * c[q] + a[h]", {.query_length = 6, .kv_length = 8});
  float memory[16];
  const Tensor a = Tensor::bhsd(memory, DType::kFloat32, 1, 1, 1, 3);
  const Tensor c = Tensor::bhsd(memory + 3, DType::kFloat32, 1, 1, 1, 6);
  const RealTables tables(known, {{"a", a}, {"c", c}});
  for (const ScoreTable& table : known)
    EXPECT_EQ(tables.by_symbol[table.symbol].data, table.name == "a" ? a.data : c.data);
}

// A valid call of a score with tables a [2, 4] and c [5].
struct Call {
  std::vector<ScoreTable> known =
      tables_of("s + a[h // 2, q] + c[k]", {.query_length = 4, .kv_length = 5});
  std::array<double, 64> memory{};
  BackwardTensors tensors;
  Call() {
    tensors.query = Tensor::bhsd(memory.data() + 40, DType::kFloat32, 1, 1, 1, 2);
    tensors.grad_query = Tensor::bhsd(memory.data() + 42, DType::kFloat32, 1, 1, 1, 2);
    tensors.tables = {{"a", Tensor::bhsd(memory.data(), DType::kBFloat16, 1, 1, 2, 4)},
                      {"c", Tensor::bhsd(memory.data() + 8, DType::kFloat64, 1, 1, 1, 5)}};
    tensors.grad_tables = {{"c", Tensor::bhsd(memory.data() + 16, DType::kFloat32, 1, 1, 1, 5)},
                           {"a", Tensor::bhsd(memory.data() + 24, DType::kFloat32, 1, 1, 2, 4)}};
  }
};

TEST(ScoreTables, TablesThatFitAreAccepted) {
  Call call;
  EXPECT_NO_THROW(validate_tables(call.known, call.tensors, "backward"));
  call.tensors.grad_tables.clear();
  EXPECT_NO_THROW(validate_tables(call.known, call.tensors, "backward"));
  call.tensors.tables[1].tensor.strides[3] = 0;  // an input may repeat its elements
  EXPECT_NO_THROW(validate_tables(call.known, call.tensors, "backward"));
}

TEST(ScoreTables, WhatDoesNotFitIsNamed) {
  struct Wrong {
    std::function<void(BackwardTensors&)> spoil;
    const char* text;
  };
  const Wrong all[] = {
      {[](auto& t) { t.tables.pop_back(); },
       "backward: table \"c\" is missing, expected a tensor of real numbers with 1 axis; the score "
       "uses it"},
      {[](auto& t) { t.tables[1].name = "a"; }, "backward: table \"a\" is given twice, "},
      {[](auto& t) { t.tables[1].name = "d"; }, "backward: table \"d\" is given, "},
      {[](auto& t) { t.tables[0].tensor.shape[3] = 3; },
       "backward: table \"a\".shape is [1, 1, 2, 3], expected at least 4 in axis 3; "},
      {[](auto& t) { t.tables[0].tensor.shape[1] = 2; },
       "backward: table \"a\".shape is [1, 2, 2, 4], expected extent 1 in the first 2 axes; "},
      {[](auto& t) { t.tables[0].tensor.data = nullptr; }, "backward: table \"a\".data is null, "},
      {[](auto& t) { t.tables[0].tensor.dtype = static_cast<DType>(9); },
       "backward: table \"a\".dtype is code 9, "},
      {[](auto& t) { t.grad_query.data = t.tables[0].tensor.data; },
       "backward: grad_query is in the memory of table \"a\", expected memory of its own"},
      {[](auto& t) { t.grad_tables[0].name = "d"; }, "backward: grad_table \"d\" is given, "},
      {[](auto& t) { t.grad_tables[0].name = "a"; }, "backward: grad_table \"a\" is given twice, "},
      {[](auto& t) { t.grad_tables[0].tensor.dtype = DType::kFloat64; },
       "backward: grad_table \"c\".dtype is fp64, expected fp32"},
      {[](auto& t) { t.grad_tables[0].tensor.shape[3] = 6; },
       "backward: grad_table \"c\".shape is [1, 1, 1, 6], expected [1, 1, 1, 5]; as the table"},
      {[](auto& t) { t.grad_tables[1].tensor.data = nullptr; },
       "backward: grad_table \"a\".data is null, "},
      {[](auto& t) {
         t.grad_tables[1].tensor.data = static_cast<char*>(t.grad_tables[1].tensor.data) + 1;
       },
       "backward: grad_table \"a\".data is not aligned, expected a multiple of 4 bytes"},
      {[](auto& t) { t.grad_tables[0].tensor.strides[3] = 0; },
       "backward: grad_table \"c\".strides is "},
      {[](auto& t) { t.grad_tables[0].tensor.data = t.query.data; },
       "backward: grad_table \"c\" is in the memory of query, "},
      {[](auto& t) { t.grad_tables[0].tensor.data = t.grad_query.data; },
       "backward: grad_table \"c\" is in the memory of grad_query, "},
      {[](auto& t) { t.grad_tables[0].tensor.data = t.tables[0].tensor.data; },
       "backward: grad_table \"c\" is in the memory of table \"a\", "},
      {[](auto& t) { t.grad_tables[1].tensor.data = t.grad_tables[0].tensor.data; },
       "backward: grad_table \"a\" is in the memory of grad_table \"c\", "},
  };
  for (const Wrong& wrong : all) {
    Call call;
    wrong.spoil(call.tensors);
    try {
      validate_tables(call.known, call.tensors, "backward");
      ADD_FAILURE() << "accepted: " << wrong.text;
    } catch (const InvalidArgument& error) {
      EXPECT_EQ(std::string(error.what()).substr(0, std::string(wrong.text).size()), wrong.text);
    }
  }
}

}  // namespace
}  // namespace tilewise
