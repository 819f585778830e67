"""Tables of a report, as Markdown and as HTML that can be sorted."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.report import statistics as st
from benchmarks.report.cells import values
from benchmarks.report.statistics import Estimate
from benchmarks.report.summary import STATISTICS, Summary


@dataclass(frozen=True)
class Value:
    """The content of a field of a table.

    Attributes:
        text: The visible text.
        number: The key for sorting the column; None for text.
        bold: Whether it is bold.
    """

    text: str
    number: float | None = None
    bold: bool = False


@dataclass(frozen=True)
class Table:
    """A table with a title and a remark on how to read it.

    Attributes:
        title: Its heading.
        head: Names of the columns.
        rows: Its rows; each starts with a name.
        remark: A sentence or two.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Value]]
    remark: str = ""
    numbers: bool = field(default=True)

    def markdown(self) -> str:
        """The table in GitHub's Markdown."""
        line = ["---", *("--:" if self.numbers else "---" for _ in self.head[1:])]
        rows = [
            [f"**{in_markdown(v.text)}**" if v.bold else in_markdown(v.text) for v in row]
            for row in self.rows
        ]
        head = [in_markdown(name) for name in self.head]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, line, *rows))

    def html(self) -> str:
        """The table in HTML; the page's script sorts it by the column that is clicked on."""
        head = "".join(
            f'<th scope="col"><button type="button">{in_html(name)}</button></th>'
            for name in self.head
        )
        body = "".join(
            f"<tr>{''.join(self._field(value, at) for at, value in enumerate(row))}</tr>\n"
            for row in self.rows
        )
        return (
            f'<div class="wide"><table{" class=numbers" if self.numbers else ""}>'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>"
        )

    def _field(self, value: Value, at: int) -> str:
        tag = 'th scope="row"' if at == 0 else "td"
        number = value.number
        by = "" if number is None or math.isnan(number) else f' data-by="{number:.9g}"'
        text = in_html(value.text)
        return f"<{tag}{by}>{f'<strong>{text}</strong>' if value.bold else text}</{tag[:2]}>"


