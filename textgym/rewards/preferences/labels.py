"""Reader for unpaired preferences: texts that were judged good or bad on their own (KTO).

A row has ``prompt``, ``completion`` and ``label``, as in TRL: true for a desirable text, false for
an undesirable one. Prompt and completion are strings, or lists of messages (``{"role": ...,
"content": ...}``); ``system`` and ``weight`` are those of :mod:`textgym.rewards.preferences.pairs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from textgym.data.rows import is_missing
from textgym.errors import DataError
from textgym.rewards.preferences.pair_texts import Part, parts_of
from textgym.rewards.preferences.pairs import number_of, prompt_of, system_of

_LABELS = {"true": 1.0, "1": 1.0, "1.0": 1.0, "false": 0.0, "0": 0.0, "0.0": 0.0}


@dataclass(frozen=True, slots=True)
class Labelled:
    """A completion of a prompt, and whether it is desirable.

    Prompt and completion are both strings, or both lists of messages.

    Attributes:
        where: The row, for errors.
        prompt: The prompt.
        completion: The completion.
        label: 1 for a desirable text, 0 for an undesirable one.
        weight: Weight of the text in the loss.
    """

    where: str
    prompt: Part
    completion: Part
    label: float
    weight: float = 1.0


def is_labelled(row: Any) -> bool:
    """Whether a row is a judgement of one text rather than a pair."""
    return isinstance(row, Mapping) and "label" in row and "chosen" not in row


def labelled_of(rows: Sequence[Any], name: str) -> list[Labelled]:
    """Read rows.

    Args:
        rows: Dictionaries.
        name: Source of the rows, for errors.

    Raises:
        DataError: If a row is not a labelled text; the message names the row.
    """
    return [_labelled(rows[at], f"row {at} of {name}") for at in range(len(rows))]


def _labelled(row: Any, where: str) -> Labelled:
    if not isinstance(row, Mapping):
        raise DataError(
            f"{where} must be an object with 'prompt', 'completion' and 'label', not "
            f"{type(row).__name__}"
        )
    for column in ("completion", "label"):
        if is_missing(row.get(column)):
            raise DataError(
                f"{where} has no {column!r}, only {', '.join(map(repr, row)) or 'nothing'}; give "
                "every row a 'prompt', a 'completion', and a 'label' that is true or false"
            )
    label = _LABELS.get(str(row["label"]).strip().lower())
    if label is None:
        raise DataError(f"{where}: 'label' must be true or false, not {row['label']!r:.60}")
    values = {"prompt": prompt_of(row), "completion": row["completion"]}
    prompt, completion = parts_of(values, system_of(row, where), where)
    weight = number_of(row, "weight", 1.0, where, low=0.0)
    return Labelled(where, prompt, completion, label, weight)
