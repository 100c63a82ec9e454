#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the objects compiled with instruction-set flags may contain: check_isa_objects.py BUILD_FOLDER

Exactly the kernels they export. No weak symbol: the linker keeps one copy of a shared inline function,
and if that is the AVX-512 one, every machine without it dies far from any kernel. No initialiser
at load time for the same reason. Nothing undefined but the C runtime and src/base.
"""

import pathlib
import subprocess

import checker

EXPORTS = {
    "scalar": {"kScalarF32", "kScalarF64"},
    "avx2": {"kAvx2F32"},
    "avx512": {"kAvx512F32"},
    "avx512bf16": {"kAvx512Bf16"},
    "amx": {"kAmxBf16"},
}
RUNTIME = {"memcpy", "memmove", "memset", "memcmp", "sched_yield", "_GLOBAL_OFFSET_TABLE_",
           "__stack_chk_fail"}
MATHEMATICS = {"exp", "exp2", "exp2f", "expf", "log", "log2", "log2f", "logf", "fma", "fmaf", "floor", "floorf",
               "frexp", "frexpf", "tanh", "sqrt", "sqrtf", "ceil", "ceilf", "rint", "rintf", "ldexp", "ldexpf",
               "nearbyint", "nearbyintf"}


def problems_of(isa, listing):
    """listing: the output of nm -C."""
    problems, exported = [], set()
    for line in listing.splitlines():
        kind, _, name = line[17:].strip().partition(" ")
        if kind in "WVwvu":
            problems.append(f"{isa}: weak symbol {name}")
        elif kind == "U":
            # tilewise:: are functions of src/base, defined once and without flags.
            if not name.startswith("tilewise::") and name not in RUNTIME | MATHEMATICS:
                problems.append(f"{isa}: needs {name}")
        elif name.startswith("_GLOBAL__sub_I"):
            problems.append(f"{isa}: runs code when it is loaded: {name}")
        elif kind.isupper():
            exported.add(name)
    expected = {f"tilewise::{name}" for name in EXPORTS[isa]}
    for name in sorted(exported - expected):
        problems.append(f"{isa}: exports {name}")
    for name in sorted(expected - exported):
        problems.append(f"{isa}: does not export {name}")
    return problems


def check(root, build):
    problems, objects = [], list(pathlib.Path(build).glob("src/kernels/cpu/**/kernels.cpp.o"))
    if not objects:
        return [f"{build}: holds no object of src/kernels/cpu"]
    for path in sorted(objects):
        isa = path.parent.name
        if isa not in EXPORTS:
            problems.append(f"{isa}: not listed in check_isa_objects.py")
            continue
        listing = subprocess.run(["nm", "-C", path], check=True, capture_output=True, text=True).stdout
        problems += problems_of(isa, listing)
    return problems


def self_test():
    clean = ("0000000000000000 R tilewise::kAvx2F32\n"
             "0000000000000010 t tilewise::(anonymous namespace)::flash_forward()\n"
             "                 U memcpy\n")
    checker.expect(problems_of("avx2", clean) == [], "a clean object is refused")
    for line in ("0000000000000000 W std::vector<int>::size() const",
                 "0000000000000000 V vtable for X",
                 "0000000000000000 u tilewise::counter",
                 "0000000000000000 T tilewise::helper()",
                 "0000000000000000 t _GLOBAL__sub_I_kAvx2F32",
                 "                 U std::terminate()"):
        checker.expect(len(problems_of("avx2", clean + line + "\n")) == 1, line)
    checker.expect(len(problems_of("avx2", "")) == 1, "a missing export")


if __name__ == "__main__":
    checker.main(check, self_test, argument="build")
