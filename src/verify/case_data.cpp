// SPDX-License-Identifier: Apache-2.0
#include "verify/case_data.h"

#include <algorithm>

#include "base/message.h"
#include "base/random.h"
#include "expr/ir.h"
#include "tilewise/error.h"
#include "verify/random_expression.h"

namespace tilewise::verify {
namespace {

template <class Named>
bool has(const std::vector<Named>& list, const std::string& name) {
  return std::any_of(list.begin(), list.end(),
                     [&name](const Named& entry) { return entry.name == name; });
}

// Integers are drawn from low to high. Of reals, low = 0 says that none is negative.
struct Table {
  std::string name;
  std::vector<int64_t> shape;
  int64_t low = -2, high = 30;
};

constexpr int64_t kPositions = 97, kBatch = 2, kHeads = 4;
constexpr int64_t kBlocks = (kPositions + 15) / 16;
constexpr int64_t kDistances = 2 * 15 + 1;

const std::vector<Table>& tables_of_rules() {
  static const std::vector<Table> tables = {
      {"start", {kPositions}, 0, 60},
      {"image", {kPositions}, -1, 3},
      {"level", {kPositions}, 0, 4},
      {"marked", {kPositions}, -8, 1},
      {"first", {kPositions}, 0, 60},
      {"last", {kPositions}, 30, 96},
      {"prefix_first", {kPositions}, 0, 60},
      {"prefix_last", {kPositions}, 30, 96},
      {"prefix", {kBatch}, 0, 60},
      {"valid", {kBatch, kPositions}, 0, 4},
      {"random", {kBlocks, kBlocks}, 0, 1},
      {"layout", {kHeads, kBlocks, kBlocks}, 0, 1},
      {"ancestor", {kPositions, kPositions}, 0, 1},
      {"bucket", {kDistances}, 0, 30},
      {"distance", {kBatch, kPositions, kPositions}, 0, 30},
      {"rate", {kHeads}, 0},
      {"kernel", {kHeads, 16}},
      {"bias", {kHeads, 13, 13}},
      {"content_position", {kBatch, kHeads, kPositions, kDistances}},
      {"position_content", {kBatch, kHeads, kPositions, kDistances}},
  };
  return tables;
}

Table known_table(const expr::Symbol& symbol) {
  const auto rank = static_cast<size_t>(symbol.rank);
  Table table{symbol.name, table_shape(symbol.name)};
  if (table.shape.size() == rank) return table;
  for (const Table& one : tables_of_rules()) {
    if (one.name == symbol.name && one.shape.size() == rank) return one;
  }
  throw InvalidArgument(message("verify", "table " + symbol.name, "unknown",
                                "doc, step (1 index), layout (2), tree (3), links (4); of reals "
                                "slope (1), bias (2); or a table of a rule",
                                "docs/rules.md lists those"));
}

// A stream of its own for every name, so that data does not depend on the rest of the expression.
uint64_t stream_of(const std::string& name) {
  uint64_t stream = 2;
  for (const char c : name) stream = stream * 131 + static_cast<unsigned char>(c);
  return stream;
}

}  // namespace

CaseData::CaseData(const Mask& mask, const Score& score, uint64_t seed) {
  add(mask.expression(), seed);
  add(score.expression(), seed);
}

void CaseData::add(const expr::Expression* expression, uint64_t seed) {
  if (expression == nullptr) return;
  for (const expr::Symbol& symbol : expression->graph->symbols()) {
    Random random(seed, stream_of(symbol.name));
    if (symbol.rank == 0) {
      if (has(scalars_, symbol.name)) continue;
      if (symbol.type == expr::Type::kInt)
        scalars_.emplace_back(symbol.name, random.between(0, 60));
      else
        scalars_.emplace_back(symbol.name, 1 + 4 * random.uniform());
    } else if (symbol.type == expr::Type::kReal) {
      if (has(real_tables_, symbol.name)) continue;
      const Table table = known_table(symbol);
      real_tables_.push_back({table.name, table.shape, table.low == 0});
    } else if (!has(tables_, symbol.name)) {
      const Table table = known_table(symbol);
      int64_t size = 1;
      for (const int64_t extent : table.shape) size *= extent;
      std::vector<int32_t>& data = memory_.emplace_back();
      const bool is_sorted = random.uniform() < 0.4;  // documents are
      int64_t value = std::max<int64_t>(table.low, 0);
      for (int64_t i = 0; i < size; ++i) {
        value = is_sorted ? std::min(value + (random.uniform() < 0.1 ? 1 : 0), table.high)
                          : random.between(table.low, table.high);
        data.push_back(static_cast<int32_t>(value));
      }
      tables_.push_back({symbol.name, data.data(), IntegerType::kInt32, table.shape});
    }
  }
}

void CaseData::add_to(Step& step) const {
  step.tables = tables_;
  step.scalars = scalars_;
}

}  // namespace tilewise::verify
