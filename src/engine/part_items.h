// SPDX-License-Identifier: Apache-2.0
// Items of all parts of a schedule, numbered one part after another.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace tilewise {

class PartItems {
 public:
  struct Place {
    int64_t part;
    int64_t item;  // of the part
  };
  // Of the next part.
  void add(int64_t items) { ends_.push_back(total() + items); }
  [[nodiscard]] int64_t total() const noexcept { return ends_.empty() ? 0 : ends_.back(); }
  // The number of the part's first item.
  [[nodiscard]] int64_t first(int64_t part) const noexcept {
    return part == 0 ? 0 : ends_[static_cast<size_t>(part) - 1];
  }
  [[nodiscard]] int64_t end(int64_t part) const noexcept {
    return ends_[static_cast<size_t>(part)];
  }
  [[nodiscard]] int64_t parts() const noexcept { return static_cast<int64_t>(ends_.size()); }
  [[nodiscard]] Place find(int64_t item) const noexcept {
    const int64_t part = std::upper_bound(ends_.begin(), ends_.end(), item) - ends_.begin();
    return {part, item - first(part)};
  }

 private:
  std::vector<int64_t> ends_;
};

}  // namespace tilewise
