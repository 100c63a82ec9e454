#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes DIR/index.html, one self-contained page with figures, of DIR/report.json and, if it is there and was
measured with the program that is built now, DIR/peers.json of bench/peers.py.

Usage: page.py DIR"""

import hashlib
import html
import json
import pathlib
import sys

import figures
from figures import MASKS, NAMES, PEERS, select

ROOT = pathlib.Path(__file__).resolve().parents[2]

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #111; background: #fff; max-width: 1060px;
       margin: 2em auto; padding: 0 1.2em; }
h1 { font-size: 1.6em; margin-bottom: .2em } h2 { font-size: 1.2em; margin: 2em 0 .3em }
p, li { max-width: 46em } .machine, figcaption, footer { color: #444 }
figure { margin: .8em 0 1.6em } figure svg { width: 100%; height: auto }
figcaption { font-size: 14px; max-width: 56em }
.scroll { overflow-x: auto } table { border-collapse: collapse; margin: .8em 0; font-size: 14px }
th, td { padding: .2em .8em; text-align: right; border-bottom: 1px solid #ddd }
th { border-bottom: 1px solid #777; font-weight: 600 }
td:first-child, th:first-child { text-align: left } .bad { color: #b00020; font-weight: 600 }
"""


def text(value):
    return html.escape(str(value))


