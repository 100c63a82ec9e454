// SPDX-License-Identifier: Apache-2.0
// Items claimed in ascending order from one atomic counter. Allocates nothing.
#pragma once

#include <atomic>
#include <cstdint>

#include "tilewise/executor.h"

namespace tilewise {

// Calls body(item, worker) for every item in [0, items); counter is any memory of 8 bytes. Items
// start in ascending order, and a worker finishes one before it claims the next: an item may wait
// for a lower one. body does not throw.
template <class Body>
void run_items(Executor& executor, int workers, int64_t items, int64_t* counter, const Body& body) {
  struct Context {
    const Body& body;
    int64_t items;
    int64_t* counter;
  } context{body, items, counter};
  *counter = 0;
  const auto task = [](void* pointer, int worker) {
    const Context& work = *static_cast<Context*>(pointer);
    std::atomic_ref<int64_t> next(*work.counter);
    for (int64_t item = next.fetch_add(1, std::memory_order_relaxed); item < work.items;
         item = next.fetch_add(1, std::memory_order_relaxed)) {
      work.body(item, worker);
    }
  };
  if (workers == 1) {
    task(&context, 0);
  } else {
    executor.run(workers, task, &context);
  }
}

}  // namespace tilewise
