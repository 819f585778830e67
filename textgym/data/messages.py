"""Conversion between lists of messages and texts.

With conversational data TRL passes messages to reward functions: each prompt is a list of
``{"role": ..., "content": ...}``, each completion a list with the assistant's message. The rewards
of textgym score texts, and :func:`reads_texts` makes them accept messages. Environments have texts,
and functions that expect messages (:func:`asks_for_messages`) get messages.
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
    """Return whether a value is a list of messages, each with a role or a content.

    Columns of Parquet files have arrays instead of lists.
    """
    return (
        isinstance(value, _SEQUENCES)
        and len(value) > 0
        and all(
            isinstance(item, Mapping) and ("content" in item or "role" in item) for item in value
        )
    )


def is_conversation(value: Any) -> bool:
    """Return whether a value is a list of messages that a chat template can render.

    Each message needs a role, which is a string, and a content.
    """
    return is_messages(value) and all(
        isinstance(message.get("role"), str) and "content" in message for message in value
    )


def text_of_messages(messages: Sequence[Message], role: str | None = None) -> str:
    """Return the contents of messages, joined by newlines.

    Args:
        messages: The messages. A content is a string, a list of parts (of which those with a text
            are used), or None (a tool call).
        role: Select the messages with this role or without a role; None selects all.

    Raises:
        RewardError: If a content is of another type.
    """
    texts = [
        _content(message.get("content"))
        for message in messages
        if role in (None, message.get("role", role))
    ]
    return "\n".join(text for text in texts if text)


def as_texts(values: Sequence[Any], role: str | None = None) -> Sequence[str]:
    """Convert lists of messages to texts; other values are returned unchanged.

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
    """Make a reward's method ``(self, prompts, completions, **columns)`` accept messages as texts.

    A completion's text has the assistant's messages, a prompt's text has all messages. A prompt
    that was rendered with a chat template is replaced by the text of its messages (the column
    ``messages``), so that rewards do not depend on the template and are equal to those in TRL. The
    method gets the messages of all prompts in ``messages``.
    """

    @wraps(method)
    def reading(
        self: Any, prompts: Sequence[Any], completions: Sequence[Any], *rest: Any, **columns: Any
    ) -> Any:
        conversations = _messages_of_prompts(prompts, columns.get("messages"))
        if conversations is not None:
            columns = {**columns, "messages": conversations}
            prompts = [
                messages if belongs(prompt, messages) else prompt
                for prompt, messages in zip(prompts, conversations, strict=True)
            ]
        return method(self, as_texts(prompts), as_texts(completions, "assistant"), *rest, **columns)

    return reading  # type: ignore[return-value]


def belongs(prompt: Any, messages: Any) -> bool:
    """Return whether a prompt is these messages, or a text rendered from them.

    A data set's column ``messages`` may differ from the prompt, such as the whole conversation with
    the answer. A rendered prompt contains the text of its last message.
    """
    if not is_messages(messages):
        return False
    return prompt is messages or (
        isinstance(prompt, str) and text_of_messages(messages[-1:]).strip() in prompt
    )


def _messages_of_prompts(
    prompts: Sequence[Any], messages: Sequence[Any] | None
) -> list[Any] | None:
    """The messages of each prompt, from the rows' column if it is a text; None without messages."""
    if messages is None:
        if _STRING.issuperset(map(type, prompts)):
            return None
        messages = [None] * len(prompts)
    return [
        prompt if is_messages(prompt) else column
        for prompt, column in zip(prompts, messages, strict=True)
    ]


def as_completions(completions: Sequence[Any]) -> list[Any]:
    """Convert each text to a list with one assistant message; other values are unchanged."""
    return [
        [{"role": "assistant", "content": text}] if isinstance(text, str) else text
        for text in completions
    ]


def as_prompts(prompts: Sequence[Any], messages: Sequence[Any] | None) -> list[Any]:
    """Convert each text to its messages; lists of messages are unchanged.

    Args:
        prompts: N texts or lists of messages.
        messages: The rows' column ``messages``, or None. A text without messages becomes one user
            message.
    """
    columns: Sequence[Any] = [None] * len(prompts) if messages is None else messages
    return [
        column if is_messages(column) and isinstance(prompt, str)
        else [{"role": "user", "content": prompt}] if isinstance(prompt, str)
        else prompt
        for prompt, column in zip(prompts, columns, strict=True)
    ]  # fmt: skip


def asks_for_messages(annotation: Any) -> bool:
    """Return whether a parameter's annotation is a list of lists, but not also of strings."""
    text = annotation if isinstance(annotation, str) else str(annotation)
    return _LISTS.search(text) is not None and _STRINGS.search(text) is None


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
        f"got a message whose content is {type(content).__name__} {content!r:.80}; a content is a "
        "string, a list of parts, or None"
    )
