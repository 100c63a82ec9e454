#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each list item and table row of docs/guarantees.md names, in backticks, a test that exists."""

import re

import checker

GUARANTEES = "docs/guarantees.md"
GTEST = re.compile(r"^\s*(?:TYPED_)?TEST(?:_F|_P)?\(\s*(\w+)\s*,\s*(\w+)\s*\)", re.MULTILINE)
CTEST = re.compile(r"add_test\(\s*NAME\s+([\w.-]+)")
NAME = re.compile(r"`([A-Za-z]\w*\.[A-Z]\w*)`")
ANY_NAME = re.compile(r"`([\w.-]+)`")


def tests_of(root):
    suites, programs = set(), set()
    for path in checker.files(root):
        if path.parts[0] not in ("tests", "examples"):
            continue
        if path.suffix == ".cpp":
            suites |= {f"{suite}.{name}" for suite, name in GTEST.findall((root / path).read_text())}
        elif path.name == "CMakeLists.txt":
            programs |= set(CTEST.findall((root / path).read_text()))
    return suites, programs


def items_of(text):
    """(line number, text) of each list item, with its continuation lines, and of each table row."""
    items, current = [], None
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"\s*[-*] ", line) or (line.startswith("|") and not re.match(r"^\|[\s:|-]*$", line)):
            current = [number, line]
            items.append(current)
        elif re.match(r"^\|[\s:|-]*$", line):
            if items:
                items.pop()  # the row above the rule was the table's head
            current = None
        elif line.startswith((" ", "\t")) and line.strip() and current:
            current[1] += " " + line.strip()
        else:
            current = None
    return items


def check(root):
    path = root / GUARANTEES
    if not path.is_file():
        return [f"{GUARANTEES}: does not exist"]
    suites, programs = tests_of(root)
    items = items_of(path.read_text())
    problems = [] if items else [f"{GUARANTEES}: no list item and no table row"]
    for number, item in items:
        named = NAME.findall(item)
        known = [name for name in ANY_NAME.findall(item) if name in programs]
        for name in named:
            if name not in suites:
                problems.append(f"{GUARANTEES}:{number}: there is no test {name}")
        if not named and not known:
            problems.append(f"{GUARANTEES}:{number}: names no test: {item.strip()[:70]}")
    return problems


def self_test():
    tree = {"tests/base/a_test.cpp": "TEST(Suite, Holds) {\n}\n",
            "tests/CMakeLists.txt": "add_test(NAME install_package COMMAND x)\n"}

    def problems(text):
        return checker.problems_in(check, {**tree, GUARANTEES: text})

    checker.expect(problems("# Title\n- It holds,\n  always: `Suite.Holds`\n- So: `install_package`\n"
                            "\n| line | test |\n|---|---|\n| it holds | `Suite.Holds` |\n") == [],
                   "a clean file is refused")
    checker.expect(len(problems("- it holds\n")) == 1, "a line without a test")
    checker.expect(len(problems("- it holds: `Suite.Gone`\n")) == 1, "a test that does not exist")
    checker.expect(len(problems("| a | b |\n|---|---|\n| it holds | `x` |\n")) == 1, "a row without a test")
    checker.expect(len(problems("nothing\n")) == 1, "an empty file")
    checker.expect(len(checker.problems_in(check, tree)) == 1, "no file")


if __name__ == "__main__":
    checker.main(check, self_test)
