"""Sources of rows: the interface, and the sources of tasks and functions.

A row is a dictionary with a ``"prompt"`` (str) and any other columns (``"reference"``, ...), which
reward functions receive. A source is either a finite list, sampled with replacement, or an endless
generator. A draw depends only on the random generator passed to it. The environment tokenizes and
truncates the prompts.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from textgym.data.rows import Row, as_row, prompt_hash, rows_of, user_text
from textgym.errors import DataError, TaskError
from textgym.rewards.combine import RewardSpec
from textgym.tasks.base import Task
from textgym.tokenization import Tokenizer

Convert: TypeAlias = Callable[[Row], Row]

_MAX_DRAWS = 10_000
"""Attempts to draw a prompt on the requested side of a split from a function."""


class Source(ABC):
    """A source of rows to start episodes from.

    Attributes:
        name: The origin of the rows, for error messages.
        seed_key: Mixed into every seed, so that tasks do not share random numbers. Independent of
            file paths, so that a seed draws the same rows on every machine.
        size: Number of rows, or None for an endless source.
        repeatable: Whether a row only depends on the generator or the index. If False, reading a
            row may change the next.
    """

    name: str
    seed_key: str
    size: int | None
    repeatable: bool = True

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Row:
        """Draw a random row."""

    @abstractmethod
    def item(self, index: int) -> Row:
        """Return the row at an index, the same in every call.

        Raises:
            DataError: If there is no such row.
        """

    def prompt_budget(self, tokenizer: Tokenizer) -> int | None:
        """Default of ``max_prompt_tokens`` for this source, or None for the general default."""
        return None

    def complete_row(self, row: Row) -> Row:
        """Add the columns that the default reward needs to a user's row."""
        return row

    def default_reward(self) -> RewardSpec:
        """The reward used if the user does not pass one.

        By default similarity to the reference if there is one, else the share of distinct bigrams.
        """
        return "edit_similarity" if "reference" in self.item(0) else "distinct"

    def lists(self) -> list[FiniteSource]:
        """The finite sources that this source draws from."""
        return []


class FiniteSource(Source):
    """A finite source, whose rows can be checked in advance.

    Attributes:
        size: Number of rows.
        skipped: The reason for each row that was left out.
    """

    size: int
    skipped: list[str]

    @abstractmethod
    def place(self, index: int) -> str:
        """The name of a row in error messages."""

    @abstractmethod
    def checked(self) -> Sequence[int]:
        """The indices of the rows that were checked at construction."""

    @abstractmethod
    def leave_out(self, reasons: Mapping[int, str]) -> None:
        """Remove rows, given as reasons by index.

        Raises:
            DataError: If no row is left.
        """

    def lists(self) -> list[FiniteSource]:
        """This source."""
        return [self]


class Table(Protocol):
    """A sequence of rows with a length and integer indices: a list, a ``datasets.Dataset``, ..."""

    def __len__(self) -> int:
        """Number of rows."""

    def __getitem__(self, index: int, /) -> Any:
        """One row."""


class CallableSource(Source):
    """An endless source: ``function(rng)`` generates a row or a prompt.

    Args:
        function: The function.
        name: Its name in errors.
        convert: Converts its rows into a task's format.
        held_out: A share of the prompts, selected by hash, and whether the source draws from that
            share (True) or from the rest (False). None draws from all.
    """

    seed_key = "function"
    size = None
    repeatable = False

    def __init__(
        self,
        function: Callable[[np.random.Generator], Any],
        name: str,
        convert: Convert | None = None,
        held_out: tuple[float, bool] | None = None,
    ) -> None:
        self.name = name
        self._convert = convert
        self._function = function
        self._held_out = held_out

    def draw(self, rng: np.random.Generator) -> Row:
        """Generate the next row on this side of the split.

        Raises:
            DataError: If the function raises, does not return a row, or finds none on this side.
        """
        for _ in range(_MAX_DRAWS):
            row = self._make(rng)
            if self._held_out is None:
                return row
            share, inside = self._held_out
            if (prompt_hash(row["prompt"]) < share * 2**32) == inside:
                return row
        raise DataError(
            f"{self.name}: none of {_MAX_DRAWS} prompts belongs to this side of eval_share="
            f"{share}; generate more varied prompts, pass separate evaluation prompts, or disable "
            "the split (eval_share=None, or --eval-share 0 for an agent)"
        )

    def _make(self, rng: np.random.Generator) -> Row:
        try:
            made = self._function(rng)
        except Exception as error:
            raise DataError(
                f"{self.name} raised {type(error).__name__}: {error}; a prompt function takes a "
                "numpy Generator and returns a dictionary with a 'prompt'"
            ) from error
        return read_row(made, f"the value returned by {self.name}", self._convert)

    def item(self, index: int) -> Row:
        """Generate the row of the index-th seed."""
        seeds = np.random.SeedSequence(
            [zlib.crc32(self.seed_key.encode()), natural_index(self, index)]
        )
        return self.draw(np.random.default_rng(seeds))


