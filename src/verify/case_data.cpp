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

std::vector<int64_t> known_shape(const expr::Symbol& symbol) {
  std::vector<int64_t> shape = table_shape(symbol.name);
  if (static_cast<int>(shape.size()) == symbol.rank) return shape;
  throw InvalidArgument(message("verify", "table " + symbol.name, "unknown",
                                "doc, step (1 index), layout (2), tree (3), links (4); of reals "
                                "slope (1), bias (2)"));
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
      if (!has(real_tables_, symbol.name))
        real_tables_.push_back({symbol.name, known_shape(symbol)});
    } else if (!has(tables_, symbol.name)) {
      const std::vector<int64_t> shape = known_shape(symbol);
      int64_t size = 1;
      for (const int64_t extent : shape) size *= extent;
      std::vector<int32_t>& data = memory_.emplace_back();
      const bool is_sorted = random.uniform() < 0.4;  // documents are
      int64_t value = 0;
      for (int64_t i = 0; i < size; ++i) {
        value = is_sorted ? value + (random.uniform() < 0.1 ? 1 : 0) : random.between(-2, 30);
        data.push_back(static_cast<int32_t>(value));
      }
      tables_.push_back({symbol.name, data.data(), IntegerType::kInt32, shape});
    }
  }
}

void CaseData::add_to(Step& step) const {
  step.tables = tables_;
  step.scalars = scalars_;
}

}  // namespace tilewise::verify
