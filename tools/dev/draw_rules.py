#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws docs/rules/NAME.svg for every rule of docs/rules.md, of 64 positions with small made-up tables: masks with
`tilewise explain --svg`, scores here, from their formulas, which mean in Python what they mean in the language.

Usage: draw_rules.py [--check] [PROGRAM]     --check draws nothing and exits with 1 where a picture would change"""

import argparse
import html
import json
import math
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs/rules"
N = 64


def runs(*lengths):
    """0 for the first so many positions, 1 for the next, ..."""
    return [number for number, length in enumerate(lengths) for _ in range(length)]


def starts(*lengths):
    return [sum(lengths[:number]) for number, length in enumerate(lengths) for _ in range(length)]


def blocks(*pairs):
    """8 x 8 blocks of 8 positions, row by row."""
    return [int((row, column) in pairs) for row in range(8) for column in range(8)]


def tree(parents):
    table = [[0] * len(parents) for _ in parents]
    for i in range(len(parents)):
        j = i
        while j >= 0:
            table[i][j], j = 1, parents[j]
    return sum(table, [])


DOCUMENTS = (20, 12, 25, 7)
IMAGES = [-1] * 10 + [0] * 16 + [-1] * 6 + [1] * 16 + [-1] * 16
DOC, START = {"doc": runs(*DOCUMENTS)}, {"start": starts(*DOCUMENTS)}
VALID = {"valid": ([1] * 50 + [0] * 14, [1, N])}
LAYOUT = blocks((0, 0), (1, 0), (1, 1), (2, 2), (3, 0), (3, 3), (4, 1), (4, 4), (5, 2), (5, 5), (6, 0), (6, 3), (6, 6),
                (7, 1), (7, 5), (7, 7))

# rule: call, tables (a list, or a list and its shape), named numbers
MASKS = {
    "causal": ("causal", {}, {}),
    "causal-top-left": ("causal-top-left", {}, {}),
    "window": ("window:12,4", {}, {}),
    "sink-window": ("sink-window:sinks=4,window=12", {}, {}),
    "document": ("document", DOC, {}),
    "document-causal": ("document-causal", DOC, {}),
    "document-span": ("document-span", START, {}),
    "padding": ("padding", VALID, {}),
    "padding-causal": ("padding-causal", VALID, {}),
    "prefix-lm": ("prefix-lm", {"prefix": [20]}, {}),
    "image-bidirectional": ("image-bidirectional", {"image": IMAGES}, {}),
    "chunked": ("chunked:chunk=16", {}, {}),
    "block-causal": ("block-causal:block=8", {}, {}),
    "level-causal": ("level-causal", {"level": runs(1, 4, 9, 16, 34)}, {}),
    "block-diffusion": ("block-diffusion:length=32,block=8", {}, {}),
    "dilated-window": ("dilated-window:window=15,dilation=3", {}, {}),
    "longformer": ("longformer:window=6,global=4", {}, {}),
    "longformer-marked": ("longformer-marked:window=6", {"marked": [int(i in (10, 40)) for i in range(N)]}, {}),
    "bigbird": ("bigbird:block=8,window=1,global=1", {"random": (blocks((2, 6), (3, 7), (5, 1), (6, 2)), [8, 8])}, {}),
    "strided": ("strided:stride=8,summary=1", {}, {}),
    "natten": (f"natten:length={N},radius=6", {}, {}),
    "natten-2d": ("natten-2d:width=8,height=8,radius=2", {}, {}),
    "natten-3d": ("natten-3d:width=4,height=4,depth=4,radius=1", {}, {}),
    "sliding-tile": ("sliding-tile:tile=4,columns=4,rows=4,radius=1", {}, {}),
    "swin": ("swin:width=8,window=4", {}, {}),
    "swin-shifted": ("swin-shifted:width=8,height=8,window=4,shift=2", {}, {}),
    "joint-text-image": ("joint-text-image:text=16", {"image": runs(16, 24, 24), **VALID}, {}),
    "flamingo": ("flamingo", {"first": [8 + 14 * image for image in runs(16, 16, 16, 16)],
                              "last": [22 + 14 * image for image in runs(16, 16, 16, 16)]}, {}),
    "tree": ("tree", {"ancestor": (tree([(i - 1) // 2 for i in range(32)]), [32, 32])}, {"prefix": 32}),
    "shared-prefix": ("shared-prefix", {"start": starts(16, 16, 16, 16), "prefix_first": [0] * N,
                                        "prefix_last": [0] * 16 + [16] * 48}, {}),
    "svg-spatial": ("svg-spatial:prompt=8,window=10", {}, {}),
    "svg-temporal": ("svg-temporal:prompt=8,frame=14,window=2", {}, {}),
    "block-sparse": ("block-sparse:block=8", {"layout": (LAYOUT, [1, 8, 8])}, {}),
}

# rule: its parameters, its tables as functions of the indices
REACH = 16
DISTANCES = {"reach": REACH}
SCORES = {
    "softcap": ({"cap": 50}, {}),
    "alibi": ({}, {"slope": lambda h: 0.25}),
    "relative-bias": (DISTANCES, {"bias": lambda h, i: math.cos(i / 5)}),
    "bucket-bias": (DISTANCES, {"bucket": lambda i: abs(i - REACH).bit_length(), "bias": lambda h, i: -float(i)}),
    "window-bias": ({"width": 8, "window": 4}, {"bias": lambda h, dy, dx: -math.hypot(dy - 3, dx - 3)}),
    "disentangled": (DISTANCES, {"content_position": lambda b, h, q, i: math.sin(q / 9) * math.cos(i / 7),
                                 "position_content": lambda b, h, k, i: math.cos(k / 5) * math.sin(i / 11)}),
    "graph-bias": ({}, {"distance": lambda b, q, k: (q ^ k).bit_count(), "bias": lambda h, i: -float(i)}),
    "kerple-log": ({}, {"slope": lambda h: 1.0, "rate": lambda h: 0.5}),
    "positional-kernel": ({"reach": 32}, {"kernel": lambda h, i: math.cos(i / 4) / (1 + i / 8)}),
    "relu": ({}, {}),
}


def rules_of_document():
    """name: (kind, formula)."""
    text = (ROOT / "docs/rules.md").read_text()
    formulas = dict(re.findall(r"\| `([a-z0-9-]+)[^`]*` \| `([^`]+)` \|$", text, re.M))
    kinds = re.findall(r"^\| `([a-z0-9-]+)` \| (mask|score) \|", text, re.M)
    return {name: (kind, formulas[name]) for name, kind in kinds}


def write_tables(path, tables):
    header, data = {}, b""
    for name, table in tables.items():
        values, shape = table if isinstance(table, tuple) else (table, [len(table)])
        end = len(data) + 4 * len(values)
        header[name] = {"dtype": "I32", "shape": shape, "data_offsets": [len(data), end]}
        data += struct.pack(f"<{len(values)}i", *values)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def mask_picture(program, name, folder):
    call, tables, numbers = MASKS[name]
    write_tables(folder / "tables", tables)
    subprocess.run([program, "explain", "--seq", str(N), "--head-dim", "8", "--mask", "@" + call,
                    *(word for table in tables for word in ("--table", f"{table}={folder}/tables:{table}")),
                    *(word for number in numbers.items() for word in ("--scalar", "{}={}".format(*number))),
                    "--svg", str(folder / "picture.svg")], check=True, stdout=subprocess.DEVNULL)
    return (folder / "picture.svg").read_text()


class Table:
    def __init__(self, function):
        self.function = function

    def __getitem__(self, index):
        return self.function(*index) if isinstance(index, tuple) else self.function(index)


def log(x):
    return math.log(x) if x > 0 else -math.inf


def function_of(name, formula):
    parameters, tables = SCORES[name]
    code = compile(formula, name, "eval")
    names = {"log": log, "tanh": math.tanh, "b": 0, "h": 0, **parameters,
             **{table: Table(function) for table, function in tables.items()}}
    return lambda s, q, k: eval(code, names, {"s": s, "q": q, "k": k})


def score_page(name, formula, body, caption):
    return ('<svg xmlns="http://www.w3.org/2000/svg" width="400" height="466" viewBox="0 0 400 466">\n'
            "<style>text{font:12px sans-serif;fill:#222}.title{font-weight:bold;font-size:13px}"
            ".small{font-size:11px;fill:#555}</style>\n"
            '<rect width="400" height="466" fill="#fff"/>\n'
            f'<text class="title" x="14" y="18">{name}</text>\n'
            f'<text class="small" x="14" y="35">{html.escape(formula if len(formula) < 68 else formula[:65] + "...")}'
            f'</text>\n{body}<text class="small" x="34" y="446">{caption}</text>\n</svg>\n')


def curve(name, formula, function):
    """The score against s, where it depends on s alone."""
    reach = 100 if name == "softcap" else 4
    points = [(s, function(s, 0, 0)) for s in (reach * i / 50 for i in range(-50, 51))]
    path = " ".join(f"{194 + 160 * s / reach:.1f},{240 - 160 * y / reach:.1f}" for s, y in points
                    if abs(y) <= reach)
    body = ('<rect x="34" y="80" width="320" height="320" fill="#fff" stroke="#777"/>\n'
            '<path d="M34 240h320M194 80v320M34 400L354 80" stroke="#ccc" fill="none"/>\n'
            f'<polyline points="{path}" fill="none" stroke="#0b5fa5" stroke-width="2"/>\n')
    return score_page(name, formula, body, f"score against s, both from -{reach} to {reach}; gray: s itself")


def map_of_pairs(name, formula, function):
    """The score where s = 0, in 8 steps of color."""
    levels = 8
    rows = [[function(0.0, q, k) for k in range(N)] for q in range(N)]
    low, high = min(map(min, rows)), max(map(max, rows))
    steps = [[min(int((y - low) / (high - low) * levels + 1e-9), levels - 1) for y in row] for row in rows]
    body = ""
    for level in range(levels):
        path, share = "", level / (levels - 1)
        for q, row in enumerate(steps):
            for run in re.finditer(r"1+", "".join(str(int(step == level)) for step in row)):
                path += f"M{run.start()} {q}h{run.end() - run.start()}v1H{run.start()}z"
        color = "#" + "".join(f"{round(255 + (end - 255) * share):02x}" for end in (11, 95, 165))
        body += f'<path fill="{color}" d="{path}"/>\n'
    body = ('<svg x="34" y="80" width="320" height="320" viewBox="0 0 64 64" shape-rendering="crispEdges">\n'
            f'{body}</svg>\n<rect x="34" y="80" width="320" height="320" fill="none" stroke="#777"/>\n'
            '<text class="small" x="34" y="75">keys 0 to 63</text>\n<text class="small" text-anchor="end" '
            'transform="translate(28 80) rotate(-90)">queries 0 to 63</text>\n')
    return score_page(name, formula, body, f"score where s = 0: white {low:.3g}, dark {high:.3g}")


def score_picture(name, formula):
    function = function_of(name, formula)
    depends_on_pair = re.search(r"\b[qk]\b", formula)
    return (map_of_pairs if depends_on_pair else curve)(name, formula, function)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("program", nargs="?", default=str(ROOT / "build/release/bin/tilewise"))
    options = parser.parse_args()
    wrong = []
    FOLDER.mkdir(exist_ok=True)
    for name, (kind, formula) in rules_of_document().items():
        if name not in (MASKS if kind == "mask" else SCORES):
            sys.exit(f"draw_rules.py: {name} has no example here, expected one in {kind.upper()}S")
        with tempfile.TemporaryDirectory() as folder:
            text = (mask_picture(options.program, name, pathlib.Path(folder)) if kind == "mask"
                    else score_picture(name, formula))
        path = FOLDER / f"{name}.svg"
        if not options.check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            wrong.append(path.relative_to(ROOT).as_posix())
    for path in wrong:
        print(f"{path}: differs from what is drawn; run tools/dev/draw_rules.py")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
