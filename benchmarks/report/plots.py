"""The plots of a report, each as SVG and PNG, in colours for all kinds of colour vision."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from benchmarks.report import diagnostics as dg
from benchmarks.report import statistics as st
from benchmarks.report.statistics import Estimate
from benchmarks.report.summary import SMOOTHED, STATISTICS, Summary
from textgym.storage.files import write_bytes, write_text

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
"""Colours that are distinct without red and green: Okabe and Ito's, with brown in place of yellow,
which is too pale for lines."""

MARKERS = "osD^vPX*"
"""After eight agents the colours repeat, with other markers and dashes."""

DASHES = ("-", "--", ":", "-.")

_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # A name may contain a dollar.
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@dataclass(frozen=True)
class Plot:
    """A figure that was drawn.

    Attributes:
        name: Name of its files, without the ending.
        title: A one-line description.
        svg: The SVG file.
        png: The PNG file.
    """

    name: str
    title: str
    svg: str
    png: bytes

    def save(self, folder: Path) -> None:
        """Write both files."""
        write_text(folder / f"{self.name}.svg", self.svg)
        write_bytes(folder / f"{self.name}.png", self.png)


def style(agents: Sequence[str], agent: str) -> dict[str, Any]:
    """Colour, marker and dashes of an agent: the same in every plot."""
    at = agents.index(agent)
    return {
        "color": PALETTE[at % len(PALETTE)],
        "marker": MARKERS[at % len(MARKERS) if at < len(MARKERS) else (at + 3) % len(MARKERS)],
        "linestyle": DASHES[at // len(PALETTE) % len(DASHES)],
    }


def plots(summary: Summary) -> list[Plot]:
    """All plots for which there is anything to show."""
    drawn: list[tuple[str, str, Callable[[Summary], Figure]]] = []
    if summary.common:
        drawn.append(("aggregates", "Over all tasks: four statistics, 95% intervals", aggregates))
        drawn.append(("profile", "Performance profiles, 95% bands", profile))
        if summary.tagged():
            drawn.append(("tags", "Mean normalised score by tag", tags))
    if summary.scoring:
        drawn.append(("tasks", "Each task: seeds, means and 95% intervals", tasks))
        if any(summary.curve(t, a)[0].size for t in summary.tasks for a in summary.scoring):
            drawn.append(("curves", "Returns in training: mean over seeds, 95% bands", curves))
    if any(cell.courses for cell in summary.cells):
        title = "Diagnostics in training: means over tasks and seeds"
        drawn.append(("diagnostics", title, diagnostics))
    with mpl.rc_context(_STYLE):
        return [_rendered(name, title, draw(summary)) for name, title, draw in drawn]


def aggregates(summary: Summary) -> Figure:
    """Statistics over the common tasks, one panel each."""
    agents = summary.scoring
    figure = Figure(figsize=(7.2, 0.6 + 0.3 * len(agents)), layout="constrained")
    panels = figure.subplots(1, len(STATISTICS), sharey=True)
    for axes, (name, statistic) in zip(panels, STATISTICS.items(), strict=True):
        for row, agent in enumerate(agents):
            found = summary.over(agent, summary.common, statistic)
            _interval(axes, found, row, style(summary.agents, agent))
        axes.set_title(f"{name}\n(less is better)" if name == "optimality gap" else name)
        axes.title.set_fontsize(8)
        axes.locator_params(axis="x", nbins=4)
        axes.grid(axis="y", visible=False)
    panels[0].set_yticks(range(len(agents)), agents)
    panels[0].set_ylim(len(agents) - 0.5, -0.5)
    return figure


def profile(summary: Summary) -> Figure:
    """Share of runs above each score."""
    every = [summary.scores(agent, summary.common) for agent in summary.scoring]
    low = min(0.0, *(float(np.nanmin(scores)) for scores in every))
    high = max(1.0, *(float(np.nanmax(scores)) for scores in every))
    taus = np.linspace(low, high, 201)
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    axes = figure.subplots()
    for agent in summary.scoring:
        value, lower, upper = summary.profile(agent, taus)
        look = style(summary.agents, agent)
        axes.plot(taus, value, **{**look, "marker": ""}, label=agent, drawstyle="steps-post")
        axes.fill_between(taus, lower, upper, color=look["color"], alpha=0.2, lw=0, step="post")
    axes.set(xlabel="normalised score τ", ylabel="share of runs above τ", ylim=(-0.02, 1.02))
    axes.set_xlim(low, high)
    _legend(figure, axes)
    return figure


def tags(summary: Summary) -> Figure:
    """Mean score by tag: a radar, or lines of intervals where there are too few tags for one."""
    tagged = summary.tagged()
    found = {
        agent: [summary.over(agent, tasks, st.mean) for tasks in tagged.values()]
        for agent in summary.scoring
    }
    if len(tagged) < 3:
        return _rows(summary, dict(zip(tagged, zip(*found.values(), strict=True), strict=True)))
    figure = Figure(figsize=(5.4, 4.2), layout="constrained")
    axes: Any = figure.add_subplot(projection="polar")
    angles = np.linspace(0, 2 * np.pi, len(tagged), endpoint=False)
    for agent, estimates in found.items():
        look = style(summary.agents, agent)
        radii = np.clip([each.value for each in estimates], 0, 1)
        around, closed = np.append(angles, angles[0]), np.append(radii, radii[0])
        axes.plot(around, closed, **look, markersize=4, label=agent, clip_on=False)
        axes.fill(around, closed, color=look["color"], alpha=0.06, lw=0)
    labels = [f"{tag}\n({len(tasks)})" for tag, tasks in tagged.items()]
    axes.set_xticks(angles, labels)
    for label, angle in zip(axes.get_xticklabels(), angles, strict=True):
        side = round(math.sin(angle), 6)
        label.set_horizontalalignment("left" if side > 0 else "right" if side < 0 else "center")
    axes.set(ylim=(0, 1), theta_offset=math.pi / 2, theta_direction=-1)
    axes.set_yticks([0.25, 0.5, 0.75, 1.0], ["", "0.5", "", "1"], fontsize=7, color="#555555")
    axes.spines["polar"].set_color("#bbbbbb")
    _legend(figure, axes)
    return figure


def tasks(summary: Summary) -> Figure:
    """Normalised scores by task: every seed, the mean and its interval."""
    return _rows(
        summary,
        {t: tuple(summary.score(t, agent) for agent in summary.scoring) for t in summary.tasks},
        {t: tuple(summary.scores(agent, [t]) for agent in summary.scoring) for t in summary.tasks},
    )


def curves(summary: Summary) -> Figure:
    """Learning curves, smoothed, one panel a task; dotted lines are the floor and the ceiling.

    Only for agents and tasks that have any: agents that do not learn have no curve.
    """
    pairs = [(t, a) for t in summary.tasks for a in summary.scoring if summary.curve(t, a)[0].size]
    shown = [task for task in summary.tasks if any(task == t for t, _ in pairs)]
    learners = [agent for agent in summary.scoring if any(agent == a for _, a in pairs)]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(max(4.4, 2.7 * columns), 0.5 + 2.0 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, task in zip(panels, shown, strict=False):
        record = summary.of(task)[0].record
        for edge in (record["floor"], record["ceiling"]):
            axes.axhline(edge, color="#888888", lw=0.8, ls=":", zorder=1)
        for agent in learners:
            x, (value, lower, upper) = summary.curve(task, agent)
            look = style(summary.agents, agent)
            marker = look["marker"] if len(x) == 1 else ""
            axes.plot(x, value, **{**look, "marker": marker}, lw=1.3, label=agent)
            axes.fill_between(x, lower, upper, color=look["color"], alpha=0.2, lw=0)
        axes.set_title(_wrapped(task))
        axes.title.set_fontsize(8)
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", nbins=4)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    for axes in panels[len(shown) :]:
        axes.remove()
    figure.supxlabel(f"tokens of training (running means of {SMOOTHED} points)", fontsize=9)
    figure.supylabel("return", fontsize=9)
    _legend(figure, panels[0])
    return figure


def diagnostics(summary: Summary) -> Figure:
    """The course of each diagnostic value, one panel each and one line an agent."""
    found = {agent: dg.courses(summary, agent) for agent in summary.agents}
    labels = [
        label for label in (*dg.PANELS.values(), dg.LARGEST)
        if any(label in each for each in found.values())
    ]  # fmt: skip
    columns = min(3, len(labels))
    rows = -(-len(labels) // columns)
    figure = Figure(figsize=(max(4.4, 2.7 * columns), 0.5 + 2.0 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    percent = np.linspace(0, 100, dg.GRID)
    learners = [agent for agent in summary.agents if found[agent]]
    for axes, label in zip(panels, labels, strict=False):
        for agent in learners:
            values = found[agent].get(label, np.full(dg.GRID, np.nan))
            look = style(summary.agents, agent)
            axes.plot(percent, values, **look, ms=3, markevery=5, lw=1.3, label=agent)
        axes.set_title(label)
        axes.title.set_fontsize(8)
        axes.set_xlim(0, 100)
        if label in dg.BOUNDED:
            axes.set_ylim(-0.03, 1.03)
        if label == dg.PANELS["train/explained_variance"]:
            axes.set_ylim(bottom=max(-1.0, axes.get_ylim()[0]))
            axes.axhline(0, color="#888888", lw=0.8, ls=":", zorder=1)
    for axes in panels[len(labels) :]:
        axes.remove()
    figure.supxlabel("percent of the training", fontsize=9)
    _legend(figure, panels[0])
    return figure


def _rows(
    summary: Summary,
    groups: dict[str, tuple[Estimate | None, ...]],
    seeds: dict[str, tuple[Any, ...]] | None = None,
) -> Figure:
    """Groups of intervals below each other, one line an agent."""
    agents = summary.scoring
    step = len(agents) + 1
    height = 0.9 + 0.15 * step * len(groups)
    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.subplots()
    for group, name in enumerate(groups):
        for row, agent in enumerate(agents):
            at = group * step + row
            look = style(summary.agents, agent)
            if seeds is not None:
                runs = seeds[name][row].ravel()
                axes.plot(runs, [at] * len(runs), "|", color=look["color"], alpha=0.45, ms=6)
            found = groups[name][row]
            if found is not None:
                _interval(axes, found, at, look, label=None if group else agent)
            elif not group:  # For the legend.
                axes.plot([], [], **{**look, "linestyle": ""}, label=agent)
        if group:
            axes.axhline(group * step - 1, color="#dddddd", lw=0.6)
    middle = [group * step + (len(agents) - 1) / 2 for group in range(len(groups))]
    axes.set_yticks(middle, [_wrapped(name) for name in groups])
    axes.set_ylim(len(groups) * step - 1, -1)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    for edge in (0, 1):
        axes.axvline(edge, color="#888888", lw=0.8, ls=":", zorder=1)
    axes.set_xlabel("normalised score (0: random tokens, 1: oracle)")
    _legend(figure, axes)
    return figure


def _interval(
    axes: Axes, found: Estimate, at: float, look: dict[str, Any], label: str | None = None
) -> None:
    """A mean, with its interval if there is one."""
    if found.known:
        axes.plot([found.low, found.high], [at, at], color=look["color"], lw=2.2, alpha=0.75)
    axes.plot(
        [found.value], [at], **{**look, "linestyle": ""}, ms=6, mec="white", mew=0.6, label=label
    )


def _legend(figure: Figure, axes: Axes) -> None:
    """The agents, above everything, in as many columns as the figure is wide for."""
    handles, labels = axes.get_legend_handles_labels()
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    for columns in range(min(5, len(labels)), 0, -1):
        # Not below: there, constrained layouts let it lie on the axes' labels.
        legend = figure.legend(handles, labels, loc="outside upper center", ncols=columns)
        if columns == 1 or legend.get_window_extent(renderer).width <= figure.bbox.width:
            break
        legend.remove()
    lines = -(-len(labels) // columns)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.17 * max(0, lines - 3))


def _wrapped(task: str) -> str:
    """A task's name in two lines: environment, arguments."""
    name, _, arguments = task.removeprefix("TextGen/").partition(" ")
    return f"{name}\n{arguments}" if arguments else name


def _rendered(name: str, title: str, figure: Figure) -> Plot:
    svg, png = io.StringIO(), io.BytesIO()
    with warnings.catch_warnings(), mpl.rc_context({"svg.hashsalt": name}):
        # An agent may be called in letters that the font of the PNG lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(svg, format="svg", metadata=nothing)
        figure.savefig(png, format="png", dpi=200, metadata={"Software": None})
    return Plot(name, title, svg.getvalue(), png.getvalue())
