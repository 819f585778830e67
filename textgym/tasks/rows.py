"""What a row of prompts looks like, and how other people's rows are brought into that form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textgym.errors import DataError
from textgym.tasks.base import Row

PROMPT_COLUMNS = (
    "prompt",
    "text",
    "question",
    "query",
    "instruction",
    "article",
    "document",
    "dialogue",
    "source",
    "input",
)
"""The prompt is the first of these columns that a data set has; the column itself stays."""

REFERENCE_COLUMNS = (
    "reference",
    "references",
    "answer",
    "summary",
    "highlights",
    "target",
    "completion",
    "response",
    "output",
)
"""The reference is the first of these columns that a data set has (it need not have any).

The column itself stays too, unless environments use its name (``response``): then it is moved.
"""

RESERVED_COLUMNS = {
    "response",
    "finish_reason",
    "reward_terms",
    "cost",
    "cost_terms",
    "prompt_tokens",
    "completion_ids",
    "turn",
    "turns",
    "turn_reward",
    "replies",
    "episode",
    "final_obs",
    "final_info",
}
"""Keys of the environments' ``info`` (or of Gymnasium's wrappers) that a column cannot have."""


def as_row(value: Any, where: str) -> Row:
    """Bring one prompt or row into the form ``{"prompt": str, ...}``.

    Columns keep their names, so that a reward function finds the ones that it was written for;
    ``prompt`` and ``reference`` are added.

    Raises:
        DataError: If it is neither a string nor a dictionary with a prompt, or a column has a name
            that environments or Gymnasium use themselves.
    """
    if isinstance(value, str):
        return {"prompt": value}
    if not isinstance(value, Mapping):
        raise DataError(
            f"{where} is a {type(value).__name__}; a row is a string, or a dictionary with a "
            "'prompt'"
        )
    prompt = next((name for name in PROMPT_COLUMNS if name in value), None)
    if prompt is None:
        raise DataError(
            f"{where} has no prompt: its columns are {sorted(map(str, value))}; name one of them "
            f"'prompt' (or {', '.join(PROMPT_COLUMNS[1:])})"
        )
    if not isinstance(value[prompt], str):
        raise DataError(
            f"{where} has a {type(value[prompt]).__name__} as its {prompt!r}; a prompt is a string"
        )
    row = dict(value)
    row["prompt"] = row[prompt]
    reference = next((name for name in REFERENCE_COLUMNS if name in row), None)
    if reference is not None:
        moved = reference in RESERVED_COLUMNS
        row["reference"] = row.pop(reference) if moved else row[reference]
    reserved = RESERVED_COLUMNS.intersection(row)
    if reserved:
        raise DataError(
            f"{where} has a column {min(reserved)!r}, a name that environments use themselves; "
            "rename the column"
        )
    _check_names(row, where)
    return row


def _check_names(columns: Mapping[Any, Any], where: str, nested: bool = False) -> None:
    """Refuse names that mean something else in Gymnasium's vector ``info``."""
    for name, value in columns.items():
        if isinstance(value, dict):
            _check_names(value, where, nested=True)
        if not isinstance(name, str):
            if nested:
                continue
            raise DataError(f"{where} has a column {name!r}; names of columns are strings")
        if name[:1] == "_" and (name[1:] in columns or name[1:] in RESERVED_COLUMNS):
            raise DataError(
                f"{where} has a column {name!r}, the name of the mask that Gymnasium's vector "
                f"environments keep beside {name[1:]!r}; rename the column"
            )
