"""The columns and references that a completion is compared with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from textgym.data.messages import is_messages, reads_texts, text_of_messages
from textgym.errors import RewardError
from textgym.rewards.signature import missing_column
from textgym.rewards.values import is_missing


def column_of(columns: Mapping[str, Sequence[Any]], column: str) -> Sequence[Any]:
    """Return a column that a reward needs.

    Raises:
        RewardError: If it is missing; the message lists the columns that exist.
    """
    try:
        return columns[column]
    except (KeyError, TypeError):  # TypeError: the name is not hashable
        raise RewardError(missing_column(column, columns)) from None


def against_references(
    score: Callable[[str, list[str]], float],
    completions: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
    column: str,
) -> list[float | None]:
    """Score each completion against its references.

    Args:
        score: ``(completion, references) -> float``, called with at least one reference.
        completions: N texts.
        columns: The columns of the rows, N values each.
        column: The column of references: a string, or a sequence of alternative strings. From a
            list of messages, the text of the assistant is taken.

    Returns:
        N scores; None for a row whose value is missing, or a list of missing values.

    Raises:
        RewardError: If the column is missing.
        TypeError: If the references of a row are not strings.
    """
    return [
        score(completion, references) if (references := _strings(value, column)) else None
        for completion, value in zip(completions, column_of(columns, column), strict=True)
    ]


class ReferenceReward(ABC):
    """Base class of rewards that score a completion against its references.

    Attributes:
        column: The column of references.
    """

    column: str

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float | None]:
        """Return N rewards; None for a row without references."""
        return against_references(self._score, completions, columns, self.column)

    @abstractmethod
    def _score(self, completion: str, references: list[str]) -> float:
        """Return the reward of a completion; there is at least one reference."""


def _strings(value: Any, column: str) -> list[str] | None:
    if isinstance(value, str):
        return [value]
    if is_missing(value):
        return None
    if hasattr(value, "tolist"):  # lists in Parquet files are read as NumPy arrays
        value = value.tolist()
    if is_messages(value):
        return [text_of_messages(value, "assistant")]
    if isinstance(value, list | tuple):
        some = [one for one in value if not is_missing(one)]
        some = [text_of_messages(one, "assistant") if is_messages(one) else one for one in some]
        if all(isinstance(one, str) for one in some):
            return some
    raise TypeError(
        f"the column {column!r} must hold a string or a list of strings, not "
        f"{type(value).__name__} {value!r:.80}"
    )
