#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""No source file over 500 lines unless a docs/adr names it; each starts with its licence line."""

import checker

MOST_LINES = 500
LICENCE = "SPDX-License-Identifier: Apache-2.0"


def check(root):
    problems = []
    names = checker.files(root)
    decisions = "\n".join((root / name).read_text() for name in names
                          if name.as_posix().startswith("docs/adr/"))
    for name in names:
        is_script = not name.suffix and len(name.parts) == 1 and name.name in ("run", "test")
        if name.suffix not in checker.SOURCE_SUFFIXES and not is_script:
            continue
        lines = (root / name).read_text().splitlines()
        if len(lines) > MOST_LINES and name.as_posix() not in decisions:
            problems.append(f"{name}: {len(lines)} lines, expected at most {MOST_LINES}; "
                            "split it by meaning, or name it in a docs/adr with the reason")
        if name.suffix != ".cmake" and not any(LICENCE in line for line in lines[:3]):
            problems.append(f"{name}: '{LICENCE}' is not in its first lines")
    return problems


def self_test():
    licence = f"// {LICENCE}\n"
    long = licence + "\n" * MOST_LINES
    checker.expect(checker.problems_in(check, {"src/a.cpp": licence, "data/a.txt": "\n" * 900}) == [],
                   "a clean tree is refused")
    checker.expect(len(checker.problems_in(check, {"src/a.cpp": long})) == 1, "a long file")
    checker.expect(len(checker.problems_in(check, {"test": "true\n"})) == 1, "a script without licence")
    named = {"src/a.cpp": long, "docs/adr/0001.md": "src/a.cpp is long because\n"}
    checker.expect(checker.problems_in(check, named) == [], "a long file with its reason is refused")


if __name__ == "__main__":
    checker.main(check, self_test)
