# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Sourced by ./run and ./test, which call `bootstrap run`, `bootstrap test`, or `bootstrap fuzz` (with
# clang and its libFuzzer): makes sure that what the build needs is there. On Debian and Ubuntu it
# installs what is missing with apt-get, as root or through sudo without a password; anywhere else it
# prints the line to run and returns 1. Python packages go into .venv at the root of the repository.
# Does nothing where nothing is missing.

bootstrap_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# at_least <version> <major> <minor>
at_least() {
  local major minor
  IFS=. read -r major minor _ <<<"$1"
  [[ ${major:-0} =~ ^[0-9]+$ ]] || return 1
  minor=${minor:-0}
  minor=${minor%%[!0-9]*}
  ((major > $2 || (major == $2 && ${minor:-0} >= $3)))
}

has_header() {
  local folder
  for folder in /usr/include /usr/local/include /opt/homebrew/include; do
    [[ -e $folder/$1 ]] && return 0
  done
  return 1
}

# g++ 12 or clang 15, under the name that CMake takes.
has_compiler() {
  local version
  version=$(c++ --version 2>/dev/null) || return 1
  if [[ $version =~ clang\ version\ ([0-9.]+) ]]; then
    at_least "${BASH_REMATCH[1]}" 15 0
  else
    at_least "$(c++ -dumpfullversion -dumpversion)" 12 0
  fi
}

has_fuzzer_runtime() { compgen -G '/usr/lib/llvm-*/lib/clang/*/lib/*/libclang_rt.fuzzer*' >/dev/null; }

# Prints the Debian packages that are missing, for `run`, `test` or `fuzz`.
missing_packages() {
  local version
  # CXX names a compiler of the user's choice: not ours to replace.
  [[ -n ${CXX:-} ]] || has_compiler || echo g++
  version=$(cmake --version 2>/dev/null)
  version=${version#cmake version }
  at_least "${version:-0}" 3 25 || echo cmake
  command -v ninja >/dev/null || echo ninja-build
  command -v git >/dev/null || echo git
  command -v pkg-config >/dev/null || echo pkg-config
  has_header fmt/core.h || echo libfmt-dev
  has_header CLI/CLI.hpp || echo libcli11-dev
  has_header nlohmann/json.hpp || echo nlohmann-json3-dev
  has_header gtest/gtest.h || echo libgtest-dev
  if ! venv_is_current; then
    command -v python3 >/dev/null || echo python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
  fi
  if [[ $1 == fuzz ]]; then
    command -v clang++ >/dev/null || echo clang
    has_fuzzer_runtime || echo libclang-rt-dev
  fi
}

install_packages() {
  local packages=("$@") as_root=()
  local line="apt-get update && apt-get install -y --no-install-recommends ${packages[*]}"
  if ! command -v apt-get >/dev/null; then
    echo "bootstrap: missing: ${packages[*]} (Debian's names). Install them with this system's tools." >&2
    return 1
  fi
  if [[ $(id -u) != 0 ]]; then
    if ! sudo -n true 2>/dev/null; then
      echo "bootstrap: missing: ${packages[*]}. Run this as root, then start again:" >&2
      echo "  $line" >&2
      return 1
    fi
    as_root=(sudo)
  fi
  echo "bootstrap: installing ${packages[*]}"
  local log
  log=$(mktemp)
  if ! { "${as_root[@]}" apt-get update -q &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
      "${packages[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "bootstrap: apt-get failed (whole output: $log). The line was:" >&2
    echo "  $line" >&2
    return 1
  fi
  rm -f "$log"
}

venv_stamp() { cksum <"$bootstrap_root/tools/dev/requirements.txt"; }

venv_is_current() {
  local venv=$bootstrap_root/.venv
  [[ -x $venv/bin/python && -e $venv/requirements.stamp && $(<"$venv/requirements.stamp") == "$(venv_stamp)" ]]
}

make_venv() {
  local venv=$bootstrap_root/.venv log
  log=$(mktemp)
  echo "bootstrap: making .venv with the packages of tools/dev/requirements.txt"
  if ! { python3 -m venv "$venv" &&
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input -q \
      -r "$bootstrap_root/tools/dev/requirements.txt"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "bootstrap: could not install the packages of tools/dev/requirements.txt into .venv;" \
      "this needs Python 3.11 or newer and access to PyPI" >&2
    return 1
  fi
  rm -f "$log"
  venv_stamp >"$venv/requirements.stamp"
}

bootstrap() {
  local packages
  mapfile -t packages < <(missing_packages "$1")
  if ((${#packages[@]} > 0)); then
    install_packages "${packages[@]}" || return 1
    mapfile -t packages < <(missing_packages "$1")
    if ((${#packages[@]} > 0)); then
      echo "bootstrap: still missing or too old after installation: ${packages[*]}" \
        "(g++ 12, CMake 3.25 and Python 3.11 are in Debian 12 and Ubuntu 24.04)" >&2
      return 1
    fi
  fi
  venv_is_current || make_venv
}

peer_packages() { grep -v '^#' "$bootstrap_root/bench/peers-requirements.txt" | tr '\n' ' '; }

peers_are_installed() {
  local stamp=$bootstrap_root/.venv/peers.stamp
  [[ -e $stamp && $(<"$stamp") == "$(cksum <"$bootstrap_root/bench/peers-requirements.txt")" ]]
}

# After bootstrap: what bench/peers.py races against. Only on request: it is 1.4 GB.
bootstrap_peers() {
  peers_are_installed && return 0
  local pip=("$bootstrap_root/.venv/bin/python" -m pip install --disable-pip-version-check --no-input -q)
  # The build for CPUs has a tenth of the size of PyPI's, which serves where this index cannot be reached.
  "${pip[@]}" --retries 0 --index-url https://download.pytorch.org/whl/cpu \
    "$(peer_packages | grep -o 'torch==[^ ]*')" ||
    echo "bootstrap: torch comes from PyPI instead" >&2
  if ! "${pip[@]}" -r "$bootstrap_root/bench/peers-requirements.txt"; then
    echo "bootstrap: could not install the packages of bench/peers-requirements.txt into .venv;" \
      "this needs access to PyPI" >&2
    return 1
  fi
  cksum <"$bootstrap_root/bench/peers-requirements.txt" >"$bootstrap_root/.venv/peers.stamp"
}
