#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every src/**/x.cpp has its test tests/**/x_test.cpp, and every such test is in the build."""

import checker

KERNEL_REASON = "instantiates the generic kernel; tests/kernels/cpu runs every supported instruction set"
WITHOUT_A_TEST = {  # source: why
    f"src/kernels/cpu/{isa}/kernels.cpp": KERNEL_REASON
    for isa in ("scalar", "avx2", "avx512", "avx512bf16", "amx")
}


def check(root):
    problems = []
    names = {path.as_posix() for path in checker.files(root)}
    for name in sorted(names):
        if not (name.startswith("src/") and name.endswith(".cpp")) or name in WITHOUT_A_TEST:
            continue
        test = "tests/" + name.removeprefix("src/").removesuffix(".cpp") + "_test.cpp"
        if test not in names:
            problems.append(f"{name}: {test} does not exist")
    lists = {name: (root / name).read_text() for name in names if name.endswith("CMakeLists.txt")}
    for name in sorted(names):
        if not (name.startswith("tests/") and name.endswith("_test.cpp")):
            continue
        folder, _, file = name.rpartition("/")
        parents = [folder, folder.rpartition("/")[0]]
        if not any(file in lists.get(parent + "/CMakeLists.txt", "") for parent in parents):
            problems.append(f"{name}: in no CMakeLists.txt, so it is never run")
    for name in WITHOUT_A_TEST:
        if (root / "src/kernels").exists() and name not in names:
            problems.append(f"{name}: listed in check_test_mirror.py but does not exist")
    return problems


def self_test():
    good = {"src/base/a.cpp": "", "tests/base/a_test.cpp": "", "tests/base/CMakeLists.txt": "a_test.cpp"}
    checker.expect(checker.problems_in(check, good) == [], "a clean tree is refused")
    found = checker.problems_in(check, {**good, "src/base/b.cpp": ""})
    checker.expect(len(found) == 1 and "tests/base/b_test.cpp" in found[0], f"missing test: {found}")
    found = checker.problems_in(check, {**good, "tests/base/c_test.cpp": ""})
    checker.expect(len(found) == 1 and "never run" in found[0], f"test outside the build: {found}")


if __name__ == "__main__":
    checker.main(check, self_test)
