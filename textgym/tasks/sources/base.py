"""Where prompts come from: a :class:`Source` of rows.

A row is a dictionary with a ``"prompt"`` (str) and any other columns (``"reference"``, ...), which
reward functions receive. A source is either a finite list that is drawn from with replacement, or
an endless generator. Either way a draw depends on nothing but the generator that it is given.

What this module does not do: tokenize, or cut prompts to size (the environment does).
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from textgym.data.rows import Row, as_row, prompt_hash, user_text
from textgym.errors import DataError, TaskError
from textgym.rewards.combine import RewardSpec
from textgym.tasks.base import Task
from textgym.tokenization import Tokenizer

Convert: TypeAlias = Callable[[Row], Row]

_MAX_DRAWS = 10_000
"""Draws in search of a prompt of the right side before a function is given up."""


class Source(ABC):
    """Rows to start episodes from.

    Attributes:
        name: Where the rows come from, for error messages.
        seed_key: Part of every seed, so that no two tasks share their random numbers. It does not
            depend on paths: the same seed draws the same rows on every machine.
        size: Number of rows, or None for an endless source.
        repeatable: False where a row may depend on more than the generator or the index, and a look
            at one may change the next.
    """

    name: str
    seed_key: str
    size: int | None
    repeatable: bool = True

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Row:
        """A random row."""

    @abstractmethod
    def item(self, index: int) -> Row:
        """The row of one index: always the same one.

        Raises:
            DataError: If a finite source has no such row.
        """

    def prompt_budget(self, tokenizer: Tokenizer) -> int | None:
        """Tokens to allow for a prompt where nobody says how many; None: the usual default."""
        return None

    def complete_row(self, row: Row) -> Row:
        """Complete a row that did not come from this source, so that its reward can judge it."""
        return row

    def default_reward(self) -> RewardSpec:
        """What to score with when the user names no reward.

        Similarity to the reference where there is one, else the share of distinct bigrams.
        """
        return "edit_similarity" if "reference" in self.item(0) else "distinct"

    def lists(self) -> list[FiniteSource]:
        """The finite lists of rows that this source draws from."""
        return []


class FiniteSource(Source):
    """A source that has an end: its rows can be looked at one by one before they are drawn.

    Attributes:
        size: Number of rows.
        skipped: The rows that were left out, each with the reason.
    """

    size: int
    skipped: list[str]

    @abstractmethod
    def place(self, index: int) -> str:
        """How errors name the row of an index."""

    @abstractmethod
    def checked(self) -> Sequence[int]:
        """The indices of the rows that were looked at when the source was made."""

    @abstractmethod
    def leave_out(self, reasons: Mapping[int, str]) -> None:
        """Leave out some rows, by index, each for a reason.

        Raises:
            DataError: If no row is left.
        """

    def lists(self) -> list[FiniteSource]:
        """This one."""
        return [self]


class Table(Protocol):
    """What has a length and integer indices, such as a list or a ``datasets.Dataset``."""

    def __len__(self) -> int:
        """Number of rows."""

    def __getitem__(self, index: int, /) -> Any:
        """One row."""


class CallableSource(Source):
    """An endless source: ``function(rng)`` makes a row (or a prompt) from a generator.

    Args:
        function: The function.
        name: What to call it in errors.
        convert: Brings what it makes into a task's form.
        held_out: A share of the prompts, by hash, and whether the source draws from the share
            (True) or from the rest.
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
        """The next row that the function makes, on its side of the division.

        Raises:
            DataError: If the function raises or returns no row, or none of that side.
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
            f"{share}; make more varied prompts, pass evaluation prompts of their own, or no share "
            "(eval_share=None, or --eval-share 0 for an agent)"
        )

    def _make(self, rng: np.random.Generator) -> Row:
        try:
            made = self._function(rng)
        except Exception as error:
            raise DataError(
                f"{self.name} raised {type(error).__name__}: {error}; a prompt function takes a "
                "numpy Generator and returns a dictionary with a 'prompt'"
            ) from error
        return read_row(made, f"what {self.name} returned", self._convert)

    def item(self, index: int) -> Row:
        """The row that the function makes from the index-th seed."""
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
        """A random row of the task's split."""
        return self.task.sample(rng)

    def item(self, index: int) -> Row:
        """The index-th row of the task's split."""
        return self.task.item(natural_index(self, index))

    def complete_row(self, row: Row) -> Row:
        """Let the task read its columns out of the prompt."""
        return _completed(self.task, row)

    def default_reward(self) -> RewardSpec:
        """The task's own reward."""
        return TaskReward(self.task)


