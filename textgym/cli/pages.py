"""``textgym list`` and ``textgym show``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from textgym.tasks import Task, make_task, registered_tasks
from textgym.testing.standings import Standing, play, standings


def list_tasks(console: Console) -> None:
    """Print one line per task."""
    table = Table(box=None, pad_edge=False)
    for head in ("id", "levels", "turns", "tokens", "task"):
        table.add_column(head, no_wrap=head != "task")
    for name in registered_tasks():
        task = make_task(name)
        table.add_row(
            name,
            ", ".join(map(str, task.levels)),
            str(task.max_turns),
            f"{task.max_prompt_tokens} + {task.max_new_tokens}",
            escape(_first_line(task)),
        )
    console.print(table)


def show_task(console: Console, task: Task, samples: int, rows: int, lm: str | None) -> None:
    """Print a task's page, samples, and the scores of several writers.

    Args:
        console: The console.
        task: The task.
        samples: Number of samples.
        rows: Number of rows that each writer is scored on.
        lm: A language model to score as well, which takes a while, or None.
    """
    console.print(f"[bold]{task.id}[/bold], level {task.level}, {task.split} split\n")
    console.print(Markdown(inspect.cleandoc(type(task).__doc__ or "")))
    console.print("\n[bold]Samples[/bold]\n")
    for index in range(samples):
        row = task.item(index)
        console.print(Padding(escape(row["prompt"]), (0, 2)), style="dim")
        console.print(Padding(escape(task.oracle(row)), (0, 2, 1, 2)), style="green")
    table = Table("writer", "kind", "score", title=f"Scores on {rows} rows", box=None)
    for standing in sorted(_standings(task, rows, lm), key=lambda standing: standing.mean):
        score = f"{standing.mean:.3f} ± {standing.error:.3f}"
        table.add_row(escape(standing.writer), standing.kind, score)
    console.print(table)


def _standings(task: Task, rows: int, lm: str | None) -> Iterator[Standing]:
    yield from standings(task, rows)
    if lm is not None:
        from textgym.pretrain.writing import writer  # It needs torch.

        act, tokenizer = writer(lm)
        scores = [played.score for played in play(task, act, rows, tokenizer=tokenizer)]
        yield Standing.of(lm, "model", scores)


def _first_line(task: Task) -> str:
    return inspect.cleandoc(type(task).__doc__ or "").partition("\n")[0]
