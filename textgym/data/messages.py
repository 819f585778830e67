"""Conversations as lists of messages, and as texts: the one place that turns one into the other.

TRL hands a reward function messages where its data set is conversational: each prompt is a list of
``{"role": ..., "content": ...}``, each completion a list of the assistant's message. The rewards
of textgym are about texts: :func:`reads_texts` makes them read such lists too. The other way, an
environment has texts: a function that asks for messages (:func:`asks_for_messages`) gets them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, TypeAlias, TypeVar

import numpy as np

from textgym.errors import RewardError

Message: TypeAlias = Mapping[str, Any]
_Method = TypeVar("_Method", bound=Callable[..., Any])

_STRING = frozenset({str})
_SEQUENCES = (list, tuple, np.ndarray)
_LISTS = re.compile(r"\b(?:list|sequence)\[\s*(?:\w+\.)*(?:list|sequence)\[", re.IGNORECASE)
_STRINGS = re.compile(r"\b(?:list|sequence)\[\s*str\b", re.IGNORECASE)


def is_messages(value: Any) -> bool:
    """Return whether this is a list of messages, each with a role or a content.

    Columns of Parquet files hold arrays of messages instead of lists.
    """
    return (
        isinstance(value, _SEQUENCES)
        and len(value) > 0
        and all(isinstance(one, Mapping) and ("content" in one or "role" in one) for one in value)
    )


def is_conversation(value: Any) -> bool:
    """Return whether this is a list of messages that a chat template can render.

    Each message needs both its role, a string, and its content.
    """
    return is_messages(value) and all(
        isinstance(one.get("role"), str) and "content" in one for one in value
    )


def text_of_messages(messages: Sequence[Message], role: str | None = None) -> str:
    """Return the contents of messages, one below the other.

    Args:
        messages: The messages. A content may be a string, a list of parts (those with a text count,
            pictures do not), or None (a call of a tool).
        role: Take the messages of this role, and those without any role; None takes all.

    Raises:
        RewardError: If a content is something else.
    """
    texts = [
        _content(one.get("content")) for one in messages if role in (None, one.get("role", role))
    ]
    return "\n".join(text for text in texts if text)


def as_texts(values: Sequence[Any], role: str | None = None) -> Sequence[str]:
    """Return texts for texts or lists of messages; what is neither stays as it is.

    Args:
        values: N texts or lists of messages.
        role: See :func:`text_of_messages`.
    """
    if _STRING.issuperset(map(type, values)):
        return values
    return [
        text_of_messages(value, role) if is_messages(value)
        else "" if isinstance(value, _SEQUENCES) and len(value) == 0
        else value
        for value in values
    ]  # fmt: skip


def reads_texts(method: _Method) -> _Method:
    """Make a reward's method ``(self, prompts, completions, **columns)`` read messages as texts.

    Of a completion the assistant's messages count, of a prompt all. A prompt that an environment
    has rendered with a chat template is read as its messages too (the column ``messages``), so that
    no reward sees the special tokens of the policy's template, and a text has the reward that it
    has in TRL. The method finds the messages of every prompt that has some in ``messages``.
    """

    @wraps(method)
    def reading(
        self: Any, prompts: Sequence[Any], completions: Sequence[Any], *rest: Any, **columns: Any
    ) -> Any:
        talks = _talks(prompts, columns.get("messages"))
        if talks is not None:
            columns = {**columns, "messages": talks}
            prompts = [
                talk if belongs(prompt, talk) else prompt
                for prompt, talk in zip(prompts, talks, strict=True)
            ]
        return method(self, as_texts(prompts), as_texts(completions, "assistant"), *rest, **columns)

    return reading  # type: ignore[return-value]


def belongs(prompt: Any, messages: Any) -> bool:
    """Return whether a prompt is these messages, or the text that a template made of them.

    A data set may have a column ``messages`` that is something else: the whole conversation, with
    the answer, say. A template writes the last message of a prompt as it is.
    """
    if not is_messages(messages):
        return False
    return prompt is messages or (
        isinstance(prompt, str) and text_of_messages(messages[-1:]).strip() in prompt
    )


def _talks(prompts: Sequence[Any], messages: Sequence[Any] | None) -> list[Any] | None:
    """The messages of each prompt, those of the rows where it is a text; None: there are none."""
    if messages is None:
        if _STRING.issuperset(map(type, prompts)):
            return None
        messages = [None] * len(prompts)
    return [
        prompt if is_messages(prompt) else own
        for prompt, own in zip(prompts, messages, strict=True)
    ]


def as_completions(completions: Sequence[Any]) -> list[Any]:
    """Return each text as one assistant's message in a list; lists of messages stay."""
    return [
        [{"role": "assistant", "content": one}] if isinstance(one, str) else one
        for one in completions
    ]


def as_prompts(prompts: Sequence[Any], messages: Sequence[Any] | None) -> list[Any]:
    """Return the messages of prompts.

    Args:
        prompts: N texts; lists of messages stay.
        messages: The rows' column ``messages``, or None. A text without any becomes one message of
            the user.
    """
    given: Sequence[Any] = [None] * len(prompts) if messages is None else messages
    return [
        own if is_messages(own) and isinstance(prompt, str)
        else [{"role": "user", "content": prompt}] if isinstance(prompt, str)
        else prompt
        for prompt, own in zip(prompts, given, strict=True)
    ]  # fmt: skip


def asks_for_messages(annotation: Any) -> bool:
    """Return whether a parameter's annotation is a list of lists, and not (also) of strings."""
    said = annotation if isinstance(annotation, str) else str(annotation)
    return _LISTS.search(said) is not None and _STRINGS.search(said) is None


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if isinstance(content, _SEQUENCES):
        parts = [part if isinstance(part, str) else part.get("text") for part in content
                 if isinstance(part, str | Mapping)]  # fmt: skip
        return "".join(part for part in parts if isinstance(part, str))
    raise RewardError(
        f"has to read a message whose content is {type(content).__name__} {content!r:.80}; a "
        "content is a string, a list of parts, or None"
    )
