# SPDX-License-Identifier: Apache-2.0
"""What the checkers share: the list of files, the self-test's small trees, the command line."""

import argparse
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE_SUFFIXES = {".h", ".cpp", ".c", ".py", ".sh", ".cmake"}


def files(root):
    """Every file of the tree that git does not ignore, sorted; relative paths."""
    if (root / ".git").exists():
        listing = subprocess.run(
            ["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            check=True, capture_output=True, text=True).stdout
        names = [pathlib.Path(name) for name in listing.split("\0") if name]
        return sorted(name for name in names if (root / name).is_file())
    return sorted(path.relative_to(root) for path in root.rglob("*")
                  if path.is_file() and not {"build", ".venv"} & set(path.relative_to(root).parts))


def problems_in(check, tree):
    """Runs check on a temporary tree given as {path: text}."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name, text in tree.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return check(root)


def expect(condition, what):
    if not condition:
        sys.exit(f"self-test failed: {what}")


def main(check, self_test, argument=None):
    """check(root) or check(root, value of argument) returns a list of problems, as text."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--self-test", action="store_true", help="prove that violations are found")
    if argument:
        parser.add_argument(argument, nargs="?", default="build/release")
    options = parser.parse_args()
    if options.self_test:
        self_test()
        return
    extra = [getattr(options, argument)] if argument else []
    problems = check(ROOT, *extra)
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)
