// SPDX-License-Identifier: Apache-2.0
// A Kernel from a vocabulary, or from one for attention and another for the rest.
#pragma once

#include "kernels/cpu/generic/flash_backward-inl.h"
#include "kernels/cpu/generic/flash_decode-inl.h"
#include "kernels/cpu/generic/flash_forward-inl.h"
#include "kernels/cpu/generic/geometry-inl.h"
#include "kernels/cpu/generic/matmul-inl.h"
#include "kernels/cpu/generic/softmax_rows-inl.h"
#include "kernels/cpu/kernel_table.h"

namespace {

template <class Flash, class X = Flash>
constexpr tilewise::Kernel make_kernel(const char* arithmetic) {
  tilewise::Kernel kernel{};
  kernel.arithmetic = arithmetic;
  kernel.limits = kTileLimits<Flash>;
  kernel.tile_bytes = tile_bytes<Flash>;
  kernel.forward_scratch_bytes = forward_scratch_bytes<Flash>;
  kernel.forward = flash_forward<Flash>;
  kernel.decode_scratch_bytes = decode_scratch_bytes<Flash>;
  kernel.decode = flash_decode<Flash>;
  kernel.backward_scratch_bytes = backward_scratch_bytes<Flash>;
  kernel.backward_prepare = backward_prepare<Flash>;
  kernel.backward = flash_backward<Flash>;
  kernel.matmul_scratch_bytes = matmul_scratch_bytes<X>;
  kernel.matmul = matmul<X>;
  kernel.rows_scratch_bytes = rows_scratch_bytes<X>;
  kernel.mask_rows = mask_rows<X>;
  kernel.softmax_rows = softmax_rows<X>;
  kernel.softmax_backward_rows = softmax_backward_rows<X>;
  kernel.sum_rows = sum_rows<X>;
  return kernel;
}

}  // namespace
