// SPDX-License-Identifier: Apache-2.0
#include "verify/layout.h"

#include <algorithm>
#include <cctype>

#include "base/message.h"
#include "tilewise/error.h"

namespace tilewise::verify {
namespace {

constexpr const char* kAxes = "bhsd";

int axis_of(char letter) { return static_cast<int>(std::string(kAxes).find(letter)); }

[[noreturn]] void reject(const std::string& text) {
  throw InvalidArgument(message("verify", "layout", "\"" + text + "\"",
                                "the letters bhsd in some order, then any of ~x *x +g /k"));
}

}  // namespace

std::string layout_text(const Layout& layout) {
  std::string text = layout.order;
  for (char axis : layout.reversed) text.append("~").push_back(axis);
  for (char axis : layout.broadcast) text.append("*").push_back(axis);
  if (layout.gap != 0) text.append("+").append(std::to_string(layout.gap));
  if (layout.step != 1) text.append("/").append(std::to_string(layout.step));
  return text;
}

Layout layout_from_text(const std::string& text) {
  Layout layout;
  layout.order = text.substr(0, 4);
  std::string sorted = layout.order;
  std::sort(sorted.begin(), sorted.end());
  if (sorted != "bdhs") reject(text);
  for (size_t at = 4; at < text.size();) {
    const char kind = text[at++];
    if (kind == '~' || kind == '*') {
      if (at >= text.size() || axis_of(text[at]) < 0) reject(text);
      (kind == '~' ? layout.reversed : layout.broadcast) += text[at++];
    } else if (kind == '+' || kind == '/') {
      size_t end = at;
      while (end < text.size() && std::isdigit(static_cast<unsigned char>(text[end]))) ++end;
      if (end == at || end - at > 4) reject(text);
      const int64_t number = std::stoll(text.substr(at, end - at));
      if (kind == '/' && number == 0) reject(text);
      (kind == '+' ? layout.gap : layout.step) = number;
      at = end;
    } else {
      reject(text);
    }
  }
  return layout;
}

Placement place(const Layout& layout, const int64_t (&shape)[4]) {
  Placement result = {};
  int64_t stride = layout.step;
  int64_t last = 0;  // index of the last element
  for (int level = 3; level >= 0; --level) {
    const char letter = layout.order[level];
    const int axis = axis_of(letter);
    if (layout.broadcast.find(letter) != std::string::npos) continue;
    const int64_t extent = std::max<int64_t>(shape[axis], 1);
    const bool is_reversed = layout.reversed.find(letter) != std::string::npos;
    result.strides[axis] = is_reversed ? -stride : stride;
    if (is_reversed) result.origin += (extent - 1) * stride;
    last += (extent - 1) * stride;
    stride *= extent;
    if (level == 3) stride += layout.gap;
  }
  const bool is_empty = std::count(shape, shape + 4, 0) > 0;
  result.elements = is_empty ? 0 : last + 1;
  if (is_empty) result.origin = 0;
  return result;
}

}  // namespace tilewise::verify
