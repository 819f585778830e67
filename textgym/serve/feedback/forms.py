"""Posted forms as judgements."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from textgym.errors import FeedbackError
from textgym.feedback.items import Kind
from textgym.serve.feedback.pieces import visible

_MAX_FIELDS = 100
_LONGEST = 86_400.0
"""Longest time that counts, in seconds: a page may stay open for days."""

_MARK = re.compile(r"\[([+-])(.*?)\1\]", re.DOTALL)


def fields_of(body: bytes) -> dict[str, str]:
    """Parse a form of the type ``application/x-www-form-urlencoded``.

    Raises:
        FeedbackError: If it is not such a form.
    """
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict",
            max_num_fields=_MAX_FIELDS,
        )  # fmt: skip
    except ValueError as error:
        raise FeedbackError(f"the form cannot be read: {error}") from error
    # HTML forms have two characters for a line break.
    return {name: value.replace("\r\n", "\n") for name, value in pairs}


def value_of(kind: Kind, texts: Sequence[str], fields: Mapping[str, str]) -> dict[str, Any]:
    """Return the judgement in a form, which the store checks.

    Args:
        kind: The kind of the item.
        texts: The texts of the item.
        fields: The form.

    Raises:
        FeedbackError: If the form has no judgement.
    """
    if "skip" in fields:
        return {"choice": "skip"} if kind == "pair" else {"skip": True}
    if kind == "pair":
        if fields.get("edit") in ("0", "1"):
            side = int(fields["edit"])
            edited = restored(fields.get(f"text{side}", ""), texts[side])
            return {"choice": ("first", "second")[side], "text": edited}
        return {"choice": fields.get("choice")}
    if kind == "rating":
        return {"aspects": _ratings(fields)}
    if kind == "spans":
        return {"spans": _spans(fields, texts[0])}
    return {"text": restored(fields.get("text0", ""), texts[0])}


def seconds_of(fields: Mapping[str, str]) -> float:
    """Return the time that a form took: as the script measured it, or since it was rendered."""
    try:
        if fields.get("seconds"):
            seconds = float(fields["seconds"])
        else:
            seconds = time.time() - float(fields.get("shown", ""))
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), _LONGEST) if seconds == seconds else 0.0


def restored(edited: str, original: str) -> str:
    """Give an edited text the spaces at the ends of the original, which people cannot see."""
    body = edited.strip()
    if not body or not original.strip():
        return body
    start = original[: len(original) - len(original.lstrip())]
    return start + body + original[len(original.rstrip()) :]


def parse_marks(marked: str, text: str) -> list[list[int]]:
    """Return the spans of a text in which parts were marked ``[+good+]`` and ``[-bad-]``.

    Raises:
        FeedbackError: If anything but the marks was changed.
    """
    spans, plain, end = [], "", 0
    for found in _MARK.finditer(marked):
        plain += marked[end : found.start()]
        begin = len(plain)
        plain += found[2]
        if found[2]:
            spans.append([begin, len(plain), 1 if found[1] == "+" else -1])
        end = found.end()
    plain += marked[end:]
    if plain.rstrip() != visible(text).rstrip() or (spans and spans[-1][1] > len(text)):
        raise FeedbackError("only add marks, [+good+] and [-bad-], and leave the text as it is")
    return spans


def _ratings(fields: Mapping[str, str]) -> dict[str, Any]:
    ratings: dict[str, Any] = {}
    for name, value in fields.items():
        if name.startswith("aspect:"):
            ratings[name.removeprefix("aspect:")] = int(value) if value.isdecimal() else value
    return ratings


def _spans(fields: Mapping[str, str], text: str) -> Any:
    if fields.get("spans"):
        try:
            return json.loads(fields["spans"])
        except (ValueError, RecursionError) as error:
            raise FeedbackError(f"the marked parts cannot be read: {error}") from error
    return parse_marks(fields.get("marked", text), text)
