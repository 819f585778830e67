"""PARENT: overlap of a text with a table and with references."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import exp, log
from typing import Any, ClassVar

from textgym.data.messages import reads_texts
from textgym.data.words import checked_language, words_and_marks
from textgym.errors import RewardError
from textgym.rewards.references import against_references, column_of
from textgym.rewards.registry import register_reward
from textgym.rewards.values import LONGEST_GRAM, excerpt, is_missing, is_number, is_whole


@register_reward("parent")
@dataclass(frozen=True, eq=False)
class Parent:
    """PARENT (Dhingra et al. 2019) in its word-overlap form, the best over the references.

    An n-gram of the text is correct if a reference contains it, and otherwise to the fraction of
    its words that occur in values of the table. Precision is the geometric mean over n = 1 to 4 of
    the correct share. Recall against the reference weights n-grams by the fraction of their words
    in the table; recall against the table is the mean over its entries of the share of the value
    that occurs in order in the text. The recalls are multiplied with the exponents ``1 - weight``
    and ``weight``. Precisions and recalls of 0 for n above 1 become ``smoothing``, so a text of
    fewer than 4 words gets almost no reward; use a lower ``max_order`` for short texts. Scores
    equal those of the authors' program. Headers (attributes, relations) are ignored. Words and
    punctuation marks are compared in lower case; in scripts without spaces each letter is a word.

    Range: [0, 1], higher is better.
    Needs: the columns ``table`` and ``column``.
    Cost: 600 us per text of 20 words with one reference and a table of 8 entries.
    Gaming: listing the values of the table gives a recall of 1 against the table and most of the
    precision; statements about the values are not checked.

    Args:
        table: The column of tables: a list of entries, each an (attribute, value) pair or a (head,
            relation, tail) triple of strings, or a dict from attributes to values.
        column: The column of references: a string, or a list of alternatives.
        weight: Weight of the recall against the table, in [0, 1].
        measure: ``"fmeasure"``, ``"precision"`` or ``"recall"`` of the reference with the best F.
        smoothing: Replaces 0; above 0 and below 1.
        max_order: The longest n-gram, at least 1.
        language: ``"auto"`` (words by script) or the language code of the texts, see
            :mod:`textgym.data.words`.

    Raises:
        RewardError: If an option is invalid, or a column is missing.
    """

    table: str = "table"
    column: str = "reference"
    weight: float = 0.5
    measure: str = "fmeasure"
    smoothing: float = 1e-5
    max_order: int = 4
    language: str = "auto"
    name: ClassVar[str] = "parent"

    def __post_init__(self) -> None:
        if self.measure not in ("fmeasure", "precision", "recall"):
            raise RewardError(
                f"{self.name}: measure must be 'fmeasure', 'precision' or 'recall', not "
                f"{self.measure!r}"
            )
        if not is_number(self.weight) or not 0 <= self.weight <= 1:
            raise RewardError(f"{self.name}: weight must be in [0, 1], not {self.weight!r}")
        if not is_number(self.smoothing) or not 0 < self.smoothing < 1:
            raise RewardError(
                f"{self.name}: smoothing must be above 0 and below 1, not {self.smoothing!r}"
            )
        if not is_whole(self.max_order, 1, LONGEST_GRAM):
            raise RewardError(
                f"{self.name}: max_order must be an integer >= 1 and <= {LONGEST_GRAM}, not "
                f"{excerpt(self.max_order)}"
            )

        checked_language(self.language, self.name, RewardError)

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float | None]:
        """Return N rewards; None for a row without a table or references."""
        tables = column_of(columns, self.table)
        meant = column_of(columns, self.column)
        rewards: list[float | None] = []
        for completion, table, references in zip(completions, tables, meant, strict=True):
            values = _values(table, self.table, self.language)
            if not values:
                rewards.append(None)
                continue
            # One row per call, because each has its own table.
            score = partial(self._score, values)
            row = {self.column: [references]}
            rewards += against_references(score, [completion], row, self.column)
        return rewards

    def _score(self, values: list[list[str]], completion: str, references: list[str]) -> float:
        said = words_and_marks(completion, self.language)
        of_table = {word for value in values for word in value}
        table_recall = sum(_common(value, said) / len(value) for value in values) / len(values)
        best = (-1.0, 0.0, 0.0)
        for reference in references:
            meant = words_and_marks(reference, self.language)
            precision, recall = self._against(said, meant, of_table)
            recall = recall ** (1 - self.weight) * (table_recall or self.smoothing) ** self.weight
            f = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
            best = max(best, (f, precision, recall), key=lambda one: one[0])
        value = best[("fmeasure", "precision", "recall").index(self.measure)]
        return min(value, 1.0)  # exp of a mean of logs can exceed 1 by a rounding error

    def _against(
        self, said: list[str], meant: list[str], of_table: set[str]
    ) -> tuple[float, float]:
        """Return the precision, and the recall against one reference."""
        precisions, recalls = [], []
        for n in range(1, self.max_order + 1):
            floor = self.smoothing if n > 1 else 0.0
            here, there = _grams(said, n), _grams(meant, n)
            right = sum(
                shared + (count - shared) * _entailed(gram, of_table)
                for gram, count in here.items()
                for shared in (min(count, there[gram]),)
            )
            precisions.append(right / here.total() if right else floor)
            weighed = {gram: _entailed(gram, of_table) for gram in there}
            asked = sum(count * weighed[gram] for gram, count in there.items())
            found = sum(min(count, here[gram]) * weighed[gram] for gram, count in there.items())
            # A reference without words of the table requires none.
            recalls.append((found / asked or floor) if asked else 1.0)
        return _geometric_mean(precisions), _geometric_mean(recalls) or self.smoothing


def _values(table: Any, column: str, language: str) -> list[list[str]]:
    """Return the words of each entry's value, without empty entries."""
    if is_missing(table):
        return []
    if hasattr(table, "tolist"):  # lists in Parquet files are read as NumPy arrays
        table = table.tolist()
    if isinstance(table, Mapping):
        table = list(table.items())
    values = []
    entries: list[Any] = list(table) if isinstance(table, list | tuple) else [None]
    for entry in entries:
        entry = entry.tolist() if hasattr(entry, "tolist") else entry
        # The value of a pair, or head and tail of a triple.
        if not isinstance(entry, list | tuple) or len(entry) not in (2, 3):
            raise TypeError(
                f"the column {column!r} must hold a dict, or a list of (attribute, value) pairs or "
                f"(head, relation, tail) triples, not {table!r:.80}"
            )
        parts = entry[1:] if len(entry) == 2 else entry[::2]
        values.append([word for part in parts for word in words_and_marks(str(part), language)])
    return [value for value in values if value]


def _grams(words: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[start:] for start in range(n)), strict=False))


def _entailed(gram: tuple[str, ...], of_table: set[str]) -> float:
    return sum(map(of_table.__contains__, gram)) / len(gram)


def _geometric_mean(values: list[float]) -> float:
    return exp(sum(map(log, values)) / len(values)) if all(values) else 0.0


def _common(value: list[str], said: list[str]) -> int:
    """Return the length of the longest common subsequence."""
    lengths = [0] * (len(value) + 1)
    wanted = set(value)
    for word in said:
        if word in wanted:
            diagonal = 0
            for k, mine in enumerate(value, 1):
                diagonal, lengths[k] = (
                    lengths[k],
                    diagonal + 1 if mine == word else max(lengths[k], lengths[k - 1]),
                )
    return lengths[-1]
