#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tilewise against the CPU attention of PyTorch, ONNX Runtime and OpenVINO, in turns in one process.

    bench/peers.py [--only REGEX] [--quick] [--threads T] [--output FILE.json] [--figure FILE.svg]

In every round each contestant has one turn: as many calls as fill 20 ms, after the threads of the one before have
gone to sleep. Medians of the calls in at least 5 rounds and 1 s of each (--quick: 3 rounds, 0.2 s), after a warm-up.
All have the same inputs and as many threads, and must agree on the result. GFLOP/s count visible pairs, as tilewise
bench does. A contestant that cannot do a case, or is not installed (bench/peers-requirements.txt), says why.
Exit code 1: a result differs.
"""
import argparse
import ctypes
import dataclasses
import hashlib
import importlib.metadata
import itertools
import json
import multiprocessing
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

import numpy as np

import tilewise_library
from contestants import CONTESTANTS, EPSILON, Case, Setup, Unsupported, first_head, make_data

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = {"torch": "torch", "torch unfused": "torch", "onnxruntime": "onnxruntime", "openvino": "openvino"}
TURN_SECONDS = 0.02
# Naive attention in bf16 is off by a few units of the largest value; a wrong mask or scale by about all of it.
# fp32 sums of thousands of terms and approximate exponentials are off by tens of their tiny units.
UNITS_ALLOWED = {"fp32": 100, "bf16": 16, "fp16": 16}


def all_cases():
    """In groups of the figure, which has two columns."""
    shapes = [(1, 12, 4096, 64), (1, 8, 4096, 128), (8, 12, 512, 64)]
    cases = []

    def add(which, dtype):
        for (batch, heads, length, dim), causal in itertools.product(shapes, (False, True)):
            cases.append(Case(f"{which} {dtype}", which, dtype, batch, heads, heads, length, length, dim, causal))

    for which, dtype in itertools.product(("forward", "backward"), ("fp32", "bf16")):
        add(which, dtype)
    for dtype, length in itertools.product(("fp32", "bf16"), (64, 128, 256, 512, 4096)):
        cases.append(Case(f"one head, {dtype}", "forward", dtype, 1, 1, 1, length, length, 64))
    add("forward", "fp16")
    for dtype in ("fp32", "bf16"):
        cases.append(Case("decode", "forward", dtype, 1, 32, 8, 1, 32768, 128))
    return cases + [gpt2_case(dtype) for dtype in ("fp32", "bf16")]


def gpt2_case(dtype, batch=4, length=1024):
    """Attention of GPT-2 medium in training, the case of the paper's Figure 1."""
    return Case("GPT-2", "forward+backward", dtype, batch, 16, 16, length, length, 64, True, 0.1)


# Two to three minutes on two cores.
QUICK = re.compile(r"forward (fp32|bf16) B1 H12 N4096|backward .* H12 N4096 d64 causal|H1 N(128|512) |H32/8|dropout")


def wait_for_quiet(limit=0.5):
    """Until no thread of this process computes: pools spin for a while after a call, one of them for 0.1 s."""
    end = time.perf_counter() + limit
    while time.perf_counter() < end:
        before = time.process_time()
        time.sleep(0.005)
        if time.process_time() - before < 0.0005:
            return


class Racer:
    """A contestant that did the case: warmed up, with its result and the seconds of its calls."""

    def __init__(self, name, run, result):
        self.name, self.run = name, run
        seconds = self.time()
        if seconds < 1:  # the first call also sets up
            seconds = min(self.time() for _ in range(3))
        self.is_short = seconds < TURN_SECONDS
        self.result = result()
        self.rounds, self.seconds = 0, []

    def time(self):
        start = time.perf_counter()
        self.run()
        return time.perf_counter() - start

    def turn(self):
        wait_for_quiet()
        if self.is_short:  # the first call wakes the threads
            self.run()
        end = time.perf_counter() + TURN_SECONDS
        while time.perf_counter() < end:
            self.seconds.append(self.time())
        self.rounds += 1

    def is_done(self, rounds, seconds):
        return self.rounds >= rounds and sum(self.seconds) >= seconds


def difference(case, data, result, first):
    """Of the tensor that differs most: the largest difference over the largest value. From the result of the first
    contestant; with dropout, where all draw other pairs, the first head from float64."""
    if case.dropout:
        truth = first_head(case, data, result["keep"])
        result = {name: result[name][0, 0] for name in truth}
    else:
        truth = first
    return max(float(np.max(np.abs(result[name].reshape(value.shape) - value)) / np.max(np.abs(value)))
               for name, value in truth.items())


