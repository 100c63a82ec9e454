// SPDX-License-Identifier: Apache-2.0
// The doors through which bytes of strangers come in. Whatever the bytes are, each function
// returns; a crash, a sanitizer report or an exception other than InvalidArgument is a bug.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tilewise::fuzz {

// The bytes are a safetensors file.
void fuzz_safetensors(const uint8_t* data, size_t size);
// The bytes choose a problem, a step, tensor descriptors and their contents.
void fuzz_problem(const uint8_t* data, size_t size);
// The bytes are the text of a mask and of a score.
void fuzz_expression(const uint8_t* data, size_t size);

}  // namespace tilewise::fuzz
