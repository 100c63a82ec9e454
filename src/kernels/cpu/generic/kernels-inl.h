// SPDX-License-Identifier: Apache-2.0
// A Kernel from a vocabulary.
#pragma once

#include "kernels/cpu/generic/flash_forward-inl.h"
#include "kernels/cpu/generic/geometry-inl.h"
#include "kernels/cpu/kernel_table.h"

namespace {

template <class X>
constexpr tilewise::Kernel make_kernel(const char* arithmetic) {
  tilewise::Kernel kernel{};
  kernel.arithmetic = arithmetic;
  kernel.geometry = propose_geometry<X>;
  kernel.query_unit = kWidth<X>;
  kernel.forward_scratch_bytes = forward_scratch_bytes<X>;
  kernel.forward = flash_forward<X>;
  return kernel;
}

}  // namespace
