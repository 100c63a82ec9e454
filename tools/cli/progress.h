// SPDX-License-Identifier: Apache-2.0
// One line on stderr that says how far long work is; only on a terminal, so that logs stay clean.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace tilewise::cli {

// For one thread. The line disappears when the object does.
class Progress {
 public:
  // total 0: the number of steps is unknown.
  explicit Progress(std::string title, int64_t total = 0);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void stage(const std::string& text);  // what happens now; shown at once
  void advance(int64_t steps = 1);      // shown at most ten times a second

 private:
  void show();

  std::string title_;
  std::string stage_;
  int64_t total_;
  int64_t done_ = 0;
  bool is_terminal_;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point shown_ = {};
};

}  // namespace tilewise::cli
