"""Rows of data: their form, and the conversion of other forms."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from textgym.data.messages import is_conversation, text_of_messages
from textgym.errors import DataError, RewardError, shown

Row = dict[str, Any]
"""The data of an episode: ``prompt``, ``reference``, and columns for reward functions."""

PROMPT_COLUMNS = (
    "prompt",
    "messages",
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
"""The prompt is the first of these columns in a data set (``messages`` if it is a list of them)."""

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
"""The reference, if any, is the first of these columns in a data set.

It is copied, but a column whose name environments use (``response``) is renamed.
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


def is_missing(value: Any) -> bool:
    """Whether a value is missing: None, NaN, or pandas' ``NaT`` and ``NA``."""
    if value is None:
        return True
    if isinstance(value, (float, np.floating)):
        return bool(value != value)
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return bool(np.isnat(value))
    kind = type(value)
    return kind.__name__ in ("NAType", "NaTType") and kind.__module__.startswith("pandas")


def user_text(prompt: Any) -> str:
    """The text of a prompt: a string itself, or the last user message of a list of messages.

    Without a user message it is the text of all messages.
    """
    if isinstance(prompt, str):
        return prompt
    last = [message for message in prompt if message["role"] == "user"][-1:]
    return text_of_messages(last or list(prompt))


def prompt_column(row: Mapping[Any, Any]) -> str | None:
    """The name of the column with a row's prompt, or None."""
    for name in PROMPT_COLUMNS:
        if name in row and (name != "messages" or is_conversation(row[name])):
            return name
    return None


def as_row(value: Any, where: str) -> Row:
    """Convert a prompt or a row to the form ``{"prompt": str, ...}``.

    Columns keep their names, and ``prompt`` and ``reference`` are added. A prompt may also be a
    list of messages. If a column ``messages`` ends with the assistant's turn (TRL's form for
    language modelling), this turn becomes the reference. A reference that is a list of messages
    becomes their text. Missing values of data frames (NaN, ``NaT``, ``NA``) become None.

    Raises:
        DataError: If the value is neither a string nor a dictionary with a prompt, or a column has
            a reserved name or is nested too deeply.
    """
    if isinstance(value, str):
        return {"prompt": value}
    if not isinstance(value, Mapping):
        raise DataError(
            f"{where} is a {type(value).__name__}; a row is a string, or a dictionary with a "
            "'prompt'"
        )
    prompt = prompt_column(value)
    if prompt is None:
        others = (name for name in PROMPT_COLUMNS[1:] if name != "messages")
        raise DataError(
            f"{where} has no prompt: its columns are {shown(sorted(map(str, value)))}; name one of "
            f"them 'prompt' (or {', '.join(others)})"
        )
    row: Row = {name: None if is_missing(item) else item for name, item in value.items()}
    if not isinstance(row[prompt], str) and not is_conversation(row[prompt]):
        raise DataError(
            f"{where} has a {type(row[prompt]).__name__} as its {prompt!r}; a prompt is a string "
            "(or a list of messages {'role': ..., 'content': ...})"
        )
    row["prompt"] = row[prompt]
    reference = next((name for name in REFERENCE_COLUMNS if name in row), None)
    if reference is not None:
        moved = reference in RESERVED_COLUMNS
        row["reference"] = row.pop(reference) if moved else row[reference]
        if is_conversation(row["reference"]):
            row["reference"] = _assistant_text(row["reference"], where)
    if is_conversation(row["prompt"]):
        row["prompt"] = [dict(message) for message in row["prompt"]]
        if prompt == "messages" and row["prompt"][-1]["role"] == "assistant":
            _split_off_answer(row, where)
    reserved = RESERVED_COLUMNS.intersection(row)
    if reserved:
        raise DataError(
            f"{where} has a column {min(reserved)!r}, a name that environments use; rename the "
            "column"
        )
    _check_names(row, where)
    for name, item in row.items():
        if isinstance(item, _CONTAINERS) and _is_deeper(item, MAX_DEPTH):
            raise DataError(
                f"{where} has a column {name!r} that is nested more than {MAX_DEPTH} levels deep; "
                "flatten it"
            )
    return row


def _split_off_answer(row: Row, where: str) -> None:
    """Remove the assistant's last turn from the prompt; it is the default reference."""
    *before, answer = row["prompt"]
    if not before:
        raise DataError(
            f"{where} has only the assistant's turn in its column 'messages'; add the user's "
            "message, which is the prompt"
        )
    row["prompt"] = before
    if row.get("reference") is None:
        row["reference"] = _assistant_text([answer], where)


def _assistant_text(messages: Any, where: str) -> str:
    try:
        return text_of_messages(list(messages), "assistant")
    except RewardError as error:
        raise DataError(f"{where} {error}") from error


MAX_DEPTH = 64
"""Maximal depth of nested lists and dictionaries in a column."""

_CONTAINERS = (list, tuple, dict)


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether a value is nested more deeply than a number of levels."""
    if levels == 0:
        return True
    inner = value.values() if isinstance(value, dict) else value
    return any(isinstance(item, _CONTAINERS) and _is_deeper(item, levels - 1) for item in inner)


def _check_names(columns: Mapping[Any, Any], where: str, depth: int = 0) -> None:
    """Refuse names that have another meaning in Gymnasium's vector ``info``."""
    if depth > MAX_DEPTH:
        return  # The row is refused for its depth.
    for name, value in columns.items():
        if isinstance(value, dict):
            _check_names(value, where, depth + 1)
        if not isinstance(name, str):
            if depth:
                continue
            raise DataError(f"{where} has a column {shown(name)}; names of columns are strings")
        if name[:1] == "_" and (name[1:] in columns or name[1:] in RESERVED_COLUMNS):
            raise DataError(
                f"{where} has a column {name!r}, the name of the mask of {name[1:]!r} in "
                "Gymnasium's vector environments; rename the column"
            )


def prompt_hash(prompt: Any) -> int:
    """A 32-bit hash of a prompt, the same on every machine."""
    text = prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True, default=str)
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


def rows_of(prompts: Sequence[str], columns: Mapping[str, Sequence[Any]]) -> list[Row]:
    """Rows from the arguments of a reward function.

    Args:
        prompts: N prompts.
        columns: N values of each other column.
    """
    names = ["prompt", *columns]
    values = zip(prompts, *columns.values(), strict=True)
    return [dict(zip(names, row, strict=True)) for row in values]
