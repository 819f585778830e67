"""``textgym check --attack``: a table of the junk that is paid."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from textgym.errors import TaskError
from textgym.storage.files import write_text
from textgym.tasks import Task
from textgym.testing import Attack, Finding, attack_task

_SHOWN = 160
"""Characters of a text that a table shows."""


def attack_tasks(
    console: Console,
    tasks: Sequence[Task],
    *,
    levels: Sequence[int] | None,
    rows: int,
    seconds: float,
    seed: int,
    out: Path | None,
) -> int:
    """Attack tasks, print a table, and write one if asked to.

    Args:
        console: Where to print.
        tasks: The tasks.
        levels: Their levels; None for all. Each of several tasks gets the levels that it has.
        rows: Rows of each level.
        seconds: Time for all tasks together.
        seed: Of the search.
        out: A Markdown file to write, or None.

    Returns:
        1 if any junk is paid too much, else 0.
    """
    begin = time.monotonic()
    attacks: list[Attack] = []
    parts = [_levels(task, levels, several=len(tasks) > 1) for task in tasks]
    left = sum(map(len, parts))
    for task, chosen in zip(tasks, parts, strict=True):
        rest = max(0.0, seconds - (time.monotonic() - begin))
        share = rest * len(chosen) / left if left else 0.0
        left -= len(chosen)
        for level in chosen:
            attack = attack_task(
                type(task)(level=level, split=task.split),
                rows=rows,
                seconds=share / len(chosen),
                seed=seed,
            )
            attacks.append(attack)
            _print(console, attack)
    failures = [finding for attack in attacks for finding in attack.failures]
    texts = sum(attack.texts for attack in attacks)
    took = sum(attack.seconds for attack in attacks)
    console.print(
        f"{texts:,} texts in {took:.0f} s: {len(failures)} kinds of junk are paid too much"
        if failures
        else f"{texts:,} texts in {took:.0f} s: no junk is paid too much"
    )
    if out is not None:
        command = f"textgym check --attack {'--all' if len(tasks) > 1 else tasks[0].id}"
        command += f" --seconds {seconds:g} --rows {rows} --seed {seed} --out {out.as_posix()}"
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, page(attacks, command, texts))
        console.print(f"written to {out}")
    return int(bool(failures))


def _levels(task: Task, levels: Sequence[int] | None, several: bool) -> list[int]:
    if levels is None:
        return list(task.levels)
    chosen = [level for level in levels if level in task.levels]
    if not several and (strange := sorted(set(levels) - set(task.levels))):
        known = ", ".join(map(str, task.levels))
        raise TaskError(f"{task.id} has no level {strange[0]}; its levels are: {known}")
    return chosen


def _print(console: Console, attack: Attack) -> None:
    """The findings that are paid too much, or the best-paid one."""
    shown = attack.failures or attack.findings[:1]
    table = Table(box=None, pad_edge=False, show_header=False)
    for finding in shown:
        table.add_row(
            f"{finding.task} level {finding.level}",
            f"{'[red]' if finding.failed else ''}{finding.score:.2f}",
            finding.kind,
            escape(_short(finding.text)),
        )
    if shown:
        console.print(table)


def _short(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


def page(attacks: Sequence[Attack], command: str, texts: int) -> str:
    """The page of the documentation: the attack and its findings."""
    lines = [_PAGE.format(command=command, texts=texts)]
    for attack in attacks:
        junk = [finding for finding in attack.findings if finding.kind != "constant text"]
        constant = [finding for finding in attack.findings if finding.kind == "constant text"]
        # A text with one wrong word has another limit, and is listed only if it exceeds it.
        junk = [finding for finding in junk if finding.limit < 0.99 or finding.failed] or junk
        if not junk:
            continue
        best = junk[0]
        mean = _cell(constant[0]) if constant else "-"
        lines.append(f"| `{best.task}` | {best.level} | {_cell(best)} | {best.kind} | {mean} |")
    return "\n".join(lines) + "\n"


def _cell(finding: Finding) -> str:
    if finding.score == 0.0:
        return "0.00"
    text = _short(finding.text).replace("|", "\\|").replace("`", "'")
    mark = " **(too much)**" if finding.failed else ""
    return f"{finding.score:.2f}{mark} `{text}`"


_PAGE = """# Junk that scorers pay

A scorer that pays for junk teaches junk: whatever a reward pays, a policy finds. `textgym check ID
--attack` searches for such texts, in a built-in task or in yours:

    textgym check TextGen/Caption-v0 --attack --seconds 60
    textgym check mymodule:MyTask --attack --levels 1 2 --rows 200 --seed 1
    textgym check --attack --all --seconds 3600 --out docs/attack.md

In Python it is `textgym.testing.attack_task`. The rule: no text that a person would call nonsense,
contradictory or off topic scores above 0.4 (a task's `junk_ceiling`); partly right answers
may. A finding above it makes the command exit with status 1. The search has three parts.

* **Mutations.** Texts made from the right answer that are junk by construction, whatever the task:
  a run of words that no task uses (at least eight, and half as many as the answer has) before,
  after or within it, or in place of one of its words; such words in place of every other one;
  special tokens and what follows them; strange characters; words of other answers; a phrase, a
  sentence or the whole repeated; a denial before or after it, or at every verb; several answers at
  once; its words in an order in which no two neighbours of the answer are neighbours; its words
  spelt backwards or without vowels; and of programs other names, bodies that raise, return nothing
  or never end, and code that undoes them. An answer with one word replaced by an unrelated noun
  is not junk, but must not score 1.0.
* **Climbs.** Texts changed step by step, as long as their score does not fall, by moves that keep
  them junk: at least as many unrelated words as above, among parts of the answer, the prompt and
  other answers; or two thirds of the words, from random words; repetitions of any phrase; the words
  out of order.
* **Constant texts.** The text with the best mean over the rows: other prompts' answers and their
  parts, baselines' texts, templates, and improvements of the best of them by a climb. Its mean
  over other rows counts. Closed vocabularies are left out: there every text is an answer.

Each row gets at least one round of all mutations; then half of the time goes to more of them, a
fifth to constant texts and the rest to climbs. The same seed tries the same texts in the same
order. `check_task` (`textgym check ID`) tries one round of the mutations on some rows, and some
constant texts on all.

## Findings

By `{command}`: {texts:,} texts. For each task and level, the best-paid junk
and the constant text with the best mean.

| task | level | best-paid junk | kind | best constant text (mean) |
| --- | ---: | --- | --- | --- |"""
