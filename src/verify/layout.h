// SPDX-License-Identifier: Apache-2.0
// How a tensor lies in memory, as one word: the order of its axes from the outermost on (b, h, s,
// d), then any of
//   ~x   axis x runs backwards (negative stride)
//   *x   axis x is broadcast (stride 0)
//   +g   g unused elements after every run of the innermost axis
//   /k   the innermost stride is k
// Examples: bhsd, bshd, bhds~s, bhsd*h+3.
#pragma once

#include <cstdint>
#include <string>

namespace tilewise::verify {

struct Layout {
  std::string order = "bhsd";
  std::string reversed = {};   // letters of axes
  std::string broadcast = {};  // letters of axes
  int64_t gap = 0;
  int64_t step = 1;
};

[[nodiscard]] std::string layout_text(const Layout& layout);
// Throws InvalidArgument.
[[nodiscard]] Layout layout_from_text(const std::string& text);

// Strides, the index of element [0, 0, 0, 0], and the elements that the allocation must have.
struct Placement {
  int64_t strides[4];
  int64_t origin = 0;
  int64_t elements = 0;
};
[[nodiscard]] Placement place(const Layout& layout, const int64_t (&shape)[4]);

}  // namespace tilewise::verify
