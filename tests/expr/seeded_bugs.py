#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Puts one bug at a time into a copy of the passes and expects the tests of this folder to fail.

A bug that survives is a hole in the tests. Takes minutes: part of no other check, run it after
changing the passes or their tests:  tests/expr/seeded_bugs.py [--folder DIR] [NAME ...]
"""

import argparse
import multiprocessing.pool
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Name: (file of src/expr, text that occurs once, what it becomes).
BUGS = {
    "less is proved when equal": (
        "interval_evaluate.cpp", "int64_t{x.hi < y.lo}, int64_t{x.lo < y.hi}",
        "int64_t{x.hi <= y.lo}, int64_t{x.lo < y.hi}"),
    "less is disproved one early": (
        "interval_evaluate.cpp", "int64_t{x.hi < y.lo}, int64_t{x.lo < y.hi}",
        "int64_t{x.hi < y.lo}, int64_t{x.lo < y.hi - 1}"),
    "less or equal is disproved when equal": (
        "interval_evaluate.cpp", "int64_t{x.hi <= y.lo}, int64_t{x.lo <= y.hi}",
        "int64_t{x.hi <= y.lo}, int64_t{x.lo < y.hi}"),
    "a rest does not wrap": ("interval_evaluate.cpp", "else if (quotient.is_one())", "else if (true)"),
    "where forgets the set of its second arm": (
        "interval_evaluate.cpp", "(always ? 0 : set_of(step.operand[2], l))", "0"),
    "where forgets the set of its first arm": (
        "interval_evaluate.cpp", "(never ? 0 : set_of(step.operand[1], l))", "0"),
    "where takes its first arm": ("interval_evaluate.cpp", "always ? a : never ? b : hull(a, b)",
                                  "always ? a : never ? b : a"),
    "a refined conjunct proves": (
        "interval_evaluate.cpp", "return Interval{x.lo, std::min(x.hi, y.hi)};",
        "return Interval{y.lo, std::min(x.hi, y.hi)};"),
    "a refined disjunct disproves": (
        "interval_evaluate.cpp", "return Interval{std::max(x.lo, y.lo), x.hi};",
        "return Interval{std::max(x.lo, y.lo), y.hi};"),
    "unequal sets prove equality": (
        "interval_evaluate.cpp", "step.op == IntervalOp::kEqual ? Interval{always, maybe}",
        "step.op == IntervalOp::kEqual ? Interval{always || !maybe, maybe}"),
    "real equality at one end": (
        "interval_evaluate.cpp", "a.lo == a.hi && b.lo == b.hi && a.lo == b.lo",
        "a.lo == a.hi && a.lo == b.lo"),
    "a fact ignores that it is negated": (
        "interval_program.cpp", "(side == 0) == is_and ? IntervalOp::kMeetAtMost",
        "(side == 0) ? IntervalOp::kMeetAtMost"),
    "a strict fact gains two": ("interval_program.cpp", "value - 1 : value + 1",
                                "value - 2 : value + 1"),
    "a weak fact gains one": ("interval_program.cpp", "(node.op == Op::kLess) == is_and;", "true;"),
    "inequality is a fact of a conjunction": (
        "interval_program.cpp", "(is_and ? Op::kEqual : Op::kNotEqual)",
        "(is_and ? Op::kNotEqual : Op::kNotEqual)"),
    "a slice begins elsewhere": ("interval_program.cpp", "offset = offset * extent +",
                                 "offset = offset +"),
    "a negative divisor is a positive one": (
        "interval_program.cpp", "divisor.immediate < 1) return", "divisor.immediate == 0) return"),
    "not less is less": ("simplify.cpp", "opposite.op = Op::kLessEqual;", "opposite.op = Op::kLess;"),
    "less becomes less or equal": ("simplify.cpp", "constant(at(b).immediate - 1)",
                                   "constant(at(b).immediate)"),
    "comparisons of reals turn round": (
        "simplify.cpp", "if (!is_comparison(node.op) || at(node.operand[0]).type != Type::kInt)",
        "if (!is_comparison(node.op))"),
    "constants of a difference are lost": (
        "simplify.cpp", "constant(wrap_add(at(left.operand[0]).immediate, c))",
        "constant(at(left.operand[0]).immediate)"),
    "De Morgan keeps the connective": ("rewrite.cpp", "node.op == Op::kAnd ? Op::kOr : Op::kAnd",
                                       "node.op"),
    "where swaps its arms": ("simplify.cpp", "at(condition).immediate != 0 ? a : b",
                             "at(condition).immediate != 0 ? b : a"),
    "a rest of a negative number is the number": (
        "specialise.cpp", "a.lo >= 0 && a.hi <", "a.hi <"),
    "the smaller one by its lower end": ("specialise.cpp", "if (x.hi <= y.lo) return",
                                         "if (x.lo <= y.lo) return"),
    "a table forgets half of its blocks": (
        "range_index.cpp", "below[static_cast<size_t>(b + half)]", "below[static_cast<size_t>(b)]"),
    "a cell that reaches out of the box": (
        "range_index.cpp", "columns.lo >= box[1].lo &&\n      columns.hi <= box[1].hi)",
        "columns.lo >= box[1].lo)"),
    "a quotient's bound ignores strictness": ("recognise.cpp", "constant_form(1 - gap)",
                                              "constant_form(1)"),
    "the last key is lost": ("recognise.cpp", "rule_.key_end, 1)", "rule_.key_end, 0)"),
    "a band moves the wrong way": ("recognise.cpp", "shift_k - shift_q", "shift_q - shift_k"),
    "scaled bounds round up": ("recognise.cpp", "local(floor_div(-c, factor))",
                               "local(-floor_div(c, factor))"),
    "decided parts are negated": ("tile_rules.cpp", "known == 2", "known == 1"),
    "a range of tiles is one short": ("axis_bounds.cpp", "(i + l + 1) << level", "(i + l) << level"),
    "rules read registers of another box": ("classify.cpp", "read[static_cast<size_t>(index)] = true;",
                                            "(void)index;"),
    "one line makes a strip partial": ("classify.cpp", "if (has_false && has_true) return true;",
                                       "if (has_false || has_true) return true;"),
    "a kept half is visited last": ("classify.cpp", "case 0b1010:\n        both(0, 2);\n"
                                    "        descend(right);",
                                    "case 0b1010:\n        descend(right);\n        both(0, 2);"),
    "a run that opens late": ("tile_row_builder.cpp", "first_[i] = static_cast<int32_t>(column);",
                              "first_[i] = static_cast<int32_t>(column_end - 1);"),
    "an index may be the extent": ("bounds.cpp", "index.hi < extent", "index.hi <= extent"),
    "32 bits hold 2^31": ("bounds.cpp", "range.hi > std::numeric_limits<int32_t>::max())",
                          "range.hi > int64_t{1} << 31)"),
    "a band's lower end is lost": ("visible_pairs.cpp", "pairs_below(rule.band.lo - 1,",
                                   "pairs_below(rule.band.lo,"),
    "a sum wraps": ("interval.h", "const bool above = __builtin_add_overflow(a.hi, b.hi, &r.hi);\n"
                    "  return below || above",
                    "const bool above = __builtin_add_overflow(a.hi, b.hi, &r.hi);\n"
                    "  return below && above"),
    "x // 0 is forgotten": ("interval.h", "return b.contains(0) ? hull(r, {0, 0}) : r;", "return r;"),
    "the smallest integer has an absolute value": (
        "interval.h", "if (a.lo == kMinInt) return kAnyInteger;", ""),
    "a rest by a negative divisor is positive": ("interval.h", "Interval{m + 1, 0}",
                                                 "Interval{0, -m - 1}"),
    "single precision is exact": ("real_interval.h", "inline constexpr double kError = 0x1p-20;",
                                  "inline constexpr double kError = 0;"),
}


# The tests of src/expr that judge these passes.
TESTS = ("axis_bounds bounds classify interval_evaluate interval_program interval range_index "
         "real_interval recognise rewrite simplify specialise tile_row_builder tile_rules "
         "visible_pairs").split()


def run(command, **options):
    return subprocess.run(command, capture_output=True, text=True, **options)


def copy(folder):
    for name in ("src/base", "src/expr", "tests/expr", "include"):
        shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True)


def sources(folder):
    return sorted([*folder.glob("src/base/*.cpp"), *folder.glob("src/expr/*.cpp"),
                   *(folder / f"tests/expr/{name}_test.cpp" for name in TESTS)])


def compile_file(folder, source, suffix):
    return run(["c++", "-std=c++20", "-O1", "-DTILEWISE_X86", f"-I{folder}/src",
                f"-I{folder}/include", f"-I{folder}/tests", "-c", source, "-o",
                source.with_suffix(suffix)])


def build(folder, changed=None):
    """Compiles what the changed file is part of, beside the clean objects, and links. Returns what
    went wrong."""
    everything = sources(folder)
    stale = [changed] if changed in everything else everything
    suffix = ".bug.o" if changed else ".o"
    with multiprocessing.pool.ThreadPool(2) as pool:
        results = pool.map(lambda source: compile_file(folder, source, suffix), stale)
    if all(result.returncode == 0 for result in results):
        objects = [source.with_suffix(suffix if source in stale else ".o") for source in everything]
        results.append(run(["c++", *objects, "-o", folder / "all_tests", "-lgtest_main", "-lgtest",
                            "-lpthread"]))
    return "".join(result.stderr for result in results if result.returncode != 0)


def failing_tests(folder):
    """The tests that fail; ["crash"] if the program ends before it says so."""
    # The masks of the zoo take longest and find nothing that the random ones do not.
    result = run([folder / "all_tests", "--gtest_filter=-*Zoo*"], timeout=300)
    if result.returncode == 0:
        return []
    return sorted(set(re.findall(r"^\[  FAILED  \] (\w+\.\w+) \(", result.stdout, re.M))) or ["crash"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build/seeded_bugs")
    parser.add_argument("names", nargs="*", help="all bugs if there is none")
    arguments = parser.parse_args()
    copy(arguments.folder)
    problem = build(arguments.folder)
    if problem or failing_tests(arguments.folder):
        sys.exit(f"the tests fail without a bug\n{problem}")
    survived = []
    for name in arguments.names or BUGS:
        file, text, replacement = BUGS[name]
        path = arguments.folder / "src/expr" / file
        clean = path.read_text()
        if clean.count(text) != 1:
            sys.exit(f"{name}: {file} has its text {clean.count(text)} times, expected once")
        path.write_text(clean.replace(text, replacement))
        try:
            problem = build(arguments.folder, path)
            if problem:
                sys.exit(f"{name}: does not compile\n{problem}")
            try:
                failed = failing_tests(arguments.folder)
            except subprocess.TimeoutExpired:
                failed = ["timeout"]
        finally:
            path.write_text(clean)
        print(f"{'killed' if failed else 'SURVIVED'}: {name}: {', '.join(failed[:4])}", flush=True)
        if not failed:
            survived.append(name)
    print(f"{len(arguments.names or BUGS) - len(survived)} killed, {len(survived)} survived")
    sys.exit(1 if survived else 0)


if __name__ == "__main__":
    main()