class CompletedSource(Source):
    """Rows of another source, judged by a task: each is given the columns that its score reads.

    Args:
        source: Where the rows come from.
        task: What judges them.
        judged: Whether it is the task's reward that is used; then a row of each form is tried, of
            an endless source the first row.
        skip: Leave out the rows of lists that the task cannot judge.

    Raises:
        DataError: If the source cannot make its first row.
        TaskError: If the task cannot judge a row.
    """

    def __init__(self, source: Source, task: Task, judged: bool = True, skip: bool = False) -> None:
        self.name = source.name
        self.seed_key = source.seed_key
        self.size = source.size
        self.repeatable = source.repeatable
        self._source = source
        self._task = task
        # A column that is missing shows before the first episode, not at its end.
        for one in source.lists():
            self._try_forms(one, judged, skip)
        self.size = source.size
        row = self.item(0)
        if judged:
            self._try(row)

    def _try(self, row: Row) -> None:
        columns = {name: [value] for name, value in row.items() if name != "prompt"}
        if self._task.max_turns > 1:
            columns |= {"turns": [[""]], "replies": [[]]}
        columns |= {"completion_ids": [[]], "finish_reason": ["length"]}
        self._task.reward([user_text(row["prompt"])], [""], **columns)

    def _try_forms(self, rows: FiniteSource, judged: bool, skip: bool) -> None:
        """Try one row of each form: of each set of columns and of types of their values."""
        verdicts: dict[frozenset[tuple[str, type]], TaskError | None] = {}
        bad: dict[int, str] = {}
        for index in rows.checked():
            row = _completed(self._task, rows.item(index))
            form = frozenset((name, type(value)) for name, value in row.items())
            if form not in verdicts:
                verdicts[form] = None
                try:
                    if judged:
                        self._try(row)
                except TaskError as error:
                    verdicts[form] = TaskError(f"{rows.place(index)}: {error}")
            found = verdicts[form]
            if found is not None and not skip:
                raise found
            if found is not None:
                bad[index] = str(found)
        if bad:
            rows.leave_out(bad)

    def draw(self, rng: np.random.Generator) -> Row:
        """A random row of the source."""
        return _completed(self._task, self._source.draw(rng))

    def item(self, index: int) -> Row:
        """The source's row of one index."""
        return _completed(self._task, self._source.item(index))

    def prompt_budget(self, tokenizer: Tokenizer) -> int | None:
        """What the source says."""
        return self._source.prompt_budget(tokenizer)

    def complete_row(self, row: Row) -> Row:
        """Let the task read its columns out of the prompt."""
        return _completed(self._task, row)

    def default_reward(self) -> RewardSpec:
        """The task's own reward."""
        return TaskReward(self._task)

    def lists(self) -> list[FiniteSource]:
        """Those of the source."""
        return self._source.lists()


class TaskReward:
    """A task's reward as a reward function with a name of its own."""

    def __init__(self, task: Task) -> None:
        self.name = "score"
        self.task = task

    def __call__(
        self, prompts: list[str], completions: list[str], **columns: list[Any]
    ) -> Sequence[float | None]:
        """The task's reward of each completion."""
        return self.task.reward(prompts, completions, **columns)


def _completed(task: Task, row: Row) -> Row:
    """The row with the columns that a task reads out of what the user says in the prompt."""
    prompt = row["prompt"]
    if isinstance(prompt, str):
        return task.complete_row(row)
    return {**task.complete_row({**row, "prompt": user_text(prompt)}), "prompt": prompt}


def read_row(value: Any, where: str, convert: Convert | None) -> Row:
    """A row in the form ``{"prompt": str, ...}``, of a data set's raw one."""
    if convert is not None and isinstance(value, Mapping):
        try:
            value = convert(dict(value))
        except Exception as error:
            raise DataError(
                f"{where} cannot be read in this task's form ({type(error).__name__}: {error}); "
                "check its columns against the formats in the task's documentation"
            ) from error
    return as_row(value, where)


def natural_index(source: Source, index: int) -> int:
    """The index, if a row can have it.

    Raises:
        DataError: If it is negative.
    """
    if index < 0:
        raise DataError(f"{source.name} has no row {index}; indices start at 0")
    return int(index)
