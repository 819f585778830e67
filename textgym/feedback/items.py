"""Things to judge, judgements, and the values that judgements may have.

The value of a judgement is a JSON object. It refers to an item's texts by their place in the item,
never by their place on the screen:

* ``"pair"``: ``{"choice": "first" | "second" | "tie" | "skip"}``; with ``"first"`` and ``"second"``
  also ``"text"``, a better version of the preferred text.
* ``"rating"``: ``{"aspects": {name: 1 to 5}}``.
* ``"spans"``: ``{"spans": [[start, end, 1 or -1], ...]}``: good and bad parts of the text, as
  offsets in characters (Unicode code points), sorted, without overlap; possibly none.
* ``"edit"``: ``{"text": "..."}``: a better version of the text.
* of the last three kinds also ``{"skip": true}``.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from textgym.errors import FeedbackError, shown

Kind = Literal["pair", "rating", "spans", "edit"]
KINDS: tuple[Kind, ...] = ("pair", "rating", "spans", "edit")

CHOICES = ("first", "second", "tie", "skip")
SCALE = range(1, 6)
"""Possible ratings of an aspect."""

MAX_TEXT = 100_000
"""Maximum length of a text, a prompt or an edited text, in characters."""

MAX_NAME = 40
"""Maximum length of the names of annotators and aspects, in characters."""

_MAX_ASPECTS = 20
_SKIP = {"skip": True}


class AnsweredError(FeedbackError):
    """A form that was answered before is answered again, with another value."""


@dataclass(frozen=True)
class NewItem:
    """Something to judge that is not in a store yet.

    Attributes:
        kind: The kind of judgement.
        prompt: The prompt; it may be empty.
        texts: Continuations of the prompt: two for ``"pair"``, one for the other kinds.
        columns: Further data as JSON, such as token ids or the version of the reward.
        policy_version: Identifies the policy that wrote the texts.
        priority: Items of higher priority are judged first.
        key: Identifies the item. Adding an item whose key is in the store adds nothing, so that a
            program that was killed can add its items again. Default: a random key.
    """

    kind: Kind
    prompt: str
    texts: tuple[str, ...]
    columns: Mapping[str, Any] = field(default_factory=dict)
    policy_version: str = ""
    priority: float = 0.0
    key: str | None = None


@dataclass(frozen=True)
class Item:
    """Something to judge in a store.

    Attributes:
        id: Its number in the store, from 1.
        kind: As in :class:`NewItem`, like the remaining attributes.
    """

    id: int
    kind: Kind
    prompt: str
    texts: tuple[str, ...]
    columns: dict[str, Any]
    policy_version: str
    priority: float
    key: str


@dataclass(frozen=True)
class Judgement:
    """A judgement of an item.

    Attributes:
        id: Its number in the store. Later judgements have higher numbers.
        item: The number of the item.
        kind: The kind of the item.
        annotator: The name of the person.
        value: The judgement itself, see :mod:`textgym.feedback.items`.
        order: Indices of the item's texts in the order in which they were shown, left to right.
        seconds: Time that the person took.
        created: When it was stored, in seconds since 1970 (UTC).
        repeat: Whether the same person was shown this item before, to measure self-agreement.
        token: Identifies the form that was answered.
    """

    id: int
    item: int
    kind: Kind
    annotator: str
    value: dict[str, Any]
    order: tuple[int, ...]
    seconds: float
    created: float
    repeat: bool
    token: str

    @property
    def skipped(self) -> bool:
        """Whether the person declined to judge."""
        return is_skip(self.value)

    @property
    def preference(self) -> float | None:
        """1 if the first text of a pair is preferred, 0 if the second, 0.5 for a tie, else None."""
        return {"first": 1.0, "second": 0.0, "tie": 0.5}.get(self.value.get("choice", ""))


def is_skip(value: Mapping[str, Any]) -> bool:
    """Whether a value declines to judge."""
    return value.get("choice") == "skip" or value.get("skip") is True


def check_item(item: NewItem) -> None:
    """Check an item.

    Raises:
        FeedbackError: If a field is invalid.
    """
    if item.kind not in KINDS:
        raise FeedbackError(f"kind must be one of {', '.join(KINDS)}, not {shown(item.kind)}")
    count = 2 if item.kind == "pair" else 1
    if not isinstance(item.texts, tuple) or len(item.texts) != count:
        raise FeedbackError(
            f"an item of kind {item.kind!r} has a tuple of {count} text{'s' * (count > 1)}, not "
            f"{shown(item.texts)}"
        )
    for name, text in (("prompt", item.prompt), *(("text", text) for text in item.texts)):
        if not isinstance(text, str) or len(text) > MAX_TEXT:
            raise FeedbackError(
                f"a {name} must be a string of at most {MAX_TEXT:,} characters, not {shown(text)}"
            )
    if not isinstance(item.policy_version, str):
        raise FeedbackError(f"policy_version must be a string, not {shown(item.policy_version)}")
    if not _is_finite(item.priority):
        raise FeedbackError(f"priority must be a finite number, not {shown(item.priority)}")
    if item.key is not None and not (isinstance(item.key, str) and 0 < len(item.key) <= 200):
        raise FeedbackError(f"key must be a string of 1 to 200 characters, not {shown(item.key)}")
    if not isinstance(item.columns, Mapping):
        raise FeedbackError(f"columns must be a dictionary, not {shown(item.columns)}")


def check_value(kind: Kind, value: Any, texts: Sequence[str]) -> dict[str, Any]:
    """Check the value of a judgement.

    Args:
        kind: The kind of the item.
        value: The value.
        texts: The texts of the item.

    Returns:
        The value in normal form: spans are sorted, and nothing else is in it.

    Raises:
        FeedbackError: If it is not a value of this kind.
    """
    if not isinstance(value, Mapping):
        raise FeedbackError(f"a judgement must be an object, not {shown(value)}")
    if kind != "pair" and value.get("skip") is True:
        return dict(_SKIP)
    if kind == "pair":
        return _checked_pair(value, texts)
    if kind == "rating":
        return {"aspects": _checked_aspects(value.get("aspects"))}
    if kind == "spans":
        return {"spans": _checked_spans(value.get("spans"), len(texts[0]))}
    return {"text": _checked_edit(value.get("text"), texts[0])}


def check_annotator(name: object) -> str:
    """Check the name of an annotator.

    Returns:
        The name.

    Raises:
        FeedbackError: If it is empty, too long, or has characters that cannot be seen.
    """
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or name != name.strip():
        raise FeedbackError(
            f"an annotator's name must have 1 to {MAX_NAME} characters, without spaces at its "
            f"ends, not {shown(name)}"
        )
    if not name.isprintable():
        raise FeedbackError(f"an annotator's name must be printable, not {shown(name)}")
    return name


def to_json(value: Any, what: str) -> str:
    """Write a value as JSON with ASCII characters only, which also holds lone surrogates.

    Raises:
        FeedbackError: If it has other values than JSON; the message begins with `what`.
    """
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise FeedbackError(f"{what} must consist of JSON values: {error}") from error


def _checked_pair(value: Mapping[str, Any], texts: Sequence[str]) -> dict[str, Any]:
    choice = value.get("choice")
    if choice not in CHOICES:
        raise FeedbackError(f"choice must be one of {', '.join(CHOICES)}, not {shown(choice)}")
    if value.get("text") is None:
        return {"choice": choice}
    if choice not in ("first", "second"):
        raise FeedbackError("a better version belongs to a text that is preferred, not to a tie")
    chosen = texts[0] if choice == "first" else texts[1]
    return {"choice": choice, "text": _checked_edit(value["text"], chosen)}


def _checked_aspects(aspects: Any) -> dict[str, int]:
    if not isinstance(aspects, Mapping) or not 0 < len(aspects) <= _MAX_ASPECTS:
        raise FeedbackError(
            f"aspects must be an object of 1 to {_MAX_ASPECTS} ratings, not {shown(aspects)}"
        )
    for name, rating in aspects.items():
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
            raise FeedbackError(
                f"an aspect's name must have 1 to {MAX_NAME} characters, not {shown(name)}"
            )
        if type(rating) is not int or rating not in SCALE:
            raise FeedbackError(
                f"the rating of {name!r} must be a whole number from 1 to 5, not {shown(rating)}"
            )
    return dict(aspects)


def _checked_spans(spans: Any, length: int) -> list[list[int]]:
    if not isinstance(spans, Sequence) or isinstance(spans, str):
        raise FeedbackError(f"spans must be a list of [start, end, 1 or -1], not {shown(spans)}")
    for span in spans:
        if (
            not isinstance(span, Sequence)
            or len(span) != 3
            or any(type(number) is not int for number in span)
            or not 0 <= span[0] < span[1] <= length
            or span[2] not in (1, -1)
        ):
            raise FeedbackError(
                f"a span must be [start, end, 1 or -1] within the {length} characters of the "
                f"text, not {shown(span)}"
            )
    ordered = sorted(list(span) for span in spans)
    for before, after in itertools.pairwise(ordered):
        if after[0] < before[1]:
            raise FeedbackError(f"the spans {before} and {after} overlap; mark each part once")
    return ordered


def _checked_edit(text: Any, original: str) -> str:
    if not isinstance(text, str) or not text.strip() or len(text) > MAX_TEXT:
        raise FeedbackError(
            f"an edited text must have 1 to {MAX_TEXT:,} characters, not {shown(text)}"
        )
    if text == original:
        raise FeedbackError("the text was not changed; change it, or skip it")
    return text


def _is_finite(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(cast(float, value))
    )
