"""What a row of prompts looks like, and how other people's rows are brought into that form."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from textgym.data.messages import is_conversation, text_of_messages
from textgym.errors import DataError, RewardError, shown

Row = dict[str, Any]
"""One start of an episode, JSON-able: ``prompt``, ``reference``, and what the verifier needs."""

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
"""The prompt is the first of these columns that a data set has; the column itself stays.

(``messages`` only if it is a list of messages.)
"""

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


def is_missing(value: Any) -> bool:
    """Whether a value stands for none: None, NaN, or pandas' ``NaT`` and ``NA``.

    Data frames write a missing text as NaN, and JSON files that Python wrote may hold one.
    """
    if value is None:
        return True
    if isinstance(value, (float, np.floating)):
        return bool(value != value)
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return bool(np.isnat(value))
    kind = type(value)
    return kind.__name__ in ("NAType", "NaTType") and kind.__module__.startswith("pandas")


def user_text(prompt: Any) -> str:
    """What the user says in a prompt: the text of the user's last message; a string is the text.

    Where there is no message of the user, all messages count.
    """
    if isinstance(prompt, str):
        return prompt
    last = [message for message in prompt if message["role"] == "user"][-1:]
    return text_of_messages(last or list(prompt))


def prompt_column(row: Mapping[Any, Any]) -> str | None:
    """The name of the column that is a row's prompt; None if it has none."""
    for name in PROMPT_COLUMNS:
        if name in row and (name != "messages" or is_conversation(row[name])):
            return name
    return None


def as_row(value: Any, where: str) -> Row:
    """Bring one prompt or row into the form ``{"prompt": str, ...}``.

    Columns keep their names, so that a reward function finds the ones that it was written for;
    ``prompt`` and ``reference`` are added. A prompt that is a list of messages stays one. Where a
    column ``messages`` ends with the assistant's turn (TRL's form for language modelling), that
    turn is the reference and not part of the prompt, and a reference that is a list of messages
    (``completion``) is their text. What is missing in a data frame (NaN, ``NaT``, ``NA``) is None.

    Raises:
        DataError: If it is neither a string nor a dictionary with a prompt, or a column has a name
            that environments or Gymnasium use themselves, or is nested too deeply.
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
    row: Row = {name: None if is_missing(one) else one for name, one in value.items()}
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
            row["reference"] = _said(row["reference"], where)
    if is_conversation(row["prompt"]):
        row["prompt"] = [dict(message) for message in row["prompt"]]
        if prompt == "messages" and row["prompt"][-1]["role"] == "assistant":
            _cut_answer(row, where)
    reserved = RESERVED_COLUMNS.intersection(row)
    if reserved:
        raise DataError(
            f"{where} has a column {min(reserved)!r}, a name that environments use themselves; "
            "rename the column"
        )
    _check_names(row, where)
    for name, one in row.items():
        if isinstance(one, _CONTAINERS) and _deeper(one, MAX_DEPTH):
            raise DataError(
                f"{where} has a column {name!r} that is nested more than {MAX_DEPTH} levels deep; "
                "flatten it"
            )
    return row


def _cut_answer(row: Row, where: str) -> None:
    """Take the assistant's last turn off the prompt; it is the reference if there is no other."""
    *before, answer = row["prompt"]
    if not before:
        raise DataError(
            f"{where} has nothing but the assistant's turn in its 'messages'; the prompt is what "
            "precedes it: give the user's message, too"
        )
    row["prompt"] = before
    if row.get("reference") is None:
        row["reference"] = _said([answer], where)


def _said(messages: Any, where: str) -> str:
    """The text of the assistant's messages."""
    try:
        return text_of_messages(list(messages), "assistant")
    except RewardError as error:
        raise DataError(f"{where} {error}") from error


MAX_DEPTH = 64
"""Lists and dictionaries in a row's columns may be nested this deep."""

_CONTAINERS = (list, tuple, dict)


def _deeper(value: Any, levels: int) -> bool:
    """Whether a value is nested more than so many levels deep."""
    if levels == 0:
        return True
    inner = value.values() if isinstance(value, dict) else value
    return any(isinstance(one, _CONTAINERS) and _deeper(one, levels - 1) for one in inner)


def _check_names(columns: Mapping[Any, Any], where: str, depth: int = 0) -> None:
    """Refuse names that mean something else in Gymnasium's vector ``info``."""
    if depth > MAX_DEPTH:
        return  # Which is refused anyway.
    for name, value in columns.items():
        if isinstance(value, dict):
            _check_names(value, where, depth + 1)
        if not isinstance(name, str):
            if depth:
                continue
            raise DataError(f"{where} has a column {shown(name)}; names of columns are strings")
        if name[:1] == "_" and (name[1:] in columns or name[1:] in RESERVED_COLUMNS):
            raise DataError(
                f"{where} has a column {name!r}, the name of the mask that Gymnasium's vector "
                f"environments keep beside {name[1:]!r}; rename the column"
            )


def prompt_hash(prompt: Any) -> int:
    """A hash of a prompt, 32 bits: the same on every machine, whatever the other prompts are."""
    text = prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True, default=str)
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))
