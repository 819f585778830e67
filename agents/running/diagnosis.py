"""The diagnostics of a run: their summary, the table that is printed, and diagnostics.png.

The values are those that :class:`textgym.sb3.DiagnosticsCallback` has logged, and which are defined
there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from textgym.storage.files import replacing

Points = Sequence[tuple[int, float]]
"""``(environment steps, value)`` of each row of a log."""

Courses = Mapping[str, Points]
"""The points of each logged value, by name."""

INFORMATION, MOST = "diagnostics/mutual_information", "diagnostics/mutual_information_max"
SHARES = "reward_shares/"


class Quantity(NamedTuple):
    """A value to watch: its name in the log, its label, and its format."""

    name: str
    label: str
    form: str


QUANTITIES = (
    Quantity("train/explained_variance", "explained variance", "{:.2f}"),
    Quantity("diagnostics/entropy", "entropy, nats per token", "{:.2f}"),
    Quantity(INFORMATION, "mutual information, nats", "{:.2f}"),
    Quantity("diagnostics/groups_without_variance", "groups without variance", "{:.0%}"),
    Quantity("episode/length", "response length, tokens", "{:.1f}"),
    Quantity("episode/finish_length", "responses at the token budget", "{:.0%}"),
)
"""The values of a table, apart from the share of the dominant reward term."""


def print_warning(step: int, sentence: str) -> None:
    """Print a finding of the diagnostics above the progress bar."""
    tqdm.write(f"warning: after {step:,} tokens: {sentence}")


def edges(points: Points) -> tuple[float, float]:
    """The means of the first and of the last tenth of the points, one point at least."""
    values = [value for _, value in points]
    count = max(1, len(values) // 10)
    return float(np.mean(values[:count])), float(np.mean(values[-count:]))


def thinned(courses: Courses, points: int) -> dict[str, list[list[float]]]:
    """At most this many points of each course, rounded: means of neighbours, at the last's steps.

    Returns:
        ``[steps, value]`` of each point, by name, as values of JSON.
    """
    found = {}
    for name, course in courses.items():
        parts = np.array_split(np.arange(len(course)), min(points, len(course)))
        found[name] = [
            [course[int(part[-1])][0], _rounded(np.mean([course[int(at)][1] for at in part]))]
            for part in parts
        ]
    return found


def rows(courses: Courses) -> list[tuple[str, str, str]]:
    """The rows of a table: label, first value and last value of each quantity that was logged."""
    found = []
    for name, label, form in QUANTITIES:
        if not courses.get(name):
            continue
        first, last = (form.format(value) for value in edges(courses[name]))
        if name == INFORMATION and courses.get(MOST):
            label += f" (at most {edges(courses[MOST])[1]:.2f})"
        found.append((label, first, last))
    shares = {name.removeprefix(SHARES): edges(c) for name, c in courses.items() if is_share(name)}
    if shares:
        tops = [max(shares, key=lambda name: shares[name][edge]) for edge in (0, 1)]
        first, last = (f"{top} {shares[top][edge]:.0%}" for edge, top in enumerate(tops))
        found.append(("largest share of the reward's variance", first, last))
    return found


def is_share(name: str) -> bool:
    """Whether a logged value is the share of a reward term in the variance of the reward."""
    return name.startswith(SHARES)


def summary(courses: Courses, warnings: Sequence[tuple[int, str]]) -> dict[str, Any]:
    """First and last value of everything that was logged, and the warnings, as values of JSON."""
    found = {name: edges(points) for name, points in courses.items()}
    return {
        "first": {name: _rounded(first) for name, (first, _) in found.items()},
        "last": {name: _rounded(last) for name, (_, last) in found.items()},
        "warnings": [{"steps": step, "warning": text} for step, text in warnings],
    }


def print_table(console: Console, courses: Courses, warnings: Sequence[tuple[int, str]]) -> None:
    """Print the first and last values, and the warnings; nothing if nothing was logged."""
    found = rows(courses)
    if found:
        table = Table(box=None, pad_edge=False)
        table.add_column("what to watch")
        for heading in ("first", "last"):
            table.add_column(heading, justify="right")
        for row in found:
            table.add_row(*row)
        console.print(table)
    for step, text in warnings:
        console.print(f"warning: after {step:,} tokens: {text}", soft_wrap=True, markup=False)


def plot_diagnostics(path: Path, title: str, courses: Courses) -> None:
    """Draw the course of each quantity; no file if nothing was logged."""
    from matplotlib import pyplot as plt
    from matplotlib.ticker import EngFormatter, PercentFormatter

    panels: list[tuple[str, dict[str, Points]]] = [
        (label, {"": courses[name]}) for name, label, _ in QUANTITIES if courses.get(name)
    ]
    shares = {name.removeprefix(SHARES): c for name, c in courses.items() if is_share(name)}
    if shares:
        panels.append(("share of the reward's variance", shares))
    if not panels:
        return
    percentages = [label for _, label, form in QUANTITIES if "%" in form]
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    size = (3.2 * columns, 0.4 + 2.1 * lines)
    figure, grid = plt.subplots(
        lines, columns, figsize=size, squeeze=False, sharex=True, layout="constrained"
    )
    for axes, (label, lines_of) in zip(grid.ravel(), panels, strict=False):
        for name, points in lines_of.items():
            steps, values = zip(*points, strict=True)
            marker = "o" if len(points) < 12 else ""
            axes.plot(steps, values, marker=marker, ms=3, lw=1.3, label=name)
        if label.startswith("mutual information") and courses.get(MOST):
            steps, most = zip(*courses[MOST], strict=True)
            axes.plot(steps, most, color="#888888", lw=0.8, ls=":")
            axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        if lines_of is shares:
            axes.legend(fontsize=7, frameon=False)
        elif label in percentages:
            axes.set_ylim(-0.03, 1.03)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_title(label, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.set_xlim(left=0)
        axes.tick_params(labelbottom=True)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.grid(alpha=0.3)
    for axes in grid.ravel()[len(panels) :]:
        axes.remove()
    figure.suptitle(title, fontsize=10)
    figure.supxlabel("environment steps (tokens)", fontsize=9)
    with replacing(path) as file:
        figure.savefig(file, dpi=120, format="png")
    plt.close(figure)


def _rounded(value: float | np.floating[Any]) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")
