"""Changes between two runs folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import statistics as st
from benchmarks.report.cells import Cell, distinct, name_suites, read_cells, values
from benchmarks.report.statistics import Estimate
from benchmarks.report.summary import Summary, matrix
from benchmarks.report.tables import Table, Value, in_markdown, with_interval


def compare(a: Path | str, b: Path | str, seed: int = 0) -> str:
    """Compare the cells of two folders.

    Args:
        a: The older folder.
        b: The newer folder; differences are of B over A.
        seed: Of the bootstraps.

    Returns:
        Markdown.

    Raises:
        DataError: If a folder has no cells, or one that cannot be read.
    """
    (left, left_remarks), (right, right_remarks) = read_cells(a), read_cells(b)
    # Names of tasks include the suite in both folders, or in neither.
    several = left[0].names_suite or right[0].names_suite
    one, two = (Summary(name_suites(cells, several), seed) for cells in (left, right))
    parts = [
        "# What changed",
        f"From A, {in_markdown(str(a))} ({len(left)} cells), to B, {in_markdown(str(b))} "
        f"({len(right)} cells).",
    ]
    found = [*_sides(one, two), *_making(one, two)]
    found += [f"A: {remark}" for remark in left_remarks]
    found += [f"B: {remark}" for remark in right_remarks]
    said = [f"* {in_markdown(each)}" for each in found]
    parts += ["## What was run", "\n".join(said) or "The same in both folders."]
    table = _differences(one, two)
    parts += ["## Results"]
    parts += [table.remark, table.markdown()] if table.rows else ["No cell is in both folders."]
    return "\n\n".join(parts) + "\n"


def _sides(one: Summary, two: Summary) -> list[str]:
    """Tasks, agents and seeds of one of the folders only."""
    found = []
    for what in ("agents", "tasks", "seeds"):
        ours, theirs = getattr(one, what), getattr(two, what)
        for name, here, there in (("A", ours, theirs), ("B", theirs, ours)):
            only = [str(each) for each in here if each not in there]
            if only:
                found.append(f"{what.capitalize()} only in {name}: {', '.join(only)}.")
    return found


def _making(one: Summary, two: Summary) -> list[str]:
    """Differences in how the cells were made."""
    found = []

    def note(what: str, left: Sequence[str], right: Sequence[str]) -> None:
        if list(left) != list(right):
            found.append(f"{what}: {' or '.join(left)} → {' or '.join(right)}.")

    def key(name: str) -> Callable[[Cell], Any]:
        return lambda cell: cell.record.get(name)

    note("Suite", *(distinct(side.cells, key("suite")) for side in (one, two)))
    for task in one.tasks:
        if task in two.tasks:
            for name, said in _OF_TASKS.items():
                note(f"{task}, {said}", *(distinct(s.of(task), key(name)) for s in (one, two)))
    for agent in one.agents:
        if agent in two.agents:
            # Only tasks of both folders: settings may depend on the environment.
            shared = set(one.tasks) & set(two.tasks)
            sides = [[c for c in side.of(agent=agent) if c.task in shared] for side in (one, two)]
            _note_values(note, f"{agent}, setting", *(values(side, "settings") for side in sides))
            note(
                f"{agent}, its file (hash)", *(distinct(side, key("agent_hash")) for side in sides)
            )
            note(f"{agent}, language model", *(distinct(side, key("lm_hash")) for side in sides))
    _note_values(note, "Version of", *(values(side.cells, "versions") for side in (one, two)))
    return found


_OF_TASKS = {
    "task_hash": "the task itself (hash)",
    "timesteps": "tokens of training",
    "floor": "floor",
    "ceiling": "ceiling",
}


def _note_values(
    note: Callable[[str, Sequence[str], Sequence[str]], None],
    what: str,
    left: dict[str, list[str]],
    right: dict[str, list[str]],
) -> None:
    for key in sorted({*left, *right} - {"seed"}):  # Seeds are compared by themselves.
        note(f"{what} {key}", left.get(key, ["none"]), right.get(key, ["none"]))


def _differences(one: Summary, two: Summary) -> Table:
    rows, changed, compared = [], 0, 0
    for task in one.tasks:
        if task not in two.tasks:
            continue
        hashes = {cell.record.get("task_hash") for side in (one, two) for cell in side.of(task)}
        for agent in one.agents:
            if not (one.of(task, agent) and two.of(task, agent)):
                continue
            means = [one.returns(task, agent), two.returns(task, agent)]
            row = [Value(task), Value(agent)]
            row += [Value(_with_count(side, task, agent)) for side in (one, two)]
            if len(hashes) > 1:
                row.append(Value("not computed: the task changed"))
            elif None in means:
                row.append(Value("not computed: no score"))
            else:
                found = _difference(one, two, task, agent)
                compared += 1
                changed += found.excludes_zero
                row.append(Value(_signed(found), found.value, found.excludes_zero))
            rows.append(row)
    remark = (
        "Mean returns after training, and the difference B - A, with 95% bootstrap intervals over "
        "seeds, drawn independently in A and B. Bold: the interval leaves out 0, as "
        f"{changed} of {compared} do; by chance alone it would be one in twenty. No "
        "interval: fewer than two seeds on one side."
    )
    return Table("Results", ["task", "agent", "A", "B", "B - A"], rows, remark)


def _difference(one: Summary, two: Summary, task: str, agent: str) -> Estimate:
    ours, theirs = (matrix(side.of(task, agent), [task], normalised=False) for side in (two, one))
    return st.difference(ours, theirs, st.mean_difference, one.seed)


def _with_count(side: Summary, task: str, agent: str) -> str:
    cells = side.of(task, agent)
    done = int(np.sum(side.runs(task, agent) == side.runs(task, agent)))
    text = f"{with_interval(side.returns(task, agent))} (n={done}"
    return f"{text}, {len(cells) - done} failed)" if done < len(cells) else f"{text})"


def _signed(found: Estimate) -> str:
    if not found.known:
        return f"{found.value:+.3f}"
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
