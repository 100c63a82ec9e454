// SPDX-License-Identifier: Apache-2.0
// The Python that has what the scripts of this repository import.
#pragma once

#include <cstdlib>
#include <string>

namespace tilewise::cli {

// modules: "numpy, matplotlib". Empty if there is none.
inline std::string python_with(const std::string& modules) {
  for (const std::string python : {TILEWISE_SOURCE_DIR "/.venv/bin/python", "python3"}) {
    if (std::system((python + " -c 'import " + modules + "' 2>/dev/null").c_str()) == 0) {
      return python;
    }
  }
  return "";
}

}  // namespace tilewise::cli
