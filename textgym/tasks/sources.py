"""Where prompts come from: a :class:`Source` of rows.

A row is a dictionary with a ``"prompt"`` (str) and any other columns (``"reference"``, ...), which
reward functions receive. A source is either a finite list that is drawn from with replacement, or
an endless generator. Either way a draw depends on nothing but the generator that it is given.

What this module does not do: tokenize, or cut prompts to size (the environment does).
"""

from __future__ import annotations

import copy
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from textgym.errors import DataError
from textgym.rewards.combine import RewardSpec
from textgym.tasks.base import Row, Task
from textgym.tasks.rows import as_row
from textgym.tokenization import Tokenizer

Convert: TypeAlias = Callable[[Row], Row]

_PLAIN = (str, int, float, bool, type(None))


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

    def adopt(self, row: Row) -> Row:
        """Complete a row that did not come from this source, so that its reward can judge it."""
        return row

    def default_reward(self) -> RewardSpec:
        """What to score with when the user names no reward.

        Similarity to the reference where there is one, else the share of distinct bigrams.
        """
        return "edit_similarity" if "reference" in self.item(0) else "distinct"


class Table(Protocol):
    """What has a length and integer indices, such as a list or a ``datasets.Dataset``."""

    def __len__(self) -> int:
        """Number of rows."""

    def __getitem__(self, index: int, /) -> Any:
        """One row."""


class ListSource(Source):
    """A finite list of rows, drawn from uniformly and with replacement.

    Args:
        rows: The prompts, or rows with a prompt column. Anything with a length and integer
            indices will do; rows are looked at when they are drawn.
        name: Where they come from.
        convert: Brings a raw row into a task's form, before its prompt is looked for.

    Raises:
        DataError: If there are no rows.
    """

    seed_key = "list"

    def __init__(self, rows: Table, name: str, convert: Convert | None = None) -> None:
        self.name = name
        self.size = len(rows)
        self._convert = convert
        self._rows = rows
        if self.size == 0:
            raise DataError(f"{name} holds no prompts; give at least one")
        self.item(0)  # The commonest mistake, a missing column, shows before the first episode.

    def draw(self, rng: np.random.Generator) -> Row:
        """A uniformly random row."""
        return self.item(int(rng.random() * len(self._rows)))

    def item(self, index: int) -> Row:
        """The row at a position.

        Raises:
            DataError: If there is no such row, or it is no row.
        """
        if not 0 <= index < len(self._rows):
            raise DataError(f"{self.name} has rows 0 to {len(self._rows) - 1}, but not {index}")
        row = _read(self._rows[index], f"row {index} of {self.name}", self._convert)
        # Lists in a row go to whoever reads info: they get their own, not the data set's.
        return {
            name: value if isinstance(value, _PLAIN) else copy.deepcopy(value)
            for name, value in row.items()
        }


class CallableSource(Source):
    """An endless source: ``function(rng)`` makes a row (or a prompt) from a generator."""

    seed_key = "function"
    size = None
    repeatable = False

    def __init__(
        self,
        function: Callable[[np.random.Generator], Any],
        name: str,
        convert: Convert | None = None,
    ) -> None:
        self.name = name
        self._convert = convert
        self._function = function

    def draw(self, rng: np.random.Generator) -> Row:
        """The next row that the function makes.

        Raises:
            DataError: If the function raises or returns no row.
        """
        try:
            made = self._function(rng)
        except Exception as error:
            raise DataError(
                f"{self.name} raised {type(error).__name__}: {error}; a prompt function takes a "
                "numpy Generator and returns a dictionary with a 'prompt'"
            ) from error
        return _read(made, f"what {self.name} returned", self._convert)

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

    def adopt(self, row: Row) -> Row:
        """Let the task read its columns out of the prompt."""
        return self.task.adopt(row)

    def default_reward(self) -> RewardSpec:
        """The task's own reward."""
        return TaskReward(self.task)


class AdoptedSource(Source):
    """Rows of another source, judged by a task: each is given the columns that its score reads.

    Args:
        source: Where the rows come from.
        task: What judges them.
        judged: Whether it is the task's reward that is used; then the first row is tried.

    Raises:
        DataError: If the source cannot make its first row.
        TaskError: If the task cannot judge it.
    """

    def __init__(self, source: Source, task: Task, judged: bool = True) -> None:
        self.name = source.name
        self.seed_key = source.seed_key
        self.size = source.size
        self.repeatable = source.repeatable
        self._source = source
        self._task = task
        row = self.item(0)
        if not judged:
            return
        columns = {name: [value] for name, value in row.items() if name != "prompt"}
        if task.max_turns > 1:
            columns |= {"turns": [[""]], "replies": [[]]}
        # A column that is missing shows before the first episode, not at its end.
        task.reward([row["prompt"]], [""], **columns, completion_ids=[[]], finish_reason=["length"])

    def draw(self, rng: np.random.Generator) -> Row:
        """A random row of the source."""
        return self._task.adopt(self._source.draw(rng))

    def item(self, index: int) -> Row:
        """The source's row of one index."""
        return self._task.adopt(self._source.item(index))

    def prompt_budget(self, tokenizer: Tokenizer) -> int | None:
        """What the source says."""
        return self._source.prompt_budget(tokenizer)

    def adopt(self, row: Row) -> Row:
        """Let the task read its columns out of the prompt."""
        return self._task.adopt(row)

    def default_reward(self) -> RewardSpec:
        """The task's own reward."""
        return TaskReward(self._task)


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


def _read(value: Any, where: str, convert: Convert | None) -> Row:
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
