#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# python.sh <source dir> <script> [arguments]: runs a script that needs numpy and safetensors with the
# repository's .venv, and fails there if a package is missing; without .venv it tries the
# system's Python and says "skipped" (77) if that one lacks them.
source_dir=$1
shift
if [ -x "$source_dir/.venv/bin/python" ]; then
  exec "$source_dir/.venv/bin/python" "$@"
fi
if ! python3 -c 'import numpy, safetensors' 2>/dev/null; then
  echo "skipped: no .venv, and no python3 with numpy and safetensors" >&2
  exit 77
fi
exec python3 "$@"