def race(case, setup, rounds, seconds):
    """One row per contestant."""
    data = make_data(case)
    racers, reasons = [], {}
    for name, make in CONTESTANTS.items():
        try:
            racers.append(Racer(name, *make(case, data, setup)))
        except Unsupported as error:
            reasons[name] = str(error)
        except ImportError as error:
            reasons[name] = f"not installed: {error.name}"
        except Exception as error:  # whatever a peer throws: the others still race
            if name == "tilewise":
                raise
            reasons[name] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    while not all(racer.is_done(rounds, seconds) for racer in racers):
        for racer in racers:
            racer.turn()
    ours = racers[0]
    rows = []
    for racer in racers:
        median = statistics.median(racer.seconds)
        rows.append({"name": racer.name, "median_ms": median * 1e3, "min_ms": min(racer.seconds) * 1e3,
                     "rounds": racer.rounds, "calls": len(racer.seconds),
                     "gflops": case.flops / median / 1e9,
                     "ratio": median / statistics.median(ours.seconds),
                     "difference": difference(case, data, racer.result, ours.result)})
        if not rows[-1]["difference"] <= UNITS_ALLOWED[case.dtype] * EPSILON[case.dtype]:
            rows[-1]["wrong"] = True
    return rows + [{"name": name, "reason": reason} for name, reason in reasons.items()]


def status_bytes(field):
    """Of this process: VmRSS is resident now, VmHWM was at most."""
    line = next(line for line in open("/proc/self/status") if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def needed_bytes(name, case, build, threads):
    """Peak of resident memory in one run, inputs included. For a process of its own."""
    setup = Setup(tilewise_library.load(library_of(build)), threads)
    small = dataclasses.replace(case, batch=1, queries=64, keys=64)
    CONTESTANTS[name](small, make_data(small), setup)[0]()  # what loading and the first call need
    before = status_bytes("VmRSS")
    data = make_data(case)
    ctypes.CDLL(None).malloc_trim(0)
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins again
    CONTESTANTS[name](case, data, setup)[0]()
    return status_bytes("VmHWM") - before


def answer_needed_bytes(connection, *arguments):
    try:
        connection.send(needed_bytes(*arguments))
    except (Unsupported, ImportError) as error:
        connection.send(str(error))


def memory_rows(case, build, threads):
    """One row per contestant that can do the case: what one run needs."""
    rows = []
    context = multiprocessing.get_context("spawn")
    for name in CONTESTANTS:
        ours, theirs = context.Pipe()
        process = context.Process(target=answer_needed_bytes, args=(theirs, name, case, build, threads))
        process.start()
        theirs.close()
        try:
            answer = ours.recv()
        except EOFError:  # it ran out of memory, for one
            answer = "the process failed"
        process.join()
        rows.append({"name": name, "reason": answer} if isinstance(answer, str) else {"name": name, "bytes": answer})
    return {"case": case.name, "dtype": case.dtype, "length": case.queries, "contestants": rows}


def library_of(build):
    return build / "src/libtilewise_shared.so"


def print_memory(memory):
    print(f"\nmemory of {memory['case']}, inputs included")
    for row in memory["contestants"]:
        if "bytes" in row:
            times = row["bytes"] / memory["contestants"][0]["bytes"]
            print(f"  {row['name']:<14} {row['bytes'] / 1e6:10.1f} MB {times:19.2f}x", flush=True)


def ask(program, *arguments):
    return json.loads(subprocess.run([program, *arguments, "--json"], check=True, capture_output=True).stdout)


def peak_gflops(program, case, setup):
    """What the arithmetic of the case can do now: bench measures it before and after any problem."""
    problem = ("--seq", "64", "--head-dim", "64", "--rounds", "1", "--dtype", case.dtype)
    return ask(program, "bench", *problem, "--threads", str(setup.threads))["peak_gflops"]


def run_case(program, case, setup, rounds, seconds):
    peak = peak_gflops(program, case, setup)
    rows = race(case, setup, rounds, seconds)
    peak = max(peak, peak_gflops(program, case, setup))
    fields = {key: getattr(case, key) for key in
              ("name", "group", "dtype", "batch", "heads", "kv_heads", "queries", "keys", "dim", "causal", "flops")}
    peers = [row for row in rows[1:] if "ratio" in row and "wrong" not in row]
    return {**fields, "pass": case.which, "contestants": rows,
            "best_peer": min(peers, key=lambda row: row["ratio"])["name"] if peers else None,
            "peak_gflops": peak, "fraction_of_peak": rows[0]["gflops"] / peak,
            "key_value_gbytes_per_second": case.key_value_bytes / rows[0]["median_ms"] / 1e6}


def machine_fields(before, after):
    """What doctor said before the first and after the last case; the larger of each speed."""
    speeds = ("peak_fp32_gflops", "peak_bf16_gflops", "read_gbytes_per_second")
    return ({key: before[key] for key in ("cpu", "isa", "threads", "version")} |
            {key: max(before[key], after[key]) for key in speeds})


def print_case(case):
    print(f"\n{case['name']}")
    for row in case["contestants"]:
        if "reason" in row:
            print(f"  {row['name']:<14} {row['reason']}")
            continue
        notes = "  RESULT DIFFERS" if "wrong" in row else "  best peer" if row["name"] == case["best_peer"] else ""
        print(f"  {row['name']:<14} {row['median_ms']:10.3f} ms {row['gflops']:9.1f} GFLOP/s {row['ratio']:7.2f}x "
              f"{row['calls']:5d} calls   difference {row['difference']:.1e}{notes}", flush=True)
    if case["group"] == "decode":
        print(f"  {'keys, values':<14} {case['key_value_gbytes_per_second']:10.1f} GB/s")


def print_summary(results):
    machine = results["machine"]
    print(f"\n{machine['cpu']}, {machine['threads']} threads, {machine['isa']}; peak "
          f"{machine['peak_fp32_gflops']:.0f} GFLOP/s fp32, {machine['peak_bf16_gflops']:.0f} bf16; reads "
          f"{machine['read_gbytes_per_second']:.1f} GB/s\n\n{'case':<42} {'of peak':>8}  best peer takes")
    for case in results["cases"]:
        ratio = next((row["ratio"] for row in case["contestants"] if row["name"] == case["best_peer"]), None)
        best = f"{ratio:.2f}x  {case['best_peer']}" if ratio else "no peer"
        print(f"{case['name']:<42} {case['fraction_of_peak']:8.3f}  {best}")


def write_figure(results, path):
    sys.path.insert(0, str(ROOT / "tools/report"))
    import figures

    path.write_text(figures.peers(results))


def matching_cases(parser, options):
    """Those that --only names, after a look at --threads."""
    if options.threads < 1:
        parser.error(f"--threads is {options.threads}, expected 1 or more")
    try:
        wanted = re.compile(options.only)
    except re.error as error:
        parser.error(f"--only is {options.only!r}, expected a regular expression: {error}")
    cases = [case for case in all_cases() if wanted.search(case.name)]
    if not cases:
        parser.error(f"--only is {options.only!r}, expected to match a case; bench/peers.py --list names them")
    return cases


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="REGEX", default="", help="cases whose name it matches")
    parser.add_argument("--quick", action="store_true", help="few cases, few rounds")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)),
                        help="of each contestant (default: all allowed)")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release", metavar="DIR",
                        help="with bin/tilewise and src/libtilewise_shared.so (default: build/release)")
    parser.add_argument("--output", type=pathlib.Path, metavar="FILE.json")
    parser.add_argument("--figure", type=pathlib.Path, metavar="FILE.svg")
    options = parser.parse_args()
    cases = matching_cases(parser, options)
    if options.quick:
        cases = [case for case in cases if QUICK.search(case.name)]
    if not cases:
        parser.error(f"--only is {options.only!r}, expected to match a case; --list names them")
    return options, cases


