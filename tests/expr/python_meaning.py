# SPDX-License-Identifier: Apache-2.0
"""Texts of the language mean in Python what they mean in the library: Python evaluates random ones."""
import ast
import json
import math
import subprocess
import sys


class Wrapped(Exception):
    """An integer left 64 bits: the library wraps, Python does not."""


class Int(int):
    """An integer that notices when it leaves 64 bits."""


def checked(value):
    if type(value) is bool or not isinstance(value, int):
        return value
    if not -2**63 <= value < 2**63:
        raise Wrapped
    return Int(value)


def method(name):
    def apply(self, *others):
        if any(isinstance(other, float) for other in others):
            return getattr(float, name)(float(self), *others)
        return checked(getattr(int, name)(self, *others))
    return apply


for operator in ("add", "sub", "mul", "floordiv", "mod", "truediv"):
    for prefix in ("__", "__r"):
        setattr(Int, f"{prefix}{operator}__", method(f"{prefix}{operator}__"))
for operator in ("neg", "abs"):
    setattr(Int, f"__{operator}__", method(f"__{operator}__"))


class Table:
    def __init__(self, shape, data):
        self.shape, self.data = shape, [value_of(number) for number in data]

    def __getitem__(self, index):
        index = index if isinstance(index, tuple) else (index,)
        assert len(index) == len(self.shape)
        at = 0
        for i, extent in zip(index, self.shape):
            assert 0 <= i < extent
            at = at * extent + i
        return self.data[at]


def value_of(item):
    """Integers are JSON numbers, reals are strings."""
    if isinstance(item, dict):
        return Table(item["shape"], item["data"])
    return float(item) if isinstance(item, str) else Int(item)


class Literals(ast.NodeTransformer):
    def visit_Constant(self, node):
        if type(node.value) is not int:
            return node
        return ast.copy_location(ast.Call(ast.Name("Int", ast.Load()), [node], []), node)


FUNCTIONS = {
    "Int": Int, "int": lambda a: checked(int(a)), "float": float,
    "where": lambda condition, a, b: a if condition else b,
    "exp": math.exp, "log": math.log, "tanh": math.tanh, "sqrt": math.sqrt,
    "inf": math.inf, "nan": math.nan,
    # Python's min and max keep or drop a NaN depending on the order; the library keeps it.
    "min": lambda a, b: a if a != a or a < b else b,
    "max": lambda a, b: a if a != a or a > b else b,
}


def agrees(got, want):
    got, want = float(got), float(want)
    return got == want or (math.isnan(got) and math.isnan(want))  # both call the C library's exp


def main(program):
    lines = subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()
    equal = skipped = 0
    for line in lines:
        sample = json.loads(line)
        tree = Literals().visit(ast.parse(sample["text"], mode="eval"))
        code = compile(ast.fix_missing_locations(tree), "text", "eval")
        names = dict(FUNCTIONS)
        names.update((name, value_of(item)) for name, item in sample["names"].items())
        for (b, h, q, k), s, want in sample["points"]:
            names.update(b=Int(b), h=Int(h), q=Int(q), k=Int(k), s=float(s))
            try:
                got = eval(code, names)
            except (Wrapped, ZeroDivisionError, OverflowError, ValueError):  # 1 / 0.0, exp(1000), log(-1)
                skipped += 1
                continue
            if not agrees(got, want):
                sys.exit(f"{sample['text']}\nat b, h, q, k, s = {b}, {h}, {q}, {k}, {s}: "
                         f"the library says {want}, Python {got}")
            equal += 1
    print(f"{equal} values agree, {skipped} have none in Python")
    if equal < 10 * skipped or equal < 10_000:
        sys.exit("too few values to mean anything")


main(sys.argv[1])
