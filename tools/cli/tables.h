// SPDX-License-Identifier: Apache-2.0
// Masks and scores, and the data for the names in them: --mask, --score, --table name=FILE:tensor,
// --scalar name=value.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "io/array.h"
#include "tilewise/plan.h"

namespace tilewise::cli {

// After parsing: every tensor that was named, read and checked.
class Tables {
 public:
  struct Entry {
    std::string name;
    std::shared_ptr<const io::Array> array;
    [[nodiscard]] bool is_real() const { return array->dtype().has_value(); }
  };

  void add_table(const std::string& text);   // "name=FILE:tensor"
  void add_scalar(const std::string& text);  // "name=value"

  // Integer tables and scalars, for a step. The views live as long as this.
  void give(Step& step) const;
  // Real tables, for a run.
  [[nodiscard]] std::vector<NamedTensor> real_tables() const;
  [[nodiscard]] const std::vector<Entry>& entries() const noexcept { return entries_; }

 private:
  std::vector<Entry> entries_;
  std::vector<NamedScalar> scalars_;
};

// A table of n axes as the last n axes of a tensor.
[[nodiscard]] Tensor table_tensor(const io::Array& array);

// --mask, --score, --table, --scalar. In a score a table is of integers where its tensor is.
void add_rules(CLI::App& app, Mask& mask, Score& score, Tables& tables);

}  // namespace tilewise::cli
