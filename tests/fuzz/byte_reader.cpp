// SPDX-License-Identifier: Apache-2.0
#include "fuzz/byte_reader.h"

namespace tilewise::fuzz {

uint64_t ByteReader::word() {
  uint64_t result = 0;
  for (int i = 0; i < 8; ++i) result = result << 8 | byte();
  return result;
}

int64_t ByteReader::extent(int64_t most) {
  const uint8_t kind = byte();
  if (kind < 240) return kind % (most + 1);
  if (kind < 250) {
    const uint64_t power = uint64_t{1} << (byte() % 64);
    return static_cast<int64_t>(power + static_cast<uint64_t>(kind % 3) - 1);
  }
  if (kind < 253) return -static_cast<int64_t>(byte());
  return static_cast<int64_t>(word());
}

}  // namespace tilewise::fuzz
