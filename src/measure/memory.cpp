// SPDX-License-Identifier: Apache-2.0
#include "measure/memory.h"

#include <cstdlib>
#include <fstream>
#include <iterator>

namespace tilewise::measure {
namespace {

std::string status_text() {
  std::ifstream file("/proc/self/status");
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace

int64_t status_bytes(const std::string& text, const std::string& key) {
  const std::string line_start = "\n" + key + ":";
  const size_t at = ("\n" + text).find(line_start);
  if (at == std::string::npos) return 0;
  return std::strtoll(text.c_str() + at + key.size() + 1, nullptr, 10) * 1024;
}

int64_t resident_bytes() { return status_bytes(status_text(), "VmRSS"); }
int64_t peak_resident_bytes() { return status_bytes(status_text(), "VmHWM"); }

bool reset_peak_resident() {
  std::ofstream file("/proc/self/clear_refs");
  file << "5" << std::flush;  // 5: the peak becomes what is resident now
  return file.good();
}

}  // namespace tilewise::measure
