// SPDX-License-Identifier: Apache-2.0
#include "fuzz/fuzz_targets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tilewise::fuzz::TILEWISE_FUZZ_TARGET(data, size);
  return 0;
}
