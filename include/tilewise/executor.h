// SPDX-License-Identifier: Apache-2.0
// Who runs the workers of a kernel. The default is an own small pool (default_executor()); an
// application with a pool of its own passes an adapter in PlanOptions.
#pragma once

#include "tilewise/export.h"

namespace tilewise {

class TILEWISE_API Executor {
 public:
  virtual ~Executor();
  // The most workers that run at the same time. Constant.
  [[nodiscard]] virtual int max_workers() const noexcept = 0;
  // Calls task(context, w) once for every w in [0, workers) and returns when all calls returned.
  // The calls may run at the same time or one after the other in any order; task does not throw.
  // Must be safe to call from several threads at once.
  virtual void run(int workers, void (*task)(void* context, int worker), void* context) = 0;
};

// The library's pool: as many workers as TILEWISE_NUM_THREADS says, else as the process may use
// (affinity, cgroup quota). Threads start at the first use; safe after fork().
[[nodiscard]] TILEWISE_API Executor& default_executor();

}  // namespace tilewise
