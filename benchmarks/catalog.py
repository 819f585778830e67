"""The parts of README.md and CONTRIBUTING.md that are made from the package.

They are the tables of tasks and rewards, from the registries, and the example of a task, which is
that of ``textgym new-task``. ``python -m benchmarks.catalog`` writes them; ``--check`` only exits
with 1 if they are out of date.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.report.markdown import fenced, fill
from benchmarks.suites.definitions import PROBES
from textgym.cli.new_task import TASK
from textgym.registry import REWARDS
from textgym.rewards import registered_rewards
from textgym.storage.files import write_text
from textgym.tasks import make_task
from textgym.tasks.registry import built_in_tasks

ROOT = Path(__file__).parents[1]
"""The folder of the pages."""

_EXTRA = re.compile(r"textgym\[(\w+)\]")


def tasks_table() -> str:
    """The built-in tasks: id, first line of the docstring, what the score measures, and tags."""
    tasks = [make_task(name) for name in built_in_tasks() if not name.startswith(PROBES)]
    rows = [(f"`{t.id}`", summary(type(t)), t.scored_by, ", ".join(t.tags)) for t in tasks]
    return _table(("id", "task", "score", "tags"), rows)


def probes_table() -> str:
    """The probes, with the expected reward of random tokens and of the best policy by level."""
    rows = []
    for name in filter(lambda name: name.startswith(PROBES), built_in_tasks()):
        probe = make_task(name)
        levels = [make_task(name, level) for level in probe.levels]
        floors, ceilings = (
            ", ".join(dict.fromkeys(f"{getattr(each, scale):.3g}" for each in levels))
            for scale in ("floor", "ceiling")
        )
        rows.append((f"`{name}`", summary(type(probe)), ", ".join(probe.tags), floors, ceilings))
    return _table(("id", "probe", "tags", "random tokens", "best policy"), rows)


def rewards_table() -> str:
    """The named rewards: names, first line of the docstring, and the extra that each needs.

    Names of one class with other options share a row. A star marks those that need options.
    """
    names: dict[Any, list[str]] = {}
    for name in registered_rewards():
        factory = REWARDS.get(name)
        names.setdefault(factory.func if isinstance(factory, partial) else factory, []).append(name)
    rows = []
    for factory, shared in names.items():
        parameters = inspect.signature(factory).parameters.values()
        star = " *" * any(each.default is each.empty for each in parameters)
        extra = _EXTRA.search(factory.__doc__ or "")
        title = ", ".join(f"`{name}`{star}" for name in shared)
        rows.append((title, summary(factory), f"`{extra[1]}`" if extra else ""))
    return _table(("name", "reward", "extra"), rows)


def summary(documented: Any) -> str:
    """The first line of a docstring, in Markdown."""
    first = inspect.cleandoc(documented.__doc__ or "").partition("\n")[0]
    return re.sub(r":\w+:`~?([^`]*)`", r"`\1`", first).replace("``", "`").replace("|", r"\|")


def pages() -> dict[str, dict[str, str]]:
    """The generated parts, by page and by the name of their marks."""
    example = "\n".join(fenced(TASK.replace("NAME", "Sum").splitlines(), "python"))
    return {
        "README.md": {
            "tasks": tasks_table(),
            "probes": probes_table(),
            "rewards": rewards_table(),
        },
        "CONTRIBUTING.md": {"task": example},
    }


def main(arguments: list[str]) -> int:
    """Write the parts, or check them; returns the exit status."""
    status = 0
    for name, parts in pages().items():
        page = made = (ROOT / name).read_text("utf-8")
        for mark, text in parts.items():
            made = fill(made, mark, text)
        if made == page:
            continue
        if "--check" in arguments:
            print(f"{name} is out of date; run: python -m benchmarks.catalog")
            status = 1
        else:
            write_text(ROOT / name, made)
    return status


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
