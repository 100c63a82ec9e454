#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the cases of a list and prints a table; with --output FILE also keeps every field as JSON.

    bench/run_cases.py [--tilewise build/release/bin/tilewise] [--cases bench/cases.txt] [--repeat 3]
                       [--output bench/results/MACHINE.json]

Each case runs --repeat times, the whole list after the whole list, so that a noisy minute does not hit one
case only; the run with the median fraction of peak is kept, with the lowest and the highest fraction: what
`tilewise bench --compare FILE` takes for noise. The peak is measured in the same process as the case.
"""
import argparse
import json
import pathlib
import shlex
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


def median_run(runs):
    runs = sorted(runs, key=lambda run: run["fraction_of_peak"])
    return runs[len(runs) // 2] | {"fraction_of_peak_low": runs[0]["fraction_of_peak"],
                                   "fraction_of_peak_high": runs[-1]["fraction_of_peak"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tilewise", default=ROOT / "build/release/bin/tilewise")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--cases", type=pathlib.Path, default=ROOT / "bench/cases.txt")
    options = parser.parse_args()
    lines = options.cases.read_text().splitlines()
    cases = [line for line in lines if line.strip() and not line.startswith("#")]
    doctor = subprocess.run([options.tilewise, "doctor", "--bug", "--json"], check=True, capture_output=True)
    machine = json.loads(doctor.stdout)
    runs = {case: [] for case in cases}
    for _ in range(options.repeat):
        for case in cases:
            command = [options.tilewise, "bench", "--json", "--rounds", "5", *shlex.split(case)]
            runs[case].append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    kept = [median_run(runs[case]) for case in cases]
    print(f"{'ms':>9} {'GFLOP/s':>8} {'of peak':>8} {'extra MB':>9} {'error/naive':>11}  case")
    for case, run in zip(cases, kept):
        print(f"{run['median_ms']:9.2f} {run['gflops']:8.1f} {run['fraction_of_peak']:8.3f} "
              f"{run['extra_bytes'] / 1e6:9.2f} {run['rms_error'] / run['naive_rms_error']:11.2f}  {case}")
    if options.output:
        results = {"schema": 2, "machine": {"cpu": machine["cpu"], "threads": machine["threads_allowed"],
                                            "isa": machine["isa"]}, "cases": kept}
        options.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
