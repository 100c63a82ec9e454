// SPDX-License-Identifier: Apache-2.0
#include "measure/peak.h"

#include <algorithm>
#include <string>

#include "base/cpu_features.h"
#include "base/message.h"
#include "measure/peak_loops.h"
#include "measure/rounds.h"
#include "tilewise/error.h"

namespace tilewise::measure {
namespace {

void require_isa(Isa isa) {
  const CpuFeatures& cpu = cpu_features();
  const bool supported[] = {true, cpu.avx2_fma_f16c, cpu.avx512, cpu.avx512 && cpu.avx512_bf16,
                            cpu.amx_bf16};
  static constexpr const char* kNames[] = {"scalar", "avx2", "avx512", "avx512bf16", "amx"};
  const auto index = static_cast<size_t>(isa);
  if (supported[index]) return;
  throw InvalidArgument(message("peak_gflops", "isa", kNames[index], "one that this CPU has"));
}

}  // namespace

double peak_gflops(Isa isa, DType dtype, int threads, double seconds) {
  require_isa(isa);
  const PeakLoop loop = peak_loop(isa, dtype);
  // One round is a tenth of the time asked for, and not so short that starting threads counts.
  const double round_seconds = std::max(seconds / 10, 0.002);
  int64_t iterations = 1 << 14;
  while (time_threads(1, [&](int) { (void)loop.run(iterations); }) < round_seconds / 2)
    iterations *= 2;
  const Samples rounds = time_rounds(
      [&] { return time_threads(threads, [&](int) { (void)loop.run(iterations); }); }, 3, seconds);
  return loop.flops_per_iteration * static_cast<double>(iterations) * threads / rounds.min() / 1e9;
}

}  // namespace tilewise::measure
