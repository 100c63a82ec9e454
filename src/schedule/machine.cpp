// SPDX-License-Identifier: Apache-2.0
#include "schedule/machine.h"

namespace tilewise {

int64_t Machine::fast_words(int64_t bytes) const noexcept {
  constexpr int64_t kUnknownL2 = 256 * 1024;
  return (caches.l2 > 0 ? caches.l2 : kUnknownL2) / bytes;
}

Machine this_machine() {
  Machine machine;
  machine.name = cpu_name();
  machine.features = cpu_features();
  machine.caches = cache_sizes();
  machine.threads = allowed_threads();
  return machine;
}

}  // namespace tilewise
