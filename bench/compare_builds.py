#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two builds of the shared library in one process, in turns: which is faster, and are their bits the same?

    bench/compare_builds.py OLD.so NEW.so [--only REGEX] [--seconds S] [--threads T]

For each case of bench/peers.py (--list there) whose name matches: pairs of calls, one of each build, the first one
changing, for --seconds after a warm-up. "old takes" is the median over the pairs of old time / new time, between the
deciles of it. On one thread its CPU time counts, on more the time that passes. Neighbours on a shared machine slow both
calls of most pairs alike, so differences of 1 % show where times vary by half. TILEWISE_ISA forces an instruction set.
"""
import argparse
import statistics
import time

import tilewise_library
from contestants import Setup, make_data, tilewise
from peers import matching_cases


def compare(case, setups, seconds):
    data = make_data(case)
    runs, results = zip(*(tilewise(case, data, setup) for setup in setups))
    clock = time.thread_time if setups[0].threads == 1 else time.perf_counter

    def timed(run):
        start = clock()
        run()
        return clock() - start

    for run in runs:
        run()
    first, second = (result() for result in results)
    same = all(first[name].tobytes() == second[name].tobytes() for name in first)
    pairs, end = [], time.perf_counter() + seconds
    while len(pairs) < 2 or time.perf_counter() < end:
        turn = runs if len(pairs) % 2 == 0 else runs[::-1]
        pair = [timed(run) for run in turn]
        pairs.append(pair if len(pairs) % 2 == 0 else pair[::-1])
    ratios = [old / new for old, new in pairs]
    deciles = statistics.quantiles(ratios, n=10, method="inclusive")
    best = [1e3 * min(times) for times in zip(*pairs)]
    return (f"old takes {statistics.median(ratios):.3f} ({deciles[0]:.3f} to {deciles[-1]:.3f})  best {best[0]:.3f} and "
            f"{best[1]:.3f} ms  {len(pairs)} pairs  bits {'the same' if same else 'differ'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", metavar="OLD.so")
    parser.add_argument("new", metavar="NEW.so")
    parser.add_argument("--only", metavar="REGEX", default="", help="cases whose name it matches")
    parser.add_argument("--seconds", type=float, default=5, help="for each case (default: 5)")
    parser.add_argument("--threads", type=int, default=1, help="default: 1")
    options = parser.parse_args()
    cases = matching_cases(parser, options)
    if not options.seconds > 0:
        parser.error(f"--seconds is {options.seconds}, expected more than 0")
    setups = [Setup(tilewise_library.load(path), options.threads) for path in (options.old, options.new)]
    for case in cases:
        print(f"{case.name:42}  {compare(case, setups, options.seconds)}", flush=True)


if __name__ == "__main__":
    main()
