#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An include only points down (docs/architecture.md), and only environment.cpp reads the environment."""

import re

import checker

# Folder -> folders whose headers it may include besides its own and include/tilewise.
BELOW = {
    "src/base": [],
    "src/io": ["src/base"],
    "src/expr": ["src/base"],
    "src/problem": ["src/base", "src/expr"],
    "src/schedule": ["src/base", "src/expr", "src/problem"],
    "src/kernels/reference": ["src/base", "src/expr", "src/problem"],
    "src/kernels/cpu": ["src/base", "src/kernels"],
    "src/kernels/standard": ["src/base", "src/expr", "src/problem", "src/kernels",
                             "src/kernels/cpu"],
    "src/kernels": ["src/base"],
    "src/engine": ["src/base", "src/expr", "src/problem", "src/schedule", "src/kernels",
                   "src/kernels/cpu"],
    "src/capi": ["src/base"],
    "src/measure": ["src/base", "src/kernels", "src/kernels/cpu"],
    "src/verify": ["src"],
    "tools": ["src", "tools"],
    "tests": ["src", "tests", "tools"],
    "examples": [],
    "bench": ["src"],
    "include": [],
}
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.MULTILINE)


def folder_of(path):
    """The key of BELOW that a file belongs to: the longest that contains it."""
    name = path.as_posix()
    return max((key for key in BELOW if name.startswith(key + "/")), key=len, default=None)


def allows(folder, target):
    """src/kernels means launch.h and the like only; src, tools and tests mean all that is in them."""
    if target is None:
        return False
    if target in (folder, "include"):
        return True
    return any(target == below or (below in ("src", "tools", "tests") and target.startswith(below))
               for below in BELOW[folder])


def resolve(root, path, name):
    for base in (path.parent.as_posix(), "src", "include", "tests", "tools"):
        candidate = root / base / name
        if candidate.is_file():
            return candidate.resolve().relative_to(root.resolve())
    return None


def check(root):
    problems = []
    for path in checker.files(root):
        if path.suffix not in (".h", ".cpp", ".c"):
            continue
        folder = folder_of(path)
        if folder is None:
            problems.append(f"{path}: belongs to no layer; add its folder to check_layers.py")
            continue
        text = (root / path).read_text()
        for quote, name in INCLUDE.findall(text):
            target = resolve(root, path, name) if quote == '"' or name.startswith("tilewise/") else None
            if target is None:
                # Generated headers lie in the build folder and belong to the folder that makes them.
                if quote == '"' and "generated" not in name:
                    problems.append(f'{path}: "{name}" is not a file of this tree')
            elif not allows(folder, folder_of(target)):
                problems.append(f"{path}: {folder} may not include {target}")
        if folder.startswith("src") and "getenv" in text and path.name != "environment.cpp":
            problems.append(f"{path}: only src/base/environment.cpp reads the environment")
    return problems


def self_test():
    good = {"include/tilewise/a.h": "", "src/base/b.h": '#include "tilewise/a.h"\n',
            "src/problem/p.cpp": '#include "base/b.h"\n', "src/kernels/launch.h": "",
            "src/kernels/reference/r.h": "", "src/kernels/cpu/c.cpp": '#include "kernels/launch.h"\n',
            "src/engine/e.h": "", "tests/base/b_test.cpp": '#include "base/b.h"\n#include <vector>\n'}
    checker.expect(checker.problems_in(check, good) == [], "a clean tree is refused")
    for name, text in {
            "src/base/bad.cpp": '#include "engine/e.h"\n',
            "src/kernels/bad.h": '#  include "engine/e.h"\n',
            "src/kernels/cpu/bad.h": '#include "kernels/reference/r.h"\n',
            "src/kernels/reference/bad.cpp": '#include "kernels/launch.h"\n',
            "include/tilewise/bad.h": '#include "base/b.h"\n',
            "examples/bad.cpp": '#include "base/b.h"\n',
            "src/io/bad.cpp": '#include "nowhere.h"\n',
            "src/problem/bad.cpp": 'const char* x = std::getenv("X");\n',
            "elsewhere/bad.cpp": ""}.items():
        found = checker.problems_in(check, {**good, name: text})
        checker.expect(len(found) == 1 and name in found[0], f"{name} with {text!r}: {found}")


if __name__ == "__main__":
    checker.main(check, self_test)