class TaskSource(Source):
    """The endless rows of a built-in or registered task."""

    size = None

    def __init__(self, task: Task) -> None:
        self.task = task
        self.name = f"{task.id} (level {task.level}, {task.split})"
        self.seed_key = f"{task.id}:{task.level}"

    def draw(self, rng: np.random.Generator) -> Row:
        """Sample a row of the task's split."""
        return self.task.sample(rng)

    def item(self, index: int) -> Row:
        """Return a row of the task's split by index."""
        return self.task.item(natural_index(self, index))

    def complete_row(self, row: Row) -> Row:
        """Let the task parse the prompt."""
        return _completed(self.task, row)

    def default_reward(self) -> RewardSpec:
        """The task's own reward."""
        return TaskReward(self.task)


class CompletedSource(Source):
    """Rows of another source, completed with the columns that a task's score needs.

    Args:
        source: The source of the rows.
        task: The task that completes and judges them.
        judged: Whether the task's reward is used. If so, one row for each set of columns is judged
            at construction, or the first row of an endless source.
        skip: Leave out rows that the task cannot judge, instead of raising.

    Raises:
        DataError: If the source cannot generate its first row.
        TaskError: If the task cannot judge a row.
    """

    def __init__(self, source: Source, task: Task, judged: bool = True, skip: bool = False) -> None:
        self.name = source.name
        self.seed_key = source.seed_key
        self.size = source.size
        self.repeatable = source.repeatable
        self._source = source
        self._task = task
        # Detect a missing column before the first episode, not at its end.
        for rows in source.lists():
            self._check_rows(rows, judged, skip)
        self.size = source.size
        row = self.item(0)
        if judged:
            self._judge(row)

    def _judge(self, row: Row) -> None:
        columns = {name: [value] for name, value in row.items() if name != "prompt"}
        if self._task.max_turns > 1:
            columns |= {"turns": [[""]], "replies": [[]]}
        columns |= {"completion_ids": [[]], "finish_reason": ["length"]}
        self._task.reward([user_text(row["prompt"])], [""], **columns)

    def _check_rows(self, rows: FiniteSource, judged: bool, skip: bool) -> None:
        """Judge one row for each set of columns and types of their values."""
        errors: dict[frozenset[tuple[str, type]], TaskError | None] = {}
        reasons: dict[int, str] = {}
        for index in rows.checked():
            row = _completed(self._task, rows.item(index))
            form = frozenset((name, type(value)) for name, value in row.items())
            if form not in errors:
                errors[form] = None
                try:
                    if judged:
                        self._judge(row)
                except TaskError as error:
                    errors[form] = TaskError(f"{rows.place(index)}: {error}")
            problem = errors[form]
            if problem is not None and not skip:
                raise problem
            if problem is not None:
                reasons[index] = str(problem)
        if reasons:
            rows.leave_out(reasons)

    def draw(self, rng: np.random.Generator) -> Row:
        """Draw a random row of the source, completed by the task."""
        return _completed(self._task, self._source.draw(rng))

    def item(self, index: int) -> Row:
        """Return the source's row at an index, completed by the task."""
        return _completed(self._task, self._source.item(index))

    def prompt_budget(self, tokenizer: Tokenizer) -> int | None:
        """The source's default."""
        return self._source.prompt_budget(tokenizer)

    def complete_row(self, row: Row) -> Row:
        """Let the task parse the prompt."""
        return _completed(self._task, row)

    def default_reward(self) -> RewardSpec:
        """The task's own reward."""
        return TaskReward(self._task)

    def lists(self) -> list[FiniteSource]:
        """The finite sources of the source."""
        return self._source.lists()


class TaskReward:
    """A task's reward as a reward function named ``score``."""

    def __init__(self, task: Task) -> None:
        self.name = "score"
        self.task = task

    def __call__(
        self, prompts: list[str], completions: list[str], **columns: list[Any]
    ) -> Sequence[float | None]:
        """The task's reward of each completion."""
        return self.task.reward(prompts, completions, **columns)


class TaskPotential:
    """A task's potential as a reward function named ``dense``."""

    def __init__(self, task: Task) -> None:
        self.name = "dense"
        self.task = task

    def __call__(
        self, prompts: list[str], completions: list[str], **columns: list[Any]
    ) -> Sequence[float]:
        """The task's potential of each unfinished text.

        Raises:
            TaskError: If a column that the potential needs is missing.
        """
        try:
            return self.task.potential(completions, rows_of(prompts, columns))
        except KeyError as error:
            raise TaskError(
                f"{self.task.id} cannot judge an unfinished text without the column {error}: add "
                "it to every row, or omit dense=True"
            ) from error


def _completed(task: Task, row: Row) -> Row:
    """Complete a row, with the user's text as the prompt if the prompt is a list of messages."""
    prompt = row["prompt"]
    if isinstance(prompt, str):
        return task.complete_row(row)
    return {**task.complete_row({**row, "prompt": user_text(prompt)}), "prompt": prompt}


def read_row(value: Any, where: str, convert: Convert | None) -> Row:
    """Convert a raw row of a data set to the form ``{"prompt": str, ...}``."""
    if convert is not None and isinstance(value, Mapping):
        try:
            value = convert(dict(value))
        except Exception as error:
            raise DataError(
                f"{where} cannot be converted for this task ({type(error).__name__}: {error}); "
                "check its columns against the formats in the task's documentation"
            ) from error
    return as_row(value, where)


def natural_index(source: Source, index: int) -> int:
    """Check that an index of an endless source is not negative.

    Raises:
        DataError: If it is.
    """
    if index < 0:
        raise DataError(f"{source.name} has no row {index}; indices start at 0")
    return int(index)
