// SPDX-License-Identifier: Apache-2.0
#pragma once

// Register blocks are arrays of vectors in loops of constant length: inlined and unrolled they
// live in registers, not inlined they live on the stack and everything is ten times slower.
#define TILEWISE_INLINE static inline __attribute__((always_inline))
#define TILEWISE_UNROLL _Pragma("GCC unroll 16")
