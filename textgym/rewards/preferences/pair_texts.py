"""Conversion of a row with a prompt and one or two answers to strings, or to messages.

An implicit prompt is found as the messages, or the words, with which both answers begin.
:mod:`textgym.rewards.preferences.pairs` and :mod:`textgym.rewards.preferences.labels` read the
rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Any, TypeAlias

from textgym.data.messages import Message
from textgym.errors import DataError

Render: TypeAlias = Callable[[Sequence[Message], bool], str]
"""Renders messages as one text; with True, followed by the header of an assistant turn."""

Part: TypeAlias = "str | list[dict[str, str]]"
"""A prompt or an answer: a string, or messages."""

_TURN = "\n\nAssistant:"  # the header of an assistant turn in hh-rlhf
_INSTRUCTORS = ("system", "developer")


def parts_of(values: dict[str, Any], system: str, where: str) -> list[Part]:
    """Return the prompt and the answers of a row: all of them strings, or all of them messages.

    Args:
        values: "prompt", and one or two answers by the names of their columns: strings, messages,
            or None for no prompt.
        system: The system message of a separate column, or "".
        where: The row, for errors.

    Raises:
        DataError: If a value is something else, or the end of the prompt is ambiguous.
    """
    if not any(is_list(value) or isinstance(value, Mapping) for value in values.values()):
        for name, value in values.items():
            if not isinstance(value, str) and not (name == "prompt" and value is None):
                raise DataError(
                    f"{where}: {name!r} must be a string or a list of messages {{'role': ..., "
                    f"'content': ...}}, not {type(value).__name__}"
                )
        prompt, *answers = values.values()
        if not system and prompt is not None:
            return [prompt, *answers]
        if not system and len(answers) > 1:
            size = _shared(*answers)
            return [answers[0][:size], *(answer[size:] for answer in answers)]
        if prompt is None:
            what = "a system message but no prompt" if system else "no prompt"
            raise DataError(f"{where} has {what}; give it a column 'prompt'")
    messages = {
        name: _messages(value, "user" if name == "prompt" else "assistant", f"{where}: {name!r}")
        for name, value in values.items()
    }
    prompt, *answers = _turns(messages, where)
    if system and not (prompt and prompt[0]["role"] in _INSTRUCTORS):
        prompt = [{"role": "system", "content": system}, *prompt]
    return [prompt, *answers]


def rendered(parts: Sequence[Part], where: str, render: Render) -> list[str]:
    """Return a prompt and two answers as strings, and render those that are messages.

    Args:
        parts: The result of `parts_of`.
        where: The row, for errors.
        render: Renders messages as text.

    Raises:
        DataError: If the messages cannot be rendered.
    """
    prompt, *answers = parts
    if isinstance(prompt, str):
        return [prompt, *map(str, answers)]
    try:
        first = render(prompt, True) if prompt else ""
        both = [render([*prompt, *said], False) for said in answers if not isinstance(said, str)]
    except Exception as error:  # chat templates are programs
        raise DataError(
            f"{where} cannot be rendered ({type(error).__name__}: {error}); change its messages to "
            "a form that the tokenizer's chat template accepts, or give strings"
        ) from error
    # In some templates the text of a prompt is not a prefix of the text with an answer.
    size = _common(first, *both)
    return [both[0][:size], *(text[size:] for text in both)]


def _turns(messages: dict[str, list[dict[str, str]]], where: str) -> list[list[dict[str, str]]]:
    """Return the messages of the prompt and of the answers, without repeating the prompt."""
    prompt, *answers = messages.values()
    shared: list[dict[str, str]] = []
    if len(answers) > 1:
        pairs = zip(*(answer[:-1] for answer in answers), strict=False)
        shared = [one for one, other in takewhile(lambda pair: pair[0] == pair[1], pairs)]
    # In UltraFeedback, answers repeat the prompt of the column, sometimes after a system message,
    # or without the system message of the column.
    if not prompt or _ends_with(shared, prompt):
        prompt, answers = shared, [answer[len(shared) :] for answer in answers]
    elif shared and _ends_with(prompt, shared):
        answers = [answer[len(shared) :] for answer in answers]
    if not all(answers):
        raise DataError(f"{where} has an empty list of messages; give each side an answer")
    if prompt and any(answer[0]["role"] in ("user", *_INSTRUCTORS) for answer in answers):
        names = " and ".join(map(repr, [*messages][1:]))
        raise DataError(
            f"{where}: an answer begins with a message of the role {answers[0][0]['role']!r} that "
            f"the prompt does not end with; {names} must be the assistant's messages, with or "
            "without the whole prompt before them"
        )
    return [prompt, *answers]


def _ends_with(talk: list[dict[str, str]], end: list[dict[str, str]]) -> bool:
    """Whether messages end with other ones, ignoring whitespace around their texts."""
    plain = [
        [(message["role"], message["content"].strip()) for message in part] for part in (talk, end)
    ]
    return len(end) <= len(talk) and plain[0][len(talk) - len(end) :] == plain[1]


def _shared(chosen: str, rejected: str) -> int:
    """Return the length of the prompt that two texts share, in characters."""
    size = _common(chosen, rejected)
    turn = chosen.rfind(_TURN, 0, size)
    if turn >= 0:
        return turn + len(_TURN)
    # The prompt ends with a whole word: answers may begin with the same letters.
    while size > 0 and not (
        chosen[size : size + 1].isspace() and rejected[size : size + 1].isspace()
    ):
        size -= 1
    return size


def _common(*texts: str) -> int:
    """Return the length of the common prefix of texts, in characters."""
    columns = zip(*texts, strict=False)
    alike = takewhile(lambda letters: len(set(letters)) == 1, columns)
    return sum(1 for _ in alike)


def is_list(value: Any) -> bool:
    """Whether a value is a sequence other than a string."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _messages(value: Any, role: str, where: str) -> list[dict[str, str]]:
    """Convert a value to a list of messages; a string is one message with a role."""
    if value is None:
        return []
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if isinstance(value, Mapping):  # a single message
        value = [value]
    if not is_list(value):
        raise DataError(
            f"{where} must be a string or a list of messages, not {type(value).__name__}"
        )
    for number, message in enumerate(value):
        known = isinstance(message, Mapping)
        if not known or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise DataError(
                f"{where}: message {number} must be {{'role': ..., 'content': ...}}, both strings, "
                f"not {str(message)[:60]!r}"
            )
    return [{"role": message["role"], "content": message["content"]} for message in value]
