// SPDX-License-Identifier: Apache-2.0
// How much memory this process occupies, as Linux counts it.
#pragma once

#include <cstdint>
#include <string>

namespace tilewise::measure {

// 0 where the system does not tell.
[[nodiscard]] int64_t resident_bytes();
// The most that was ever resident since the start or the last reset.
[[nodiscard]] int64_t peak_resident_bytes();
// false where the system refuses (not Linux, a locked container).
bool reset_peak_resident();

// The value of a line like "VmHWM:   123 kB" in the text of /proc/self/status, in bytes; 0: none.
[[nodiscard]] int64_t status_bytes(const std::string& text, const std::string& key);

}  // namespace tilewise::measure