def table(head, rows):
    cells = "".join(f"<th>{text(cell)}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{cells}</tr>{lines}</table></div>'


def figure(svg, caption):
    return f"<figure>{svg}<figcaption>{caption}</figcaption></figure>" if svg else ""


def section(title, *parts):
    body = "".join(part for part in parts if part)
    return f"<h2>{text(title)}</h2>{body}" if body else ""


def ratio(other, ours):
    return f"{other / ours:.1f}×" if other and ours else "–"


def memory_text(number):
    if not number:
        return "–"
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"


def machine_line(machine):
    peaks = ", ".join(f"{machine['peak_gflops_before'][dtype]:.0f} GFLOP/s in {dtype} (afterwards "
                      f"{machine['peak_gflops_after'][dtype]:.0f})" for dtype in ("fp32", "bf16"))
    caches = ", ".join(f"{level} {machine[key] / 1024:.0f} KiB" for level, key in
                       (("L1", "l1_data_bytes"), ("L2", "l2_bytes"), ("L3", "l3_bytes")) if machine[key])
    return (f"{text(machine['name'])}, {machine['threads']} threads, {text(machine['isa'])}; {caches}. "
            f"Measured peak {peaks}; memory reads at {machine['read_gbytes_per_second']:.1f} GB/s, "
            f"copies at {machine['copy_gbytes_per_second']:.1f} GB/s.")


def stops(report, section_name, dtype):
    """Where standard attention stops, in words."""
    first = {}
    for row in report["not_run"]:
        if row["section"] == section_name and row.get("dtype") == dtype and "implementation" in row:
            first.setdefault(row["implementation"], (row["length"], row["reason"]))
    merged = {}
    for implementation, stop in first.items():
        merged.setdefault(stop, []).append(NAMES[implementation])
    return "".join(f" Not run from N = {length} on: {' and '.join(names)}, because {text(reason)}."
                   for (length, reason), names in merged.items())


def summary(report):
    """One row per case, at the longest length of its dtype that standard attention ran too."""
    runtime = report["runtime"]
    rows = []
    for ours in select(runtime, implementation="tilewise"):
        case = {"dtype": ours["dtype"], "mask": ours["mask"]}
        common = [row["length"] for row in select(runtime, implementation="standard", **case)]
        if not common or ours["length"] != max(common):
            continue
        case["length"] = ours["length"]
        rivals = [select(runtime, implementation=name, **case) for name in ("standard", "megatron")]
        memory = [select(report["memory"], implementation=name, **case) for name in ("tilewise", "standard")]
        peak = [found[0]["total_peak_bytes"] if found else None for found in memory]
        rows.append([text(ours["dtype"]), text(MASKS[ours["mask"]]), ours["length"],
                     f"{ours['total_ms'] / ours['heads']:.1f} ms",
                     f"{ours['forward_fraction_of_peak']:.2f}", f"{ours['backward_fraction_of_peak']:.2f}",
                     *(ratio(rival[0]["total_ms"] if rival else None, ours["total_ms"]) for rival in rivals),
                     memory_text(peak[0]), ratio(peak[1], peak[0])])
    head = ["dtype", "mask", "N", "forward + backward of a head", "forward / peak", "backward / peak",
            "standard takes", "Megatron form takes", "peak memory", "standard needs"]
    return table(head, rows) if rows else ""


def input_section(report):
    data = report.get("input")
    if not data:
        return ""
    errors = data["errors"]
    count, good = len(errors), sum(row["within_bound"] for row in errors)
    verdict = (f"All {count} results are within the bound" if good == count else
               f'<span class="bad">{count - good} of {count} results are beyond the bound</span>')
    rows_text = "every row" if data["all_rows"] else f"{data['rows_compared']} rows"
    source = f"<p>{text(data['source'][:1].upper() + data['source'][1:])}.</p>" if data["source"] else ""
    intro = (f"<p><code>{text(data['file'])}</code>: batch {data['batch']}, {data['heads']} heads, "
             f"N = {data['length']}, head dim {data['head_dim']}, mask {text(data['mask'])}, gradient of the "
             f"output {text(data['grad_output'])}. {verdict}.</p>{source}")
    caption = (f"Distance of the output O and of the gradients from float64, {rows_text} compared, over that of "
               "naive attention in the same dtype, which stores S and P in it. Lower is better. Dash: 2 naive for "
               "the largest error, 1.1 (O) and 1.25 (gradients) naive for the RMS; the bound adds units in the "
               "last place and an allowance for chance where few rows make up the error.")
    numbers = table(["", "", "max", "naive max", "RMS", "naive RMS"],
                    [[text(row["dtype"]), text(row["tensor"]), f"{row['max_error']:.2e}",
                      f"{row['naive_error']:.2e}", f"{row['rms_error']:.2e}", f"{row['naive_rms_error']:.2e}"]
                     for row in errors])
    numbers = f"<details><summary>The numbers</summary>{numbers}</details>"
    file_rows = [[text(row["tensor"]), f"{row['max_difference']:.1e}", f"{row['largest']:.2g}"]
                 for row in data["results_in_file"]]
    in_file = ("<p>The file also holds results that others computed. Their largest difference from our "
               "float64 reference:</p>" + table(["tensor", "difference", "largest value"], file_rows)
               if file_rows else "")
    speed = table(["on this input", "forward", "backward", "extra memory"],
                  [[text(NAMES[row["implementation"]]), f"{row['forward_ms']:.2f} ms",
                    f"{row['backward_ms']:.2f} ms", memory_text(row["extra_bytes"])]
                   for row in data["speed"]])
    return section("Exact, on real input", intro, figure(figures.exactness(report), caption), numbers,
                   in_file, speed)


def io_caption(report):
    counts = report["io"]["counts"]
    equal = sum(row["equal"] for row in counts)
    return (f"Words moved between slow and fast memory. Left and middle: lines are the formulas of the IO "
            f"model, markers what a walk over the same tiles counted; {equal} of {len(counts)} pairs agree to "
            "the last word. Right: traffic through a simulated LRU cache of M words, which falls as 1/M "
            "until the whole problem fits, and never below the lower bound (compare Theorem 2 and "
            "Proposition 3 of Dao et al. 2022).")


def butterfly_row(row, rows):
    dense = select(rows, mask="none", length=row["length"])
    return [f"N {figures.short(row['length'])}", f"{row['density']:.3g}",
            *(figures.milliseconds_text(row[key]) for key in ("forward_ms", "backward_ms")),
            *(f"{row[key] / 1e6:.2f} M" for key in ("forward_words", "backward_words")),
            *(figures.milliseconds_text(dense[0][key]) if dense else "–" for key in ("forward_ms", "backward_ms"))]


def masks_section(report):
    data = report.get("masks")
    if not data:
        return ""
    dense = {row["dtype"]: row for row in select(data["densities"], mask="none")}
    rows = [[text(row["dtype"]), f"{row['density']:.4g}",
             f"{row['forward_ms']:.2f} ms", f"{row['forward_ms'] / row['density'] / dense[row['dtype']]['forward_ms']:.2f}",
             f"{row['backward_ms']:.2f} ms",
             f"{row['backward_ms'] / row['density'] / dense[row['dtype']]['backward_ms']:.2f}",
             f"{row['forward_words'] / 1e6:.2f} M", f"{row['backward_words'] / 1e6:.2f} M"]
            for row in data["densities"] if row["mask"] != "none"]
    numbers = table(["", "density", "forward", "over density × dense", "backward", "over density × dense",
                     "words, forward", "backward"], rows)
    butterfly = table(["butterfly", "density", "forward", "backward", "words, forward", "backward", "dense, forward",
                       "backward"], [butterfly_row(row, data["butterfly"]) for row in data["butterfly"]
                                     if row["mask"] != "none"])
    plan_rows = [[text(row["name"]), f"<code>{text(row['mask'])}</code>", f"{row['tiles_full']:,}",
                  f"{row['tiles_partial']:,}", f"{row['schedule_ms']:.2f} ms", f"{row['forward_rows_ms']:.2f} ms",
                  f"{row['goal_ms']:g} ms"] for row in data["plans"]]
    plan_table = table(["", "mask", "full tiles", "partial tiles", "schedule", "forward alone", "goal"], plan_rows)
    measured = data["densities"] + data["butterfly"]
    equal = sum(row["equal"] for row in measured)
    lengths = [row["length"] for row in data["butterfly"]]
    caption = (
        f"Above: one head, N = {data['densities'][0]['length']}, blocks of {data['block']}; the mask is "
        f"<code>{text(data['densities'][-1]['mask'])}</code> with a layout drawn at random, each row of blocks with "
        "equally many. Time and words over what that share of dense attention takes; 1 is ideal. Below, left: the "
        f"flat butterfly of Dao et al. 2022, N from {figures.short(min(lengths))} to {figures.short(max(lengths))}: "
        "a block sees itself and the blocks whose index differs in one bit. Right: the time from a mask and its "
        "tables to all tiles of forward and backward, and of classifying the tiles of the forward alone. Counted "
        f"and predicted words agree in {equal} of {len(measured)} cases.")
    return section("Any mask", figure(figures.masks(report), caption), numbers, butterfly, plan_table)


def gpt2_memory_rows(report, peers):
    """Who, peak memory of a forward and backward; of the peers' run where there is one, as theirs is in that."""
    rows = [(NAMES[row["implementation"]], row["length"], row["total_peak_bytes"]) for row in report["gpt2"]["memory"]]
    for memory in peers["memory"] if peers else []:
        rows += [(PEERS[row["name"]][0], memory["length"], row["bytes"]) for row in memory["contestants"]
                 if "bytes" in row and row["name"] != "tilewise"]
    return rows


def gpt2_section(report, peers):
    data = report.get("gpt2")
    if not data:
        return ""
    rows = []
    for row in data["times"]:
        ours = select(data["times"], dtype=row["dtype"], implementation="tilewise", dropout=data["dropout"])[0]
        name = NAMES[row["implementation"]] + ("" if row["dropout"] else ", no dropout")
        rows.append([text(row["dtype"]), text(name), f"{row['total_ms']:.0f} ms",
                     f"{row['total_ms'] / ours['total_ms']:.2f}×", ""])
    for case in select(peers["cases"], group="GPT-2") if peers else []:
        for row in case["contestants"]:
            if "ratio" in row:
                rows.append([text(case["dtype"]), text(PEERS[row["name"]][0] + ", the peers' race"),
                             f"{row['median_ms']:.0f} ms", f"{row['ratio']:.2f}×", f"{row['difference']:.1e}"])
    rows.sort(key=lambda row: ["fp32", "bf16"].index(row[0]))
    times = table(["dtype", "", "forward + backward", "over Tilewise", "error"], rows)
    memory = gpt2_memory_rows(report, peers)
    memory_table = table([f"bf16, batch 2, N = {memory[0][1]}", "peak memory", "over Tilewise"],
                         [[text(name), memory_text(size), ratio(size, memory[0][2])] for name, _, size in memory]
                         ) if memory else ""
    errors = table(["", "", "max", "naive max", "RMS", "naive RMS"],
                   [[text(row["dtype"]), text(row["tensor"]), f"{row['max_error']:.2e}", f"{row['naive_error']:.2e}",
                     f"{row['rms_error']:.2e}", f"{row['naive_rms_error']:.2e}"] for row in data["errors"]])
    good = sum(row["within_bound"] for row in data["errors"])
    intro = (f"<p>The case of Figure 1 of Dao et al. 2022: batch {data['batch']}, {data['heads']} heads, N = "
             f"{data['length']}, head dim {data['head_dim']}, {text(data['mask'])}, dropout {data['dropout']}; in "
             f"turns. {good} of {len(data['errors'])} results are within the bound. Error: of the peers' race, the "
             "largest of output and gradients of one head from float64 with the pairs that each kept, over the "
             "largest value. Memory: peak of a forward and a backward, inputs included, in a process of its own.</p>")
    return section("Training GPT-2", intro, times, memory_table,
                   f"<details><summary>Errors of Tilewise</summary>{errors}</details>")


def peer_cell(case, name):
    row = next((row for row in case["contestants"] if row["name"] == name), {})
    if "ratio" not in row:
        return "–"
    if row.get("wrong"):
        return '<span class="bad">another result</span>'
    cell = f"{row['ratio']:.2f}×"
    return f"<b>{cell}</b>" if name == case["best_peer"] else cell


def peers_section(results):
    if not results:
        return ""
    machine, names = results["machine"], figures.peers_that_ran(results)[1:]
    rows = [[text(case["name"]), figures.milliseconds_text(case["contestants"][0]["median_ms"]),
             f"{case['fraction_of_peak']:.2f}",
             *(peer_cell(case, name) for name in names)] for case in results["cases"]]
    reasons = {}
    for case in results["cases"]:
        for row in case["contestants"]:
            if "reason" in row:
                reasons.setdefault(PEERS[row["name"]][0], {})[row["reason"]] = None
    not_run = " ".join(f"{text(name)}: {text('; '.join(found))}." for name, found in reasons.items())
    versions = ", ".join(f"{text(name)} {text(version)}" for name, version in results["packages"].items())
    intro = (f"<p>In turns in one process, with {machine['threads']} threads and the same inputs; medians. "
             f"{versions or 'No peer is installed'}. All results agree within the rounding of their "
             "dtype where nothing else is said. The columns say how long a peer takes, Tilewise = 1; bold: the best."
             f"{' Not run: ' + not_run if not_run else ''}</p>")
    decode = [f"{case['key_value_gbytes_per_second']:.1f} GB/s in {text(case['dtype'])}"
              for case in select(results["cases"], group="decode")]
    caption = "Speed, and the median time at the end of the bar."
    if decode:
        caption += (f" The decode step reads its keys and values at {' and '.join(decode)}; this machine's memory "
                    f"reads at {machine['read_gbytes_per_second']:.1f} GB/s.")
    return section("Against other libraries", intro,
                   table(["case", "Tilewise", "of peak", *(PEERS[name][0] for name in names)], rows),
                   figure(figures.peers(results), caption))


def page(report, peers):
    machine = report["machine"]
    runtime_caption = (
        "Median time of one head against length, both axes logarithmic (compare Figure 3, left, of Dao et al. "
        "2022). The three ran in turns, round by round, on the same inputs; heads in a call are chosen so that "
        "every call takes about as long.")
    memory_caption = (
        "Peak resident memory of one head, batch 1, against length (compare Figure 3, right): each case ran in "
        "a process of its own, and what that process held before it began is subtracted. Dotted: inputs, "
        "outputs and gradients alone, which nobody can do without. A mask saves standard attention nothing.")
    blocks_data = report["blocks"]
    chosen = blocks_data["chosen"]
    blocks_caption = (
        f"The forward (fp32, full, N = {blocks_data['length']}, {blocks_data['heads']} heads) with tiles of other "
        "sizes than the plan would choose (compare Figure 2, middle). More queries in a tile mean fewer readings "
        "of the keys, and the time follows only where reading them is the limit, not arithmetic. The size of "
        f"key tiles moves no words. Chosen here: {chosen['query_tile']} queries, {chosen['key_tile']} keys.")
    parts = [
        input_section(report),
        section("At a glance", summary(report)),
        section("Time", *(figure(figures.runtime(report, dtype),
                                 f"{dtype}. " + runtime_caption + stops(report, "runtime", dtype))
                          for dtype in ("fp32", "bf16"))),
        section("Fraction of peak", figure(
            figures.fraction(report), "Speed of Tilewise over the measured peak of the same arithmetic; FLOPs are "
            "those of the visible pairs only (2 products forward, 5 backward).")),
        section("Memory", *(figure(figures.memory(report, dtype),
                                   f"{dtype}. " + memory_caption + stops(report, "memory", dtype))
                            for dtype in ("fp32", "bf16"))),
        gpt2_section(report, peers),
        section("Latency", figure(
            figures.latency(report), "One causal forward, batch 1, "
            f"{report['latency'][0]['heads'] if report['latency'] else ''} heads: median, and the bar reaches up "
            "to the 99th percentile.")),
        section("Words moved", figure(figures.words(report), io_caption(report))),
        section("Tile sizes", figure(figures.blocks(report), blocks_caption)),
        masks_section(report),
        peers_section(peers),
    ]
    quick = " Quick report: few rounds, short lengths." if report["quick"] else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Tilewise report</title>'
        f"<style>{STYLE}</style></head><body><h1>Tilewise {text(report['version'])}: report</h1>"
        f'<p class="machine">{machine_line(machine)} {text(report["date"])}.{quick}</p>'
        f"{''.join(parts)}<footer><p>All numbers: <a href=\"report.json\">report.json</a> beside this page. "
        f"Inputs are N(0, 1) with seed {report['seed']} where nothing else is said. Measured in "
        f"{report['seconds']['total']:.0f} s. Dao et al. 2022: FlashAttention, "
        "<a href=\"https://arxiv.org/abs/2205.14135\">arXiv 2205.14135</a>.</p></footer></body></html>\n")


def load(path, hint):
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"page.py: {path}: {error}; {hint}")
    if not isinstance(data, dict) or data.get("schema") != 1:
        sys.exit(f"page.py: {path}: schema is not 1; this page belongs to another version; {hint}")
    return data


def peers_of_this_build(path):
    if not path.exists():
        return None
    peers = load(path, "remove it, or run ./run --peers")
    program = ROOT / peers["program"]
    is_current = program.is_file() and hashlib.sha256(program.read_bytes()).hexdigest() == peers["program_sha256"]
    return peers if is_current else None


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    report = load(folder / "report.json", f"run tilewise report --output {folder} first")
    target = folder / "index.html"
    target.write_text(page(report, peers_of_this_build(folder / "peers.json")), encoding="utf-8")
    print(target)


if __name__ == "__main__":
    main()
