#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The source tree inside another project, as a shared library: only public symbols leave it.
set -euo pipefail
source_dir=$1 work=$3
mkdir -p "$work/project"
cat >"$work/project/CMakeLists.txt" <<EOF
cmake_minimum_required(VERSION 3.25)
project(Outside LANGUAGES C CXX)
set(BUILD_SHARED_LIBS ON)
add_subdirectory("$source_dir" tilewise)
add_executable(attention "$source_dir/examples/attention.cpp")
target_link_libraries(attention PRIVATE Tilewise::tilewise)
EOF
cmake -S "$work/project" -B "$work/build" -DCMAKE_BUILD_TYPE=Release >"$work/configure.log"
cmake --build "$work/build" -j2 >"$work/build.log"
"$work/build/attention"
library=$(find "$work/build" -name 'libtilewise.so' | head -n 1)
foreign=$(nm -D --defined-only -C "$library" | awk '$2 ~ /[TBDR]/' | cut -d' ' -f3- | grep -v -E '^(tilewise|typeinfo.* for tilewise|vtable for tilewise)' || true)
if [ -n "$foreign" ]; then
  echo "symbols that are not ours leave the library:" >&2
  echo "$foreign" >&2
  exit 1
fi
