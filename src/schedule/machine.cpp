// SPDX-License-Identifier: Apache-2.0
#include "schedule/machine.h"

namespace tilewise {

int64_t Machine::l1_bytes() const noexcept {
  return caches.l1_data > 0 ? caches.l1_data : 32 * 1024;
}

int64_t Machine::l2_bytes() const noexcept { return caches.l2 > 0 ? caches.l2 : 256 * 1024; }

const Machine& this_machine() {
  static const Machine machine = [] {
    Machine found;
    found.name = cpu_name();
    found.features = cpu_features();
    found.caches = cache_sizes();
    found.threads = allowed_threads();
    return found;
  }();
  return machine;
}

}  // namespace tilewise
