#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the cases of bench/cases.txt and prints a table; with --output FILE also keeps every field as JSON.

    bench/run_cases.py [--tilewise build/release/bin/tilewise] [--repeat 3] [--output bench/results/MACHINE.json]

Each case runs --repeat times, the whole list after the whole list, so that a noisy minute does not hit one
case only; the run with the median time is kept. The peak is measured in the same process as the case.
"""
import argparse
import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tilewise", default=ROOT / "build/release/bin/tilewise")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--output", type=pathlib.Path)
    options = parser.parse_args()
    lines = (ROOT / "bench/cases.txt").read_text().splitlines()
    cases = [line for line in lines if line.strip() and not line.startswith("#")]
    runs = {case: [] for case in cases}
    for _ in range(options.repeat):
        for case in cases:
            command = [options.tilewise, "bench", "--json", "--rounds", "5", *case.split()]
            runs[case].append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    kept = [sorted(runs[case], key=lambda run: run["median_ms"])[options.repeat // 2] for case in cases]
    print(f"{'ms':>9} {'GFLOP/s':>8} {'of peak':>8} {'extra MB':>9} {'error/naive':>11}  case")
    for case, run in zip(cases, kept):
        print(f"{run['median_ms']:9.2f} {run['gflops']:8.1f} {run['fraction_of_peak']:8.3f} "
              f"{run['extra_bytes'] / 1e6:9.2f} {run['rms_error'] / run['naive_rms_error']:11.2f}  {case}")
    if options.output:
        options.output.write_text(json.dumps({"schema": 1, "cases": kept}, indent=1) + "\n")


if __name__ == "__main__":
    main()
