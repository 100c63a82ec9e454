#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the build, then builds and runs the examples against it as an outside project.
set -euo pipefail
source_dir=$1 build_dir=$2 work=$3
rm -rf "$work" && mkdir -p "$work"
cmake --install "$build_dir" --prefix "$work/prefix" >"$work/install.log"
cmake -S "$source_dir/examples" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_BUILD_TYPE=Release >"$work/configure.log"
cmake --build "$work/build" -j2 >"$work/build.log"
for example in attention any_mask training_step attention_c; do "$work/build/$example"; done
# A version we cannot satisfy must be refused.
sed 's/Tilewise 0.1 REQUIRED/Tilewise 99 REQUIRED/' "$source_dir/examples/CMakeLists.txt" >"$work/CMakeLists.txt"
if cmake -S "$work" -B "$work/refused" -DCMAKE_PREFIX_PATH="$work/prefix" >"$work/refused.log" 2>&1; then
  echo "find_package(Tilewise 99) succeeded" >&2
  exit 1
fi
