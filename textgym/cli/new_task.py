"""``textgym new-task``: the folder of a new task, with a working example to replace."""

from __future__ import annotations

import re
from pathlib import Path

from rich.console import Console

from textgym.errors import TaskError, shown
from textgym.storage.files import write_text

TASK = '''\
from collections.abc import Mapping
from typing import Any

import numpy as np

from textgym.tasks import Baseline, Judgement, Row, Task


class NAME(Task):
    """Add two numbers."""

    id = "TextGen/NAME-v0"
    tags = ("reasoning", "exact")
    scored_by = "the right sum"
    max_prompt_tokens, max_new_tokens = 12, 6
    cheat_ceiling = 0.5

    def generate(self, rng: np.random.Generator) -> Row:
        """Draw two numbers below 1,000."""
        a, b = rng.integers(1000, size=2).tolist()
        return {"prompt": f"{a} + {b} =", "reference": f" {a + b}", "a": a, "b": b}

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """Score a text, which has no white space around it: 1.0 for the sum."""
        right = row["reference"].strip()
        return Judgement().add(repr(text), f"the sum is {right}", float(text == right))

    def baselines(self) -> dict[str, Baseline]:
        """Add the second number to the first one's tens."""
        return {"rounded": lambda row, rng: f" {row['a'] // 10 * 10 + row['b']}"}
'''
"""The example, which keeps the task contract."""

_HEAD = '"""The task: prompts and their scores."""\n\nfrom __future__ import annotations\n\n'

_INIT = '''\
"""The task ``TextGen/NAME-v0``."""

from MODULE.task import NAME

__all__ = ["NAME"]
'''

_TEST = '''\
"""NAME: scores that were worked out by hand."""

from __future__ import annotations

import pytest

from MODULE import NAME
from textgym.testing import check_task


def test_it_keeps_the_contract() -> None:
    check_task(NAME)


@pytest.mark.parametrize(("text", "score"), [(" 5", 1.0), ("5", 1.0), (" 6", 0.0), ("", 0.0)])
def test_scores(text: str, score: float) -> None:
    row = {"prompt": "2 + 3 =", "reference": " 5", "a": 2, "b": 3}
    assert NAME().score(text, row) == score
'''

_REGISTRY_LINE = re.compile(r'^    "(TextGen/[\w-]+)": ".*",\n', re.MULTILINE)


def new_task(console: Console, name: str, here: Path) -> None:
    """Write the folder and the test of a new task.

    In a checkout of textgym the task becomes one of the package's, with its line in the registry.
    Elsewhere its folder is a package of the user's own.

    Args:
        console: Where the files and the next steps are printed.
        name: The class, such as ``Sum``; the id is ``TextGen/Sum-v0``, the folder ``sum``.
        here: The current folder.

    Raises:
        TaskError: If the name is not in CamelCase, or there is such a task already.
    """
    if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", name):
        raise TaskError(f"new-task {shown(name)}: a name is in CamelCase, such as WordLadder")
    folder = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    registry = here / "textgym" / "tasks" / "registry.py"
    built_in = registry.is_file()
    if built_in:
        place, module, tests = registry.parent, f"textgym.tasks.{folder}", here / "tests" / "tasks"
    else:
        place, module, tests = here, folder, here
    files = {
        place / folder / "__init__.py": _INIT,
        place / folder / "task.py": _HEAD + TASK,
        tests / f"test_{folder}.py": _TEST,
    }
    for path in (place / folder, *files):
        if path.exists():
            raise TaskError(f"new-task {name}: {path} exists already")
    registered = _with_line(registry, name, module) if built_in else ""
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text.replace("NAME", name).replace("MODULE", module))
        console.print(f"wrote {path.relative_to(here)}")
    if built_in:
        write_text(registry, registered)
        console.print(f"added a line to {registry.relative_to(here)}")
        console.print(f"\nReplace the example, then: textgym check {name}; make format lint test")
    else:
        console.print(f"\nReplace the example, then: textgym check {module}:{name}")
        console.print(
            f'To register it: textgym.register_task("TextGen/{name}-v0", "{module}:{name}")'
        )


def _with_line(registry: Path, name: str, module: str) -> str:
    """The text of the registry with the task's line, in the order of ids."""
    text, id = registry.read_text("utf-8"), f"TextGen/{name}-v0"
    lines = list(_REGISTRY_LINE.finditer(text))
    if not lines:
        raise TaskError(f"new-task {name}: {registry} has no lines of built-in tasks")
    if any(line[1] == id for line in lines):
        raise TaskError(f"new-task {name}: {id} is registered already")
    before = [line for line in lines if line[1] < id]
    at = before[-1].end() if before else lines[0].start()
    return f'{text[:at]}    "{id}": "{module}.task:{name}",\n{text[at:]}'
