// SPDX-License-Identifier: Apache-2.0
// Turns the fuzzer's bytes into numbers; zeros after the end.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tilewise::fuzz {

class ByteReader {
 public:
  ByteReader(const uint8_t* data, size_t size) : next_(data), end_(data + size) {}

  uint8_t byte() { return next_ == end_ ? 0 : *next_++; }
  uint64_t word();                                         // 8 bytes
  int64_t below(int64_t bound) { return byte() % bound; }  // bound <= 256
  bool one_in(int bound) { return byte() % bound == 1; }   // false after the end
  // Mostly 0..most, now and then a number near a power of two, negative, or anything.
  int64_t extent(int64_t most);

 private:
  const uint8_t* next_;
  const uint8_t* end_;
};

}  // namespace tilewise::fuzz
