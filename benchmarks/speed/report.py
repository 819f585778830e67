"""Results as Markdown, JSON and a plot.

The record is plain data, so that parts of earlier runs can be kept: each part records when, where
and how it was measured.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.speed.harness import Comparison, Result, Run, Settings, Table, machine
from textgym.storage.files import write_json, write_text

Record = dict[str, dict[str, Any]]


def record_of(result: Result, settings: Settings, seconds: float) -> dict[str, Any]:
    """A part's result as plain data, with medians and ratios."""
    data: dict[str, Any] = dataclasses.asdict(result)
    for entry, comparison in zip(data["comparisons"], result.comparisons, strict=True):
        entry["runs"] = {
            side: [run._asdict() for run in runs] for side, runs in comparison.runs.items()
        }
        others = list(comparison.runs)[1:]
        entry["rate"] = {side: comparison.rate(side) for side in comparison.runs}
        entry["ratio"] = {side: statistics.median(comparison.ratios(side)) for side in others}
        entry["ratio_cpu"] = {
            side: statistics.median(comparison.ratios(side, "cpu")) for side in others
        }
    used = dataclasses.asdict(settings)
    del used["out"], used["trl_venv"], used["profile"]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "seconds": round(seconds),
        "machine": machine(settings),
        "settings": used,
        **data,
    }


def write(folder: Path, record: Record) -> None:
    """Write speed.json, speed.md, speed.png and speed.svg; parts not in the record stay."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "speed.json"
    if path.exists():
        record = {**json.loads(path.read_text()), **record}
    write_json(path, record)
    write_text(folder / "speed.md", markdown(record) + "\n")
    plot(folder, record)


def markdown(record: Record) -> str:
    """All parts as Markdown."""
    return "\n\n".join(["# Speed", *(_section(entry) for entry in record.values())])


def _section(entry: dict[str, Any]) -> str:
    result = result_of(entry)
    m, s = entry["machine"], entry["settings"]
    repeats = s["repeats"] or (1 if s["smoke"] else 5 if s["full"] else 3)
    blocks = [
        f"## {result.title}",
        f"{m['device']} ({m.get('gpu') or m['cpu']}, {m['cpus']} cores), {m['threads']} thread(s), "
        f"{m['dtype']}; torch {m['versions']['torch']}, transformers "
        f"{m['versions']['transformers']}, stable-baselines3 {m['versions']['stable-baselines3']}; "
        f"{entry['date']}, {repeats} repeats in turn, medians. Ratios are textgym's rate over the "
        "other's (smallest to largest of the turns; then by CPU time).",
        *(_markdown(table) for table in comparison_tables(result)),
        *(f"{table.caption}\n\n{_markdown(table)}" for table in result.tables),
        "\n".join(f"* {note}" for note in result.notes),
    ]
    return "\n\n".join(block for block in blocks if block)


def result_of(entry: dict[str, Any]) -> Result:
    """A part's result from plain data."""
    comparisons = [
        Comparison(
            data["case"],
            {side: [Run(**run) for run in runs] for side, runs in data["runs"].items()},
            data["extra"],
        )
        for data in entry["comparisons"]
    ]
    tables = [Table(**table) for table in entry["tables"]]
    return Result(entry["title"], entry["unit"], comparisons, tables, entry["notes"])


def comparison_tables(result: Result) -> list[Table]:
    """The comparisons of a part, in one table for each set of columns."""
    tables: dict[tuple[str, ...], Table] = {}
    for comparison in result.comparisons:
        ours, *others = comparison.runs
        head = ["", *(f"{side}, {result.unit}" for side in (ours, *others))]
        head += [f"over {side}" for side in others]
        head += comparison.extra
        row = [comparison.case, *(f"{comparison.rate(side):,.0f}" for side in comparison.runs)]
        row += [_ratio(comparison, side) for side in others]
        row += comparison.extra.values()
        tables.setdefault(tuple(head), Table("", head, [])).rows.append(row)
    return list(tables.values())


def _ratio(comparison: Comparison, side: str) -> str:
    wall = comparison.ratios(side)
    shown = f"**{_short(statistics.median(wall))}** ({_short(min(wall))} to {_short(max(wall))}"
    return shown + f"; CPU {_short(statistics.median(comparison.ratios(side, 'cpu')))})"


def _short(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}" if ratio >= 1 else f"{ratio:.2f}"


def _markdown(table: Table) -> str:
    align = ["---", *(["---:"] * (len(table.head) - 1))]
    lines = [table.head, align, *table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plot(folder: Path, record: Record) -> None:
    """Draw each part as bars on a logarithmic scale, with the ratio next to each other side."""
    results = [result_of(entry) for entry in record.values()]
    bars = [sum(len(c.runs) + 1 for c in result.comparisons) for result in results]
    heights = [0.2 * count + 0.9 for count in bars]
    with mpl.rc_context({"font.size": 8, "svg.hashsalt": "textgym"}):
        figure = Figure(figsize=(8, sum(heights)), layout="constrained")
        panels = figure.subplots(len(results), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, result in zip(panels, results, strict=True):
            _panel(axes, result)
        figure.savefig(folder / "speed.png", dpi=120)
        figure.savefig(folder / "speed.svg", metadata={"Date": None})


def _panel(axes: Any, result: Result) -> None:
    sides: Sequence[str] = list(dict.fromkeys(s for c in result.comparisons for s in c.runs))
    at, ticks, names = 0.0, [], []
    for comparison in result.comparisons:
        first = at
        for side in comparison.runs:
            rate = comparison.rate(side)
            colour = f"C{sides.index(side)}"
            axes.barh(at, rate, color=colour, height=0.9)
            if side != next(iter(comparison.runs)):
                ratio = statistics.median(comparison.ratios(side))
                text = f" {ratio:.0%}" if side == "limit" else f" {_short(ratio)} x"
                axes.text(rate, at, text, va="center", fontsize=7)
            at += 1
        ticks.append((first + at - 1) / 2)
        names.append(comparison.case)
        at += 1
    for side in sides:
        axes.barh(0, 0, color=f"C{sides.index(side)}", label=side)
    axes.set_yticks(ticks, names)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.set(title=result.title, xlabel=result.unit)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.grid(axis="x", alpha=0.3)
