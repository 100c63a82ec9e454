// SPDX-License-Identifier: Apache-2.0
// Memory between two pages that may not be touched. The block lies flush against one of them, so
// that reading or writing one byte too far is a segmentation fault, not luck.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tilewise::verify {

enum class Flush { kLeft, kRight };  // which end of the block touches its guard page

class GuardedMemory {
 public:
  // Every byte is set to `poison`. Throws DeviceError if the system gives no memory.
  GuardedMemory(size_t bytes, Flush flush, uint8_t poison = 0xff);
  ~GuardedMemory();
  GuardedMemory(GuardedMemory&& other) noexcept;
  GuardedMemory& operator=(GuardedMemory&& other) noexcept;

  // From now on writing is a segmentation fault too.
  void make_read_only();

  [[nodiscard]] uint8_t* data() const noexcept { return data_; }
  [[nodiscard]] size_t bytes() const noexcept { return bytes_; }

 private:
  void* mapping_ = nullptr;
  size_t mapped_ = 0;
  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace tilewise::verify