def main():
    options, cases = parse()
    if options.list:
        return print("\n".join(case.name for case in cases))
    program = options.build / "bin/tilewise"
    setup = Setup(tilewise_library.load(library_of(options.build)), options.threads)
    rounds, seconds = (3, 0.2) if options.quick else (5, 1.0)
    start = time.perf_counter()
    doctor = "doctor", "--threads", str(options.threads)
    before = ask(program, *doctor)
    results = {"schema": 1, "command": "peers",
               # page.py shows these results only beside the build that they belong to.
               "program": os.path.relpath(program, ROOT),
               "program_sha256": hashlib.sha256(program.read_bytes()).hexdigest(),
               "packages": {}, "cases": []}
    for package in dict.fromkeys(PACKAGES.values()):
        try:
            results["packages"][package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pass
    for case in cases:
        results["cases"].append(run_case(program, case, setup, rounds, seconds))
        print_case(results["cases"][-1])
    results["memory"] = []
    if any(case.dropout for case in cases):
        results["memory"].append(memory_rows(gpt2_case("bf16", 2, 4096), options.build, options.threads))
        print_memory(results["memory"][-1])
    results["machine"] = machine_fields(before, ask(program, *doctor))
    results["seconds"] = time.perf_counter() - start
    print_summary(results)
    if options.output:
        options.output.write_text(json.dumps(results, indent=1) + "\n")
    if options.figure:
        write_figure(results, options.figure)
    wrong = [f"{case['name']}: {row['name']}" for case in results["cases"] for row in case["contestants"]
             if "wrong" in row]
    if wrong:
        sys.exit("peers.py: results differ from those of Tilewise: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
