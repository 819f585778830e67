"""Tables of what the agents' trainings logged beyond returns, and of the warnings.

The values are defined at :class:`textgym.sb3.DiagnosticsCallback`. A report of cells without them,
such as those of earlier versions, has no such tables.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agents.running.diagnosis import INFORMATION, MOST, QUANTITIES, SHARES, edges, is_share
from benchmarks.report.cells import Cell
from benchmarks.report.summary import Summary
from benchmarks.report.tables import Table, Value

TITLE = "Diagnostics"

LARGEST = "largest share of the reward's variance"

PANELS = {
    "train/explained_variance": "explained variance",
    "diagnostics/entropy": "entropy, nats per token",
    INFORMATION: "mutual information, of its maximum",
    "diagnostics/groups_without_variance": "groups without variance",
    "diagnostics/length_ratio": "length, relative to the first",
    "episode/finish_length": "responses at the token budget",
}
"""Labels of the panels of the plot, apart from `LARGEST`."""

BOUNDED = (
    PANELS[INFORMATION],
    PANELS["diagnostics/groups_without_variance"],
    PANELS["episode/finish_length"],
)
"""Labels of the values between 0 and 1."""

_HEADS = {
    "train/explained_variance": "explained variance",
    "diagnostics/entropy": "entropy",
    INFORMATION: "mutual information",
    "diagnostics/groups_without_variance": "tied groups",
    "episode/length": "length",
    "episode/finish_length": "at the budget",
}

GRID = 21
"""Points of a course in the plot."""

Floats = NDArray[np.float64]

_ABSENT = Value("-")


def diagnostics(summary: Summary) -> Table | None:
    """First and last values of each agent in each task; None if no cell has any."""
    found = [
        (task, agent, cells)
        for task in summary.tasks
        for agent in summary.agents
        if (cells := [cell for cell in summary.of(task, agent) if cell.courses])
    ]
    if not found:
        return None
    rows = [
        [
            Value(task),
            Value(agent),
            *(_change(cells, name, form) for name, _, form in QUANTITIES),
            _largest_share(cells),
        ]
        for task, agent, cells in found
    ]
    head = ["task", "agent", *(_HEADS[name] for name, _, _ in QUANTITIES), "largest reward share"]
    kept = [at for at in range(len(head)) if at < 2 or any(row[at] is not _ABSENT for row in rows)]
    most = max(
        (edges(cell.courses[MOST])[1] for _, _, cells in found for cell in cells
         if cell.courses.get(MOST)),
        default=0.0,
    )  # fmt: skip
    return Table(
        TITLE,
        [head[at] for at in kept],
        [[row[at] for at in kept] for row in rows],
        "First and last tenth of the training, means over the seeds. Explained variance: of the "
        "returns by the value function; below 0 a constant would be better. Entropy: of the "
        "policy, nats per token. Mutual information: of prompts and responses, at most "
        f"{most:.2f} nats; near 0 responses do not depend on the prompt. Tied groups: responses to "
        "one prompt whose returns have no variance, so that their comparison teaches nothing. "
        "Length: tokens of a response. At the budget: responses that are as long as they may be. "
        "Largest reward share: the term that explains most of the variance of the reward, where "
        "there are several.",
    )


def warnings(summary: Summary) -> Table | None:
    """The warnings, each with the seeds that it was given with; None without any."""
    found: dict[tuple[str, str, str], list[tuple[int, int, str]]] = {}
    for cell in summary.cells:
        for step, text in cell.warnings:
            kind = "".join(letter for letter in text if not letter.isdigit())
            found.setdefault((cell.task, cell.agent, kind[:20]), []).append((cell.seed, step, text))
    if not found:
        return None
    rows = []
    for (task, agent, _), given in found.items():
        seeds = ", ".join(str(seed) for seed, _, _ in given)
        first = min(step for _, step, _ in given)
        shown = [Value(task), Value(agent), Value(seeds), Value(f"{first:,}", first)]
        rows.append([*shown, Value(given[0][2])])
    return Table(
        "Warnings",
        ["task", "agent", "seeds", "after tokens", "warning"],
        rows,
        "Each is given once in a training. Tokens are of the earliest one, and figures of the "
        "first seed.",
        numbers=False,
    )


def courses(summary: Summary, agent: str) -> dict[str, Floats]:
    """The course of each quantity of an agent, in the mean over its cells.

    Mutual information is a share of its maximum, length a ratio to the first one, and the reward
    shares are the largest one.

    Returns:
        For each label, values ``[GRID]`` at equal distances from the beginning to the end of the
        training; NaN where no cell has a value. Labels without any value are left out.
    """
    found: dict[str, list[Floats]] = {}
    for cell in summary.of(agent=agent):
        for label, values in _curves(cell).items():
            found.setdefault(label, []).append(values)
    means = {}
    for label, each in found.items():
        values = np.stack(each)
        known = (~np.isnan(values)).sum(0)
        means[label] = np.where(known, np.nansum(values, 0) / np.maximum(known, 1), np.nan)
    return means


def _curves(cell: Cell) -> dict[str, Floats]:
    steps = max((points[-1][0] for points in cell.courses.values() if points), default=0)
    end = max(steps, int(cell.record["timesteps"]))

    def at_grid(points: Sequence[tuple[int, float]]) -> Floats:
        xs, ys = np.array(points, np.float64).T
        grid = np.linspace(0, 1, GRID)
        values: Floats = np.interp(grid * end, xs, ys, right=np.nan)
        # Before the first value is none; behind the last one, for a stretch between two values.
        reach = xs[-1] + (xs[-1] - xs[0]) / max(1, len(xs) - 1)
        values[grid * end < xs[0] - 1e-9] = np.nan
        values[(grid * end > xs[-1]) & (grid * end <= reach)] = ys[-1]
        return values

    curves = {name: at_grid(points) for name, points in cell.courses.items() if points}
    found = {name: curves[key] for key, name in PANELS.items() if key in curves}
    if INFORMATION in curves and MOST in curves:
        found[PANELS[INFORMATION]] = curves[INFORMATION] / curves[MOST]
    shares = [curves[name] for name in curves if is_share(name)]
    if shares:
        found[LARGEST] = np.max(shares, axis=0)
    return found


def _change(cells: Sequence[Cell], name: str, form: str) -> Value:
    """First and last value of a quantity: mean over the cells that have it."""
    found = [edges(cell.courses[name]) for cell in cells if cell.courses.get(name)]
    if not found:
        return _ABSENT
    first, last = np.mean(found, axis=0).tolist()
    return Value(f"{form.format(first)} → {form.format(last)}", last)


def _largest_share(cells: Sequence[Cell]) -> Value:
    """The reward term with the largest share at the end, in the mean over the cells."""
    names = sorted({name for cell in cells for name in cell.courses if is_share(name)})
    if not names:
        return _ABSENT
    last = {
        name: float(np.mean([edges(c.courses[name])[1] for c in cells if c.courses.get(name)]))
        for name in names
    }
    top = max(names, key=lambda name: last[name])
    return Value(f"{top.removeprefix(SHARES)} {last[top]:.0%}", last[top])
