# SPDX-License-Identifier: Apache-2.0
"""The figures of the report, each a function from report.json to an SVG text, or None without data."""

import io
import re

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator  # noqa: E402

NAMES = {"tilewise": "Tilewise", "standard": "standard", "megatron": "Megatron form"}
COLORS = {"tilewise": "#0b5fa5", "standard": "#c1440e", "megatron": "#8a6d00"}
MARKERS = {"tilewise": "o", "standard": "s", "megatron": "^"}
MASKS = {"none": "full", "causal": "causal"}
GRAY = "#555555"

plt.rcParams.update({
    "font.size": 9, "axes.titlesize": 9.5, "axes.labelsize": 9, "legend.fontsize": 8.5,
    "figure.facecolor": "white", "axes.facecolor": "white", "text.color": "#111111",
    "axes.labelcolor": "#111111", "axes.edgecolor": "#777777", "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#e4e4e4", "grid.linewidth": 0.6,
    "lines.linewidth": 1.6, "lines.markersize": 4, "legend.frameon": False,
    "svg.fonttype": "path", "svg.hashsalt": "tilewise", "figure.constrained_layout.use": True,
})


def svg(figure, prefix):
    """The figure as SVG to be set into a page: no XML head, names of its own."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    text = text[text.index("<svg"):]
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{prefix}-", text)
    return re.sub(r'width="[^"]*pt" height="[^"]*pt"', 'role="img"', text, count=1)


def select(rows, **wanted):
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def short(number):
    """1000 as 1k, as lengths are read."""
    return f"{number // 1024}k" if number >= 1024 and number % 1024 == 0 else f"{number:g}"


def bytes_text(number, _=None):
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            return f"{number:g} {unit}"
        number /= 1000
    return ""


def milliseconds_text(number, _=None):
    if number >= 1000:
        return f"{number / 1000:.3g} s"
    return f"{number:.3g} ms" if number >= 1 else f"{number * 1000:.3g} µs"


def length_axis(axis, lengths, label="length N"):
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_locator(FixedLocator(lengths))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(int(x))))
    axis.set_xlabel(label)


def log_axis(axis, formatter):
    axis.set_yscale("log")
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(formatter))


def lengths_of(rows):
    return sorted({row["length"] for row in rows})


def curve(axis, rows, implementation, value, **style):
    points = sorted((row["length"], value(row)) for row in select(rows, implementation=implementation))
    if points:
        axis.plot(*zip(*points), color=COLORS[implementation], marker=MARKERS[implementation],
                  label=NAMES[implementation], **style)


def label_outside(axes, text):
    for axis in axes[:, 0]:
        axis.set_ylabel(text)
    for axis in axes[0]:
        axis.set_xlabel("")


def shared_legend(figure, axis, columns=4):
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=columns)


def exactness(report):
    errors = report.get("input", {}).get("errors")
    if not errors:
        return None
    dtypes = list(dict.fromkeys(row["dtype"] for row in errors))
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 3.2), sharey=True)
    for axis, (error, naive, factors, title) in zip(axes, (
            ("max_error", "naive_error", (2, 2), "largest error / naive"),
            ("rms_error", "naive_rms_error", (1.1, 1.25), "RMS error / naive"))):
        ticks, labels, at = [], [], 0
        for dtype in dtypes:
            rows = [row for row in select(errors, dtype=dtype) if row[naive] > 0]
            places = [at + i for i in range(len(rows))]
            axis.plot(places, [factors[row["tensor"] != "o"] for row in rows], "_", color="#111111",
                      markersize=11, label="bound without allowances")
            axis.bar(places, [row[error] / row[naive] for row in rows], width=0.55,
                     color=COLORS["tilewise"], label="Tilewise", zorder=2)
            ticks += places
            labels += ["O" if row["tensor"] == "o" else "d" + row["tensor"][1:].upper() for row in rows]
            axis.text(at + (len(rows) - 1) / 2, 1.0, dtype, ha="center", va="bottom", color=GRAY,
                      transform=axis.get_xaxis_transform())
            at += len(rows) + 1
        axis.axhline(1, color=COLORS["standard"], linewidth=1.2, label="naive", zorder=3)
        axis.set_xticks(ticks, labels)
        axis.tick_params(axis="x", labelsize=8)
        axis.grid(axis="x", visible=False)
        axis.set_title(title, pad=16)
    axes[0].set_ylim(bottom=0)
    axes[0].set_ylabel("error, naive = 1")
    handles, labels = axes[0].get_legend_handles_labels()
    unique = dict(zip(labels, handles))
    figure.legend(unique.values(), unique.keys(), loc="outside upper center", ncols=3)
    return svg(figure, "exactness")


def runtime(report, dtype):
    rows = select(report.get("runtime", []), dtype=dtype)
    if not rows:
        return None
    lengths = lengths_of(rows)
    figure, axes = plt.subplots(2, 2, figsize=(9.4, 5.6), sharex=True, sharey=True)
    for axis, (mask, key, title) in zip(axes.flat, (
            ("none", "forward_ms", "forward, full"), ("causal", "forward_ms", "forward, causal"),
            ("none", "total_ms", "forward + backward, full"),
            ("causal", "total_ms", "forward + backward, causal"))):
        for implementation in NAMES:
            curve(axis, select(rows, mask=mask), implementation,
                  lambda row, key=key: row[key] / row["heads"])
        length_axis(axis, lengths)
        axis.set_title(title)
        log_axis(axis, milliseconds_text)
    label_outside(axes, "time of one head")
    shared_legend(figure, axes[0, 0])
    return svg(figure, f"runtime-{dtype}")


def memory(report, dtype):
    rows = select(report.get("memory", []), dtype=dtype)
    if not rows:
        return None
    lengths = lengths_of(rows)
    figure, axes = plt.subplots(2, 2, figsize=(9.4, 5.6), sharex=True, sharey=True)
    for axis, (mask, key, title) in zip(axes.flat, (
            ("none", "forward_peak_bytes", "forward, full"),
            ("causal", "forward_peak_bytes", "forward, causal"),
            ("none", "total_peak_bytes", "forward + backward, full"),
            ("causal", "total_peak_bytes", "forward + backward, causal"))):
        of_mask = select(rows, mask=mask)
        for implementation in NAMES:
            curve(axis, of_mask, implementation, lambda row, key=key: row[key])
        alone = "tensor_bytes" if key == "total_peak_bytes" else "forward_tensor_bytes"
        tensors = sorted((row["length"], row[alone])
                         for row in select(of_mask, implementation="tilewise"))
        axis.plot(*zip(*tensors), color=GRAY, linestyle=":", label="the tensors alone")
        length_axis(axis, lengths)
        axis.set_title(title)
        log_axis(axis, bytes_text)
    label_outside(axes, "peak resident memory")
    shared_legend(figure, axes[1, 0])
    return svg(figure, f"memory-{dtype}")


def fraction(report):
    rows = select(report.get("runtime", []), implementation="tilewise")
    if not rows:
        return None
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 3.2), sharey=True)
    for axis, dtype in zip(axes, ("fp32", "bf16")):
        for mask, line in (("none", "-"), ("causal", "--")):
            of_case = select(rows, dtype=dtype, mask=mask)
            for key, color, label in (("forward_fraction_of_peak", COLORS["tilewise"], "forward"),
                                      ("backward_fraction_of_peak", "#7b3294", "backward")):
                points = sorted((row["length"], row[key]) for row in of_case)
                axis.plot(*zip(*points), line, marker="o", color=color,
                          label=f"{label}, {MASKS[mask]}")
        length_axis(axis, lengths_of(rows))
        axis.set_ylim(0, 1)
        axis.set_title(dtype)
    axes[0].set_ylabel("fraction of peak")
    shared_legend(figure, axes[0])
    return svg(figure, "fraction")


def latency(report):
    rows = report.get("latency", [])
    if not rows:
        return None
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 3.2), sharey=True)
    lengths = lengths_of(rows)
    for axis, dtype in zip(axes, ("fp32", "bf16")):
        for shift, implementation in zip((0.94, 1.0, 1.06), NAMES):
            points = sorted(select(rows, dtype=dtype, implementation=implementation),
                            key=lambda row: row["length"])
            if not points:
                continue
            middle = [row["median_us"] / 1000 for row in points]
            above = [max(0, (row["p99_us"] - row["median_us"]) / 1000) for row in points]
            axis.errorbar([row["length"] * shift for row in points], middle,
                          yerr=[[0] * len(points), above], color=COLORS[implementation],
                          marker=MARKERS[implementation], capsize=2.5, elinewidth=1,
                          label=NAMES[implementation])
        length_axis(axis, lengths)
        log_axis(axis, milliseconds_text)
        axis.yaxis.set_minor_locator(NullLocator())
        axis.set_title(dtype)
    axes[0].set_ylabel("one call")
    shared_legend(figure, axes[0])
    return svg(figure, "latency")


def words(report):
    io_section = report.get("io")
    if not io_section:
        return None
    counts = io_section["counts"]
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.4))
    for axis, algorithm_pass in zip(axes, ("forward", "backward")):
        rows = select(counts, **{"pass": algorithm_pass, "mask": "causal"})
        for implementation in NAMES:
            own = sorted(select(rows, implementation=implementation), key=lambda row: row["length"])
            x = [row["length"] for row in own]
            axis.plot(x, [row["formula_words"] for row in own], color=COLORS[implementation],
                      label=f"{NAMES[implementation]}, formula")
            axis.plot(x, [row["counted_words"] for row in own], MARKERS[implementation],
                      color=COLORS[implementation], markerfacecolor="white", markersize=5,
                      label="counted")
        length_axis(axis, lengths_of(rows))
        axis.tick_params(axis="x", labelsize=7)
        axis.set_yscale("log")
        axis.set_title(f"{algorithm_pass}, causal")
    axes[0].set_ylabel("words moved, one head")
    axes[0].legend(fontsize=7, loc="upper left")

    axis, cache = axes[2], io_section["cache"]
    x = [point["memory_words"] for point in cache["points"]]
    for key, color, label in (("standard_words", COLORS["standard"], "standard"),
                              ("algorithm1_words", "#5b8c5a", "Algorithm 1 of the paper"),
                              ("tiled_words", COLORS["tilewise"], "our order"),
                              ("lower_bound_words", GRAY, "lower bound")):
        axis.plot(x, [point[key] for point in cache["points"]], color=color, label=label,
                  linestyle=":" if key == "lower_bound_words" else "-",
                  marker=None if key == "lower_bound_words" else "o", markersize=3)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: short(int(v))))
    axis.set_xlabel("fast memory M, words")
    axis.set_title(f"simulated cache, N = {cache['length']}")
    axis.legend(fontsize=7)
    return svg(figure, "words")


def blocks(report):
    section = report.get("blocks")
    if not section:
        return None
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 3.2))
    for axis, key, label in ((axes[0], "query_tile", "queries of a tile, $B_r$"),
                             (axes[1], "key_tile", "keys of a tile, $B_c$")):
        points = select(section["points"], axis=key)
        x = [point[key] for point in points]
        axis.plot(x, [point["forward_ms"] for point in points], color=COLORS["tilewise"], marker="o",
                  label="time")
        axis.set_ylim(0, 1.15 * max(point["forward_ms"] for point in points))
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_locator(FixedLocator(x))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axis.set_xlabel(label)
        axis.set_ylabel("forward, ms", color=COLORS["tilewise"])
        other = axis.twinx()
        other.spines["right"].set_visible(True)
        other.plot(x, [point["words"] / 1e6 for point in points], color=COLORS["standard"],
                   marker="s", linestyle="--", label="words moved")
        other.set_ylim(0, 1.15 * max(point["words"] for point in points) / 1e6)
        other.set_ylabel("words moved, millions", color=COLORS["standard"])
        other.grid(visible=False)
        lines = axis.get_lines() + other.get_lines()
    figure.legend(lines, [line.get_label() for line in lines], loc="outside upper center", ncols=2)
    return svg(figure, "blocks")


def masks(report):
    """Block-sparse: time over that of the visible share of dense attention, words alike; the butterfly; schedules."""
    section = report.get("masks")
    if not section:
        return None
    figure, axes = plt.subplots(2, 2, figsize=(9.4, 6.4))
    density_panels(axes[0], section["densities"])
    butterfly_panel(axes[1, 0], section["butterfly"])
    plan_panel(axes[1, 1], section["plans"])
    return svg(figure, "masks")


DIRECTIONS = (("forward", "#0b5fa5", "o"), ("backward", "#7b3294", "s"))


def density_panels(axes, rows):
    for axis, suffix, title in ((axes[0], "_ms", "time, block-sparse"), (axes[1], "_words", "words, block-sparse")):
        for dtype, line in (("fp32", "-"), ("bf16", "--")):
            of_dtype = select(rows, dtype=dtype)
            dense = select(of_dtype, mask="none")[0]
            sparse = sorted((row for row in of_dtype if row["mask"] != "none"), key=lambda row: row["density"])
            for direction, color, marker in DIRECTIONS:
                key = direction + suffix
                axis.plot([row["density"] for row in sparse],
                          [row[key] / (row["density"] * dense[key]) for row in sparse], line, color=color,
                          marker=marker, label=f"{direction}, {dtype}")
        densities = sorted({row["density"] for row in rows})
        axis.axhline(1, color=GRAY, linewidth=0.8)
        if suffix == "_ms":
            axis.axhline(1.05, color=COLORS["standard"], linestyle=":", label="goal")
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_locator(FixedLocator(densities))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: "1" if x == 1 else f"1/{1 / x:.0f}"))
        axis.set_ylim(bottom=0)
        axis.set_xlabel("density")
        axis.set_ylabel("over density × dense")
        axis.set_title(title)
        axis.legend(fontsize=7)


def butterfly_panel(axis, rows):
    dense = [row for row in rows if row["mask"] == "none"]
    sparse = [row for row in rows if row["mask"] != "none"]
    for direction, color, marker in DIRECTIONS:
        for of_mask, line, name in ((sparse, "-", "butterfly"), (dense, "--", "dense")):
            points = sorted((row["length"], row[direction + "_ms"]) for row in of_mask)
            if points:
                axis.plot(*zip(*points), line, color=color, marker=marker, label=f"{name}, {direction}")
    length_axis(axis, lengths_of(rows))
    log_axis(axis, milliseconds_text)
    axis.set_ylabel("time of one head, fp32")
    axis.set_title("butterfly")
    axis.legend(fontsize=7)


def plan_panel(axis, rows):
    places = range(len(rows))
    for shift, key, color, label in ((-0.2, "schedule_ms", COLORS["tilewise"], "whole schedule"),
                                     (0.2, "forward_rows_ms", "#9cc5e6", "tiles of the forward alone")):
        axis.bar([place + shift for place in places], [row[key] for row in rows], width=0.4, color=color,
                 label=label)
    axis.set_axisbelow(True)
    axis.plot(places, [row["goal_ms"] for row in rows], "_", color=COLORS["standard"], markersize=20, label="goal")
    axis.set_xticks(places, [row["name"].replace(", ", ",\n") for row in rows])
    axis.tick_params(axis="x", labelsize=8)
    axis.grid(axis="x", visible=False)
    axis.set_ylabel("ms")
    axis.set_title(f"time to schedule {rows[0]['length']:,} tokens")
    axis.legend(fontsize=7, loc="upper left")


PEERS = {  # name in the results: name for people, color
    "tilewise": ("Tilewise", COLORS["tilewise"]), "torch": ("PyTorch SDPA", "#c1440e"),
    "torch unfused": ("PyTorch, unfused", "#e7a977"), "onnxruntime": ("ONNX Runtime", "#5b8c5a"),
    "openvino": ("OpenVINO", "#7b3294")}


def peers_that_ran(results):
    ran = {row["name"] for case in results["cases"] for row in case["contestants"] if "gflops" in row}
    return [name for name in PEERS if name in ran]


def peers(results):
    """bench/peers.py: a panel for each group of cases, in it a group of bars for each case."""
    groups = {}
    for case in results["cases"]:
        groups.setdefault(case["group"], []).append(case)
    if not groups:
        return None
    order = peers_that_ran(results)
    columns = min(2, len(groups))
    panels = list(groups.items())
    rows = [panels[i:i + columns] for i in range(0, len(panels), columns)]
    heights = [max(len(cases) for _, cases in row) for row in rows]
    figure, axes = plt.subplots(len(rows), columns, squeeze=False, height_ratios=heights,
                                figsize=(9.4, 0.6 + sum(0.55 + 0.62 * height for height in heights)))
    for axis, panel in zip(axes.flat, panels + [None] * (axes.size - len(panels))):
        if panel is None:
            axis.set_visible(False)
            continue
        title, cases = panel
        peer_bars(axis, cases, order)
        axis.set_title(title)
        axis.set_xlabel("GFLOP/s")
    handles = [plt.Rectangle((0, 0), 1, 1, color=PEERS[name][1]) for name in order]
    figure.legend(handles, [PEERS[name][0] for name in order], loc="outside upper center", ncols=len(order))
    return svg(figure, "peers")


def peer_bars(axis, cases, order):
    width = 0.8 / len(order)
    for index, case in enumerate(cases):
        for row in case["contestants"]:
            if row["name"] not in order:
                continue
            place = index + (order.index(row["name"]) - (len(order) - 1) / 2) * width
            speed = row.get("gflops", 0)  # none: it could not do the case
            axis.barh(place, speed, width, color=PEERS[row["name"]][1], zorder=2)
            axis.annotate(milliseconds_text(row["median_ms"]) if speed else "–", (speed, place), (2, 0),
                          textcoords="offset points", va="center", fontsize=5.5, color=GRAY)
    axis.set_yticks(range(len(cases)), [peer_case(case) for case in cases])
    axis.tick_params(axis="y", length=0, labelsize=8)
    axis.set_ylim(len(cases) - 0.45, -0.55)
    axis.margins(x=0.12)
    axis.grid(axis="y", visible=False)


def peer_case(case):
    """What tells the cases of a group apart, in two lines."""
    heads, lengths = case["heads"], f"N {case['keys']}"
    if case["heads"] != case["kv_heads"]:
        heads = f"{case['heads']}/{case['kv_heads']}"
        lengths = f"{case['queries']} query, {case['keys']} keys"
    batch = f"batch {case['batch']}, " if case["batch"] > 1 else ""
    what = case["dtype"] if case["group"] in ("decode", "GPT-2") else "causal" if case["causal"] else "full"
    return f"{lengths}, d {case['dim']}\n{batch}H {heads}, {what}"