def visible(text: str) -> str:
    """A text with visible symbols in place of control characters."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return re.sub(
        r"[\x00-\x08\x0b-\x1f\x7f]",
        lambda found: "␡" if found[0] == "\x7f" else chr(0x2400 + ord(found[0])),
        text,
    )


def in_html(text: str) -> str:
    """A text, escaped for HTML."""
    return html.escape(visible(text))


def in_markdown(text: str) -> str:
    """A text, escaped for a line of Markdown."""
    return re.sub(r"([\\`*_\[\]<>|~#&$])", r"\\\1", " ".join(visible(text).split()))


def with_interval(found: Estimate | None) -> str:
    """An estimate and its interval."""
    if found is None:
        return "-"
    if not found.known:
        return f"{found.value:.3f}"
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def overall(summary: Summary) -> Table:
    """Agent x statistic over the common tasks."""
    rows = []
    for agent in summary.scoring:
        scores = summary.scores(agent, summary.common)
        found = [summary.over(agent, summary.common, each) for each in STATISTICS.values()]
        means = st.task_means(scores)
        runs = int((scores == scores).sum())
        rows.append(
            [
                Value(agent),
                *(Value(with_interval(each), each.value) for each in found),
                Value(f"{means.min():.3f} to {means.max():.3f}", float(means.min())),
                Value(str(runs), runs),
            ]
        )
    return Table(
        "Over all tasks",
        ["agent", *STATISTICS, "worst to best task", "runs"],
        rows,
        f"Normalised scores (0: random tokens, 1: oracle) over the {len(summary.common)} of "
        f"{len(summary.tasks)} tasks that every agent has a score in; 95% intervals by "
        f"{st.REPLICATES:,} replicates of a bootstrap over the seeds of each task. IQM: mean of "
        "the middle half of the runs. Optimality gap: how far runs are below 1; less is better.",
    )


def by_task(summary: Summary) -> Table:
    """Mean returns, task x agent, or agent x task where that is narrower."""
    rows = []
    for task in summary.tasks:
        record, best = summary.of(task)[0].record, summary.best(task)
        row = [Value(task)]
        row += [Value(f"{record[edge]:g}", record[edge]) for edge in ("floor", "ceiling")]
        for agent in summary.agents:
            found, cells = summary.returns(task, agent), summary.of(task, agent)
            failed = sum(cell.error is not None for cell in cells)
            count = len(cells) - failed
            text = with_interval(found)
            if failed:
                text += f" ({failed} of {len(cells)} failed)"
            elif found is not None and count < len(summary.seeds):
                text += f" ({count} seed{'s' * (count != 1)})"
            elif found is None:
                text = "not run"
            row.append(Value(text, found.value if found else None, agent == best))
        rows.append(row)
    head = ["task", "floor", "ceiling", *summary.agents]
    if len(summary.agents) > len(summary.tasks):
        names = [Value(name) for name in head[1:]]
        head = ["agent", *(row[0].text for row in rows)]
        rows = [list(row) for row in zip(names, *(row[1:] for row in rows), strict=True)]
    return Table(
        "Task by task",
        head,
        rows,
        "Mean return after training over the seeds, with 95% bootstrap intervals. Bold: better "
        "than every other agent, each 95% interval of the difference above 0. Of many intervals, "
        "one in twenty leaves out 0 by chance. Floor: random tokens; ceiling: oracle.",
    )


def pairs(summary: Summary) -> Table:
    """Probability that the row's agent beats the column's."""
    rows = []
    for x in summary.scoring:
        row = [Value(x)]
        for y in summary.scoring:
            found = None if x == y else summary.improvement(*sorted((x, y)))
            if found is None:
                row.append(Value("-"))
                continue
            each, tasks = found
            if x > y:  # The same draws with the sides exchanged.
                each = Estimate(1 - each.value, 1 - each.high, 1 - each.low)
            text = with_interval(each) + (
                f" ({tasks} tasks)" if tasks != len(summary.common) else ""
            )
            sure = each.known and (each.low > 0.5 or each.high < 0.5)
            row.append(Value(text, each.value, sure))
        rows.append(row)
    return Table(
        "Probability of improvement",
        ["agent", *(f"over {agent}" for agent in summary.scoring)],
        rows,
        "The probability that a run of the row's agent scores higher than one of the column's, in "
        "the mean of the tasks of both; ties count half. Bold: the 95% interval leaves out 0.5.",
    )


def by_tag(summary: Summary) -> Table:
    """Tag x agent: mean normalised scores."""
    rows = []
    for tag, tasks in summary.tagged().items():
        found = [summary.over(agent, tasks, st.mean) for agent in summary.scoring]
        rows.append(
            [
                Value(tag),
                Value(str(len(tasks)), len(tasks)),
                *(Value(with_interval(each), each.value) for each in found),
            ]
        )
    return Table(
        "By tag",
        ["tag", "tasks", *summary.scoring],
        rows,
        "Mean normalised score over the tasks of a tag; a radar shows it cut off at 0 and 1.",
    )


def costs(summary: Summary) -> Table:
    """The cost of every agent."""
    rows = []
    for agent in summary.agents:
        cells = summary.of(agent=agent)
        done = [cell for cell in cells if cell.error is None]
        tokens = sum(int(cell.record["timesteps"]) for cell in done)
        minutes = [
            sum(float(cell.record.get(what) or 0) for cell in cells) / 60
            for what in ("wall_seconds", "cpu_seconds")
        ]
        speeds = [float(c.record["tokens_per_second"]) for c in done if _speed(c.record)]
        speed = sum(speeds) / len(speeds) if speeds else None
        rows.append(
            [
                Value(agent),
                Value(f"{len(done)} of {len(cells)}", len(done)),
                Value(f"{tokens:,}", tokens),
                *(Value(f"{spent:,.1f}", spent) for spent in minutes),
                Value("-" if speed is None else f"{speed:,.0f}", speed),
            ]
        )
    return Table(
        "Costs",
        ["agent", "cells done", "tokens", "minutes", "CPU minutes", "tokens/s"],
        rows,
        "Tokens: the budgets of the cells that are done. Minutes: of all cells, failed ones and "
        "evaluations included. Tokens/s: mean over the cells that are done.",
    )


def settings(summary: Summary, agent: str) -> Table:
    """The settings of an agent; where cells differ, all values."""
    return _values(f"Settings of {agent}", values(summary.of(agent=agent), "settings"))


def versions(summary: Summary) -> Table:
    """Versions of everything, and the initial language models."""
    found = values(summary.cells, "versions")
    hashes = sorted({str(cell.record.get("lm_hash")) for cell in summary.cells})
    return _values("Versions", {**found, "language model (hash)": hashes})


def hashes(summary: Summary) -> Table:
    """Hashes and budgets that show whether a task is still the same."""
    rows = []
    for task in summary.tasks:
        cells = summary.of(task)
        rows.append(
            [
                Value(task),
                *(
                    Value(", ".join(sorted({str(cell.record.get(key)) for cell in cells})))
                    for key in ("timesteps", "task_hash")
                ),
                Value(", ".join(map(str, cells[0].record.get("tags") or ()))),
            ]
        )
    return Table("Tasks", ["task", "tokens", "task hash", "tags"], rows, numbers=False)


def failures(summary: Summary) -> Table:
    """Cells without a score, and the reasons."""
    rows = [
        [Value(cell.task), Value(cell.agent), Value(str(cell.seed), cell.seed), Value(cell.error)]
        for cell in summary.cells
        if cell.error is not None
    ]
    return Table("Failed cells", ["task", "agent", "seed", "error"], rows, numbers=False)


def _speed(record: object) -> bool:
    speed = record.get("tokens_per_second") if hasattr(record, "get") else None
    return isinstance(speed, (int, float)) and math.isfinite(speed) and speed > 0


def _values(title: str, found: dict[str, list[str]]) -> Table:
    rows = [[Value(key), Value(" or ".join(map(_plain, each)))] for key, each in found.items()]
    return Table(title, ["name", "value"], rows, numbers=False)


def _plain(value: str) -> str:
    """JSON without the quotes of a text."""
    try:
        read = json.loads(value)
    except ValueError:
        return value
    return read if isinstance(read, str) else value
