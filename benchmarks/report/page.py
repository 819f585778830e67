"""The report of a runs folder: report.md, a self-contained report.html, and the plots."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import diagnostics, tables
from benchmarks.report.cells import Cell, read_cells
from benchmarks.report.inlining import inlined
from benchmarks.report.markdown import fenced
from benchmarks.report.plots import Plot, plots
from benchmarks.report.summary import Summary
from benchmarks.report.tables import Table, in_html, in_markdown, visible
from benchmarks.report.template import page
from benchmarks.suites.definitions import SUITES, make_suite
from textgym.storage.files import write_text

_PLACES = {
    "Over all tasks": ("aggregates", "profile"),
    "By tag": ("tags",),
    "Task by task": ("tasks", "curves"),
    diagnostics.TITLE: ("diagnostics",),
}
"""The plots below a table."""


def report(runs: Path | str, out: Path | str, seed: int = 0) -> Path:
    """Write a report; the same cells give the same files, byte by byte.

    Args:
        runs: The folder with cells.jsonl.
        out: Folder of the report; made if need be.
        seed: Of the bootstraps.

    Returns:
        The path of report.html.

    Raises:
        DataError: If the folder has no cells, or one that cannot be read.
    """
    cells, remarks = read_cells(runs)
    summary = Summary(cells, seed)
    notes = [*summary.notes(), *remarks]
    drawn = {plot.name: plot for plot in plots(summary)}
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    for plot in drawn.values():
        plot.save(folder)
    command = commands(summary, runs, out)
    write_text(folder / "report.md", _markdown(summary, notes, drawn, command))
    path = folder / "report.html"
    write_text(path, _html(summary, notes, drawn, command))
    return path


def commands(summary: Summary, runs: Path | str, out: Path | str) -> str:
    """The commands that make the cells and the report again."""
    lines = []
    for suite in sorted({cell.suite for cell in summary.cells}):
        # There may be more seeds, or other agents, of some environments.
        asked: dict[tuple[int, tuple[str, ...]], list[str]] = {}
        envs = sorted({cell.env for cell in summary.cells if cell.suite == suite})
        known = make_suite(suite).experiments if suite in SUITES else ()
        every = {experiment.id for experiment in known} or set(envs)
        for env in envs:
            cells = [cell for cell in summary.cells if (cell.suite, cell.env) == (suite, env)]
            names = tuple(sorted({cell.agent for cell in cells}))
            asked.setdefault((len({cell.seed for cell in cells}), names), []).append(env)
        for (seeds, names), some in asked.items():
            words = ["python", "-m", "benchmarks", "run", "--suite", suite]
            for agent in names:
                words += ["--agent", agent if _is_ours(agent) else _as_file(agent)]
            if set(some) != every:
                words += [word for env in some for word in ("--only", env)]
            lines.append(shlex.join([*words, "--seeds", str(seeds), "--out", str(runs)]))
    lines.append(
        f"python -m benchmarks report {shlex.quote(str(runs))} --out {shlex.quote(str(out))}"
    )
    return "\n".join(lines)


def _title(summary: Summary) -> str:
    suites = sorted({cell.suite for cell in summary.cells})
    return f"Benchmark: {', '.join(suites)}"


def _lead(summary: Summary) -> str:
    done = sum(cell.error is None for cell in summary.cells)
    return (
        f"{_count(len(summary.agents), 'agent')}, {_count(len(summary.tasks), 'task')}, "
        f"{_count(len(summary.seeds), 'seed')}: {done} of {_count(len(summary.cells), 'cell')} "
        "done."
    )


def _results(summary: Summary) -> list[Table]:
    found = []
    if summary.common:
        found.append(tables.overall(summary))
    if len(summary.scoring) > 1:
        found.append(tables.pairs(summary))
    found.append(tables.by_task(summary))
    if summary.tagged():
        found.append(tables.by_tag(summary))
    if any(cell.error is not None for cell in summary.cells):
        found.append(tables.failures(summary))
    found.append(tables.costs(summary))
    both = (diagnostics.diagnostics(summary), diagnostics.warnings(summary))
    return [*found, *(table for table in both if table is not None)]


def _making(summary: Summary) -> list[Table]:
    """How the results were made."""
    return [
        tables.hashes(summary),
        *(tables.settings(summary, agent) for agent in summary.agents),
        tables.versions(summary),
    ]


def _again(summary: Summary) -> str:
    """Notes on repeating the command."""
    said = "Cells that are done are not run again: give another --out to repeat all of them."
    if any(cell.error is not None for cell in summary.cells):
        said += " Those that failed are, with --retry-failed."
    files = sorted({shlex.split(_as_file(a))[0] for a in summary.agents if not _is_ours(a)})
    if files:
        said += f" Not of agents/, so that its path has to be given: {', '.join(files)}."
    if summary.seeds != list(range(len(summary.seeds))):
        said += f" The seeds were {', '.join(map(str, summary.seeds))}."
    return said


def _markdown(summary: Summary, notes: Sequence[str], drawn: dict[str, Plot], command: str) -> str:
    parts = [f"# {in_markdown(_title(summary))}", _lead(summary)]
    if notes:
        parts.append("\n".join(f"* {in_markdown(note)}" for note in notes))
    shown = _results(summary)
    for table in shown:
        parts += [f"## {in_markdown(table.title)}", table.remark, table.markdown()]
        parts += [
            f"![{drawn[name].title}]({name}.svg)"
            for name in _PLACES.get(table.title, ())
            if name in drawn
        ]
    parts.append("## Texts")
    parts.append("The first prompt of each agent's first cell; report.html has all of them.")
    for task in summary.tasks:
        for agent in summary.agents:
            cell = next((c for c in summary.of(task, agent) if _samples(c)), None)
            if cell is not None:
                parts += [f"**{in_markdown(f'{task}, {agent}, seed {cell.seed}')}**"]
                parts.append("\n".join(fenced(_sample_lines(_samples(cell)[0]))))
    parts.append("## How it was made")
    parts += ["\n".join(["```sh", command, "```"]), _again(summary)]
    for table in _making(summary):
        parts += [f"### {in_markdown(table.title)}", table.markdown()]
    return "\n\n".join(part for part in parts if part) + "\n"


def _html(summary: Summary, notes: Sequence[str], drawn: dict[str, Plot], command: str) -> str:
    parts = [f"<h1>{in_html(_title(summary))}</h1>", f"<p>{in_html(_lead(summary))}</p>"]
    if notes:
        items = "".join(f"<li>{in_html(note)}</li>" for note in notes)
        parts.append(f'<ul class="notes">{items}</ul>')
    for table in _results(summary):
        parts.append(f"<h2>{in_html(table.title)}</h2>")
        if table.remark:
            parts.append(f"<p>{in_html(table.remark)}</p>")
        parts.append(table.html())
        parts += [_figure(drawn[name]) for name in _PLACES.get(table.title, ()) if name in drawn]
    parts.append("<h2>Texts before and after</h2>")
    parts += [_texts(summary, task) for task in summary.tasks]
    parts.append("<h2>How it was made</h2>")
    parts.append(f"<pre><code>{in_html(command)}</code></pre><p>{in_html(_again(summary))}</p>")
    parts += [
        f"<details><summary>{in_html(table.title)}</summary>{table.html()}</details>"
        for table in _making(summary)
    ]
    return page(in_html(_title(summary)), "\n".join(parts))


def _figure(plot: Plot) -> str:
    return (
        f'<figure id="plot-{plot.name}">{inlined(plot)}<figcaption>{in_html(plot.title)} '
        f'(<a href="{plot.name}.svg">SVG</a>, <a href="{plot.name}.png">PNG</a>)</figcaption>'
        "</figure>"
    )


def _texts(summary: Summary, task: str) -> str:
    cells = []
    for cell in summary.of(task):
        body = f"<p>{in_html(cell.error)}</p>" if cell.error is not None else ""
        for sample in _samples(cell):
            body += "<dl>"
            for name in ("prompt", "before", "after"):
                text = in_html(str(sample.get(name) or "")) or "<em>(nothing)</em>"
                body += f"<dt>{name}</dt><dd><pre>{text}</pre></dd>"
            body += "</dl>"
        cells.append(
            f"<details><summary>{in_html(f'{cell.agent}, seed {cell.seed}: {_change(cell)}')}"
            f"</summary>{body or '<p>No texts were kept.</p>'}</details>"
        )
    return f"<details><summary>{in_html(task)}</summary>{''.join(cells)}</details>"


def _change(cell: Cell) -> str:
    if cell.error is not None:
        return "failed"
    before = "-" if cell.mean_before is None else f"{cell.mean_before:.3f}"
    return f"{before} → {cell.mean:.3f}"


def _samples(cell: Cell) -> list[dict[str, str]]:
    return list(cell.record.get("samples") or ())


def _sample_lines(sample: dict[str, str]) -> list[str]:
    return [
        f"{name + ':':8}{visible(str(sample.get(name) or '')) or '(nothing)'}"
        for name in ("prompt", "before", "after")
    ]


def _is_ours(agent: str) -> bool:
    """Whether an agent is one of ``agents/``; of other files the cells hold the name alone."""
    name, *_ = shlex.split(agent)
    return (Path(__file__).parents[2] / "agents" / f"{name}.py").is_file()


def _as_file(agent: str) -> str:
    """An agent of a user's own, as it is asked for: the file, then its flags."""
    name, *flags = shlex.split(agent)
    return shlex.join([f"{name}.py", *flags])


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
