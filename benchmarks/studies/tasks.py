"""Scores of simple writers on the built-in tasks, and the speed of generating and judging.

    python -m benchmarks results --only tasks
    python -m benchmarks.tasks --rows 100 --lm none --out FILE

For each task and level the scores of random tokens (the floor), of the best
of the task contract's cheats, of the baselines, of a language model and of the oracle (the
ceiling), with 95 % intervals of the means, and rows and scores a second of CPU time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from textgym.pretrain.writing import writer
from textgym.storage.files import write_text
from textgym.tasks import Task, make_task
from textgym.tasks.mix import Mix
from textgym.tasks.registry import built_in_tasks
from textgym.testing.standings import Standing, play, standings


@dataclass
class Settings:
    """Settings of the table."""

    rows: int = 200
    """Rows that each writer is scored on."""
    timed: int = 3000
    """Rows that are made and judged for the speeds."""
    lm: str = "textgym/tiny"
    """Language model to score, or none."""
    level: tuple[int, ...] = (1, 2, 3)
    """Levels."""
    seed: int = 0
    """Seed of everything random."""
    out: Path = Path("runs/tasks.md")
    """The file to write. The published one, docs/tasks.md, is that of the study."""


def main(settings: Settings) -> None:
    """Judge every task in open text and write the table."""
    torch.manual_seed(settings.seed)
    lines: list[str] = []
    print(_table_head(settings.lm))
    for name in built_in_tasks():
        # A mixture's tasks are judged one by one; the probes' scales are closed forms.
        if name == Mix.id or "Probe-" in name:
            continue
        for level in make_task(name).levels:
            if level in settings.level:
                lines.append(line(make_task(name, level), settings))
                print(lines[-1], flush=True)
    settings.out.parent.mkdir(exist_ok=True)
    write_text(settings.out, text(_command(settings), settings.lm, lines) + "\n")
    print(f"written to {settings.out}")


def text(command: str, lm: str, lines: Sequence[str]) -> str:
    """The page, from the lines of its table."""
    return "\n".join([_HEAD.format(command=command), _table_head(lm), *lines])


def line(task: Task, settings: Settings) -> str:
    """One task's line of the table."""
    found = standings(task, settings.rows, settings.seed)
    cheat = max((each for each in found if each.kind == "cheat"), key=lambda each: each.mean)
    honest = [each for each in found if each.kind == "baseline"]
    best = max(honest, key=lambda each: each.mean)
    cells = [f"`{task.id}`", str(task.level), _mean(found[0])]
    cells += [f"{_mean(cheat)} ({cheat.writer})", f"{_mean(best)} (`{best.writer}`)"]
    if settings.lm != "none":
        cells.append(_model(task, settings))
    cells += [f"{found[-1].mean:.2f}", *(f"{speed:,.0f}" for speed in speeds(task, settings.timed))]
    return f"| {' | '.join(cells)} |"


def speeds(task: Task, count: int) -> tuple[float, float]:
    """Rows drawn, and oracles judged, per second of CPU time."""
    rng = np.random.default_rng(0)
    # Grammars are built at their first use.
    row = task.sample(rng)
    task.score(task.oracle(row), row)
    begin = time.process_time()
    rows = [task.sample(rng) for _ in range(count)]
    made = time.process_time()
    texts = [task.oracle(row) for row in rows]
    written = time.process_time()
    for text, row in zip(texts, rows, strict=True):
        task.score(text, row)
    return count / (made - begin), count / (time.process_time() - written)


def _model(task: Task, settings: Settings) -> str:
    if task.tokenizer is not None:
        return "-"
    act, tokenizer = writer(settings.lm)
    scores = [played.score for played in play(task, act, settings.rows, tokenizer=tokenizer)]
    return _mean(Standing.of(settings.lm, "model", scores))


def _mean(standing: Standing) -> str:
    return f"{standing.mean:.2f} ± {standing.error:.2f}"


def _command(settings: Settings) -> str:
    return f"python -m benchmarks.tasks --rows {settings.rows} --lm {settings.lm}"


def _table_head(lm: str) -> str:
    heads = ["task", "level", "random tokens", "best cheat", "best baseline"]
    heads += [] if lm == "none" else [lm]
    heads += ["oracle", "rows/s", "scores/s"]
    numbers = [
        "---" if head in ("task", "best cheat", "best baseline") else "---:" for head in heads
    ]
    return f"| {' | '.join(heads)} |\n| {' | '.join(numbers)} |"


_HEAD = """# The tasks' scales

By `{command}`. Scores are means with the half-width of their 95 %
interval. The cheats are those of the task contract (`textgym.testing.check_task`): empty, echoed,
shuffled, repeated and dumped texts; the best of them is shown. `textgym show ID` lists all of them.
Speeds are of one busy CPU core: rows drawn, and right answers judged, in a second of CPU time.
The results of a search for nonsense that is paid are in [attack.md](attack.md).
"""


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__, prog="python -m benchmarks.tasks"))
