// SPDX-License-Identifier: Apache-2.0
#include "verify/guarded_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "tilewise/error.h"

namespace tilewise::verify {

GuardedMemory::GuardedMemory(size_t bytes, Flush flush, uint8_t poison) : bytes_(bytes) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t inner = (bytes + page - 1) / page * page;
  mapped_ = inner + 2 * page;
  mapping_ = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  uint8_t* first = static_cast<uint8_t*>(mapping_) + page;
  const bool ready =
      mapping_ != MAP_FAILED && (inner == 0 || mprotect(first, inner, PROT_READ | PROT_WRITE) == 0);
  if (!ready) {
    const std::string reason = std::strerror(errno);
    if (mapping_ != MAP_FAILED) munmap(mapping_, mapped_);
    throw DeviceError("verify: " + std::to_string(mapped_) + " bytes of memory: " + reason);
  }
  data_ = flush == Flush::kLeft ? first : first + inner - bytes;
  std::memset(first, poison, inner);
}

GuardedMemory::~GuardedMemory() {
  if (mapping_ != nullptr) munmap(mapping_, mapped_);
}

void GuardedMemory::make_read_only() {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  if (mapped_ > 2 * page) {
    mprotect(static_cast<uint8_t*>(mapping_) + page, mapped_ - 2 * page, PROT_READ);
  }
}

GuardedMemory::GuardedMemory(GuardedMemory&& other) noexcept { *this = std::move(other); }

GuardedMemory& GuardedMemory::operator=(GuardedMemory&& other) noexcept {
  std::swap(mapping_, other.mapping_);
  std::swap(mapped_, other.mapped_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

}  // namespace tilewise::verify
