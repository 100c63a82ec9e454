#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A plain C compiler and pkg-config against the installed build; the C header must be C99.
set -euo pipefail
source_dir=$1 build_dir=$2 work=$3
rm -rf "$work" && mkdir -p "$work"
cmake --install "$build_dir" --prefix "$work/prefix" >"$work/install.log"
PKG_CONFIG_PATH=$(dirname "$(find "$work/prefix" -name tilewise.pc)")
export PKG_CONFIG_PATH
cc -std=c99 -Wall -Wextra -Wno-missing-field-initializers -Werror -pedantic $(pkg-config --cflags tilewise) \
  "$source_dir/examples/attention.c" -o "$work/attention_c" $(pkg-config --libs --static tilewise) -lm
LD_LIBRARY_PATH=$(pkg-config --variable=libdir tilewise) "$work/attention_c"
test "$(pkg-config --modversion tilewise)" = "$("$work/attention_c" | sed -n 's/^tilewise \([0-9.]*\) on.*/\1/p')"
