// SPDX-License-Identifier: Apache-2.0
// safetensors_copy IN OUT: reads everything and writes everything, for safetensors_interop.py.
#include <cstdio>
#include <vector>

#include "io/safetensors.h"
#include "tilewise/error.h"

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  try {
    const tilewise::io::SafetensorsFile file(argv[1]);
    std::vector<tilewise::io::Array> arrays;
    for (const auto& tensor : file.tensors()) arrays.push_back(file.load(tensor));
    std::vector<tilewise::io::NamedArray> named;
    for (size_t i = 0; i < arrays.size(); ++i) {
      named.push_back({file.tensors()[i].name, &arrays[i]});
    }
    tilewise::io::write_safetensors(argv[2], named, file.metadata());
  } catch (const tilewise::Error& error) {
    std::fprintf(stderr, "safetensors_copy: %s\n", error.what());
    return 1;
  }
  return 0;
}
