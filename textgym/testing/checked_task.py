"""The object that the rules of the task contract receive: a task with its rows."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from textgym.data.rows import Row
from textgym.errors import TaskError, TextGymError
from textgym.tasks.base import Task
from textgym.tokenization import Tokenizer


class CheckedTask:
    """A task at one level and split, while its rules are checked.

    Args:
        task: The task.
        n: Number of rows.
        seed: Seed of the rows and of the random cheats.
        tokenizer: Counts tokens.

    Attributes:
        rows: The rows, once the rule ``generation`` has drawn them.
        luck: The mean score of random words, once the rule ``cheats`` has found it.
    """

    def __init__(self, task: Task, n: int, seed: int, tokenizer: Tokenizer) -> None:
        self.task = task
        self.tokenizer = tokenizer
        self.n = n
        self.seed = seed
        self.rows: list[Row] = []
        self.luck = 0.0

    def fail(self, rule: str, what: str, remedy: str, row: Row | None = None) -> NoReturn:
        """Raise the error of a broken rule, with its remedy and the row."""
        where = f"{self.task.id} (level {self.task.level}, {self.task.split})"
        shown = "" if row is None else f"\nThe row: {shortened(row)}"
        raise TaskError(f"{where} breaks the rule '{rule}': {what}. Remedy: {remedy}.{shown}")

    def draw(self, seed: int) -> list[Row]:
        """Draw `n` rows."""
        rng = np.random.default_rng(seed)
        return [self.task.sample(rng) for _ in range(self.n)]

    def untouched(self, rule: str, call: Callable[[], Any]) -> Any:
        """Call twice under different global random states, neither of which may change."""
        results = []
        kept = np.random.get_state(), random.getstate()
        try:
            for number in (1, 2):
                np.random.seed(number)
                random.seed(number)
                before = _global_state()
                results.append(call())
                if _global_state() != before:
                    self.fail(
                        rule,
                        "it draws from (or seeds) the global random state",
                        "draw everything from the generator that is passed in",
                    )
        finally:
            np.random.set_state(kept[0])
            random.setstate(kept[1])
        if repr(results[0]) != repr(results[1]):
            self.fail(
                rule,
                "the same arguments gave two results",
                "keep no state between calls, and draw only from the generator that is passed in",
            )
        return results[0]

    def score(self, rule: str, text: str, row: Row, name: str) -> float:
        """The score of a text: a float in [0, 1], whatever the text is."""
        try:
            value = self.task.score(text, row)
        except Exception as error:
            self.fail(
                rule,
                f"score raised {type(error).__name__} ({error}) on {name}: {shortened(text)}",
                "return 0.0 for whatever cannot be read",
                row,
            )
        if type(value) is not float:
            self.fail(
                "scores",
                f"score returned a {type(value).__name__}, {value!r}, on {name}",
                "return float(...)",
                row,
            )
        if not 0.0 <= value <= 1.0:
            self.fail(
                "scores", f"{name} scored {value!r}", "map scores into [0, 1], and NaN to 0.0", row
            )
        return value

    def can_write(self, text: str) -> bool:
        """Whether the tokenizer encodes a text exactly; a closed vocabulary has no line breaks."""
        try:
            return self.tokenizer.decode(self.tokenizer.encode(text)) == text
        except TextGymError:
            return False


def _global_state() -> tuple[object, ...]:
    name, keys, *rest = np.random.get_state()
    return (name, np.asarray(keys).tobytes(), *rest, random.getstate())


def shortened(value: object) -> str:
    """The value as it is written in errors."""
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:200]} ... {text[-60:]} ({len(text)} characters)"
