#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The tiles of a causal window: planned by Tilewise, and by create_block_mask of PyTorch's FlexAttention on CPU.

    bench/block_masks.py [--lengths N,N,...] [--limit-gb G] [--build DIR] [--output FILE.json]

Every measurement is a process of its own, so that its peak memory is known. Tilewise: plan.schedule(), the tiles of
forward and backward (plan_ms of tilewise explain), median of 9 processes. PyTorch: blocks of 128 x 128; the median of
up to 5 calls within 5 s after one at 256 tokens; then the same through torch.compile, whose first call is listed.
PyTorch evaluates the mask at N x N pairs and, not compiled, keeps 8 bytes for each: beyond --limit-gb that is left out.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
WINDOW = 1024
BYTES_PER_PAIR = 8  # of PyTorch without torch.compile: an int64 sum of the mask


def measured(command):
    """The JSON that a process prints, with the peak of its memory."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"block_masks.py: {' '.join(map(str, command))} ended with {process.returncode}")
    return {**json.loads(text), "peak_mb": usage.ru_maxrss / 1024}


def tilewise(program, length):
    command = [program, "explain", "--json", "--seq", str(length), "--head-dim", "64", "--mask", f"window:{WINDOW},0"]
    runs = [measured(command) for _ in range(9)]
    return {"ms": statistics.median(run["plan_ms"] for run in runs), "peak_mb": max(run["peak_mb"] for run in runs)}


def pytorch(length, compiled):
    """In a process of its own: prints what main() reads."""
    import resource

    import torch
    from torch.nn.attention.flex_attention import create_block_mask

    def make(tokens):
        start = time.perf_counter()
        function(lambda b, h, q, k: (k <= q) & (q - k <= WINDOW), None, None, tokens, tokens, device="cpu",
                 BLOCK_SIZE=128)
        return time.perf_counter() - start

    idle_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    function = torch.compile(create_block_mask) if compiled else create_block_mask
    first = make(length) if compiled else make(256)
    seconds = []
    while len(seconds) < 5 and sum(seconds) < 5:
        seconds.append(make(length))
    print(json.dumps({"ms": statistics.median(seconds) * 1e3, "first_ms": first * 1e3 if compiled else None,
                      "idle_mb": idle_mb, "threads": torch.get_num_threads(), "version": torch.__version__}))


def measure(options, length):
    """One row: what each took, or None for what is not possible."""
    row = {"length": length, "tilewise": tilewise(options.build / "bin/tilewise", length)}
    for name in ("torch", "torch compiled"):
        needs_gb = BYTES_PER_PAIR * length * length / 2**30 if name == "torch" else 0
        row[name] = None
        if needs_gb <= options.limit_gb:
            row[name] = measured([sys.executable, __file__, "--child", name, "--lengths", str(length)])
    return row


def print_row(row):
    def text(cell):
        return f"{cell['ms']:12.2f} ms {cell['peak_mb']:8.0f} MB" if cell else f"{'-':>12}    {'-':>8}   "

    compiled = row["torch compiled"]
    first = f"{compiled['first_ms'] / 1e3:10.1f} s" if compiled else ""
    print(f"{row['length']:8d} {text(row['tilewise'])} {text(row['torch'])} {text(compiled)} {first}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=lambda text: [int(n) for n in text.split(",")], metavar="N,N,...",
                        default=[4096, 8192, 16384, 32768, 65536], help="(default: 4096 to 65536)")
    parser.add_argument("--limit-gb", type=float, default=12, metavar="G", help="memory for PyTorch (default: 12)")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release", metavar="DIR",
                        help="with bin/tilewise (default: build/release)")
    parser.add_argument("--output", type=pathlib.Path, metavar="FILE.json")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return pytorch(options.lengths[0], options.child == "torch compiled")
    doctor = measured([options.build / "bin/tilewise", "doctor", "--json"])
    print(f"{doctor['cpu']}; mask {WINDOW} keys back, one head\n"
          f"{'length':>8} {'Tilewise':>15} {'peak':>11} {'PyTorch':>15} {'peak':>11} {'compiled':>15} {'peak':>11} "
          f"{'first call':>12}")
    rows = []
    for length in options.lengths:
        rows.append(measure(options, length))
        print_row(rows[-1])
    if options.output:
        options.output.write_text(json.dumps({"schema": 1, "cpu": doctor["cpu"], "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
