// SPDX-License-Identifier: Apache-2.0
// Data for the names in the mask and the score of a case, drawn from its seed: for the tables of
// random_expression.h and for those of every rule in docs/rules.md, the latter with room for
// positions below 97, 2 batch entries, 4 heads, blocks of 16 or more, and distances up to 15.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tilewise/problem.h"
#include "tilewise/step.h"

namespace tilewise::verify {

// Integer tables and scalars of one case; the tables of its step point into it.
class CaseData {
 public:
  // Throws InvalidArgument for a table of which neither knows the extents.
  CaseData(const Mask& mask, const Score& score, uint64_t seed);
  CaseData(const CaseData&) = delete;
  CaseData& operator=(const CaseData&) = delete;

  void add_to(Step& step) const;
  struct RealTable {
    std::string name;
    std::vector<int64_t> shape;
    bool is_at_least_zero = false;
  };
  [[nodiscard]] const std::vector<RealTable>& real_tables() const noexcept { return real_tables_; }

 private:
  void add(const expr::Expression* expression, uint64_t seed);

  std::vector<std::vector<int32_t>> memory_;
  std::vector<IntegerTable> tables_;
  std::vector<NamedScalar> scalars_;
  std::vector<RealTable> real_tables_;
};

}  // namespace tilewise::verify
