// SPDX-License-Identifier: Apache-2.0
#include "cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

namespace tilewise::cli {
namespace {

constexpr const char* kClearLine = "\r\x1b[K";
constexpr std::chrono::milliseconds kInterval{100};

}  // namespace

Progress::Progress(std::string title, int64_t total)
    : title_(std::move(title)),
      total_(total),
      is_terminal_(::isatty(STDERR_FILENO) == 1),
      start_(std::chrono::steady_clock::now()) {}

Progress::~Progress() {
  if (is_terminal_) fmt::print(stderr, "{}", kClearLine);
}

void Progress::stage(const std::string& text) {
  stage_ = text;
  show();
}

void Progress::advance(int64_t steps) {
  done_ += steps;
  if (std::chrono::steady_clock::now() - shown_ >= kInterval) show();
}

void Progress::show() {
  if (!is_terminal_) return;
  shown_ = std::chrono::steady_clock::now();
  const double seconds = std::chrono::duration<double>(shown_ - start_).count();
  std::string line = title_;
  if (total_ > 0) line += fmt::format(" {}/{} ({} %)", done_, total_, done_ * 100 / total_);
  if (total_ == 0 && done_ > 0) line += fmt::format(" {}", done_);
  if (!stage_.empty()) line += ": " + stage_;
  fmt::print(stderr, "{}{} [{:.0f} s]", kClearLine, line, seconds);
  std::fflush(stderr);
}

}  // namespace tilewise::cli
