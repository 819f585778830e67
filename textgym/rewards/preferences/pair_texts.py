"""The prompt and the two answers of a preference pair as strings, whatever the row holds.

Where the prompt ends is found out here: by the messages that both answers begin with, or by the
words of two strings. :mod:`textgym.rewards.preferences.pairs` reads the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Any, TypeAlias

from textgym.data.messages import Message
from textgym.errors import DataError

Render: TypeAlias = Callable[[Sequence[Message], bool], str]
"""Writes messages as one text; with True, up to where the next turn of the assistant begins."""

_TURN = "\n\nAssistant:"  # What a turn of the assistant begins with in hh-rlhf.
_INSTRUCTORS = ("system", "developer")


def texts_of(
    values: dict[str, Any], system: str, where: str, render: Render
) -> tuple[str, str, str]:
    """Prompt, chosen and rejected as strings.

    Args:
        values: By these names: strings, messages, or None for a prompt that is not there.
        system: A system message that has a column of its own; empty if there is none.
        where: The row, for errors.
        render: Writes messages as text.

    Raises:
        DataError: If the row is not a pair, or it is doubtful where its prompt ends.
    """
    talks = {name for name, value in values.items() if is_list(value) or isinstance(value, Mapping)}
    if not talks:
        for name, value in values.items():
            if not isinstance(value, str) and not (name == "prompt" and value is None):
                raise DataError(
                    f"{where} has a {type(value).__name__} as its {name!r}; it is to be a string, "
                    "or a list of messages {'role': ..., 'content': ...}"
                )
        chosen, rejected = values["chosen"], values["rejected"]
        if not system and values["prompt"] is not None:
            return values["prompt"], chosen, rejected
        if not system:
            size = _shared(chosen, rejected)
            return chosen[:size], chosen[size:], rejected[size:]
        if values["prompt"] is None:
            raise DataError(
                f"{where} has a system message, but no prompt of its own; give it a column 'prompt'"
            )
    messages = {
        name: _messages(value, "user" if name == "prompt" else "assistant", f"{where}: {name!r}")
        for name, value in values.items()
    }
    prompt, chosen, rejected = _turns(messages, where)
    if system and not (prompt and prompt[0]["role"] in _INSTRUCTORS):
        prompt = [{"role": "system", "content": system}, *prompt]
    try:
        first = render(prompt, True) if prompt else ""
        both = [render([*prompt, *said], False) for said in (chosen, rejected)]
    except Exception as error:  # A chat template is a program of its own.
        raise DataError(
            f"{where} cannot be written as text ({type(error).__name__}: {error}); change its "
            "messages into what the tokenizer's chat template takes, or give strings"
        ) from error
    # Some templates write an answer otherwise than they announce it: then less is shared.
    size = _common(first, *both)
    return both[0][:size], both[0][size:], both[1][size:]


def _turns(
    messages: dict[str, list[dict[str, str]]], where: str
) -> tuple[list[dict[str, str]], list[dict[str, str]], list[dict[str, str]]]:
    """The messages of the prompt and of the two answers; a prompt that is repeated stands once."""
    prompt, chosen, rejected = messages["prompt"], messages["chosen"], messages["rejected"]
    size = 0
    while size < min(len(chosen), len(rejected)) - 1 and chosen[size] == rejected[size]:
        size += 1
    shared = chosen[:size]
    # UltraFeedback's messages begin with the prompt that has a column of its own too, maybe after a
    # system message, or without the one that the column has.
    if not prompt or _ends_with(shared, prompt):
        prompt, chosen, rejected = shared, chosen[size:], rejected[size:]
    elif shared and _ends_with(prompt, shared):
        chosen, rejected = chosen[size:], rejected[size:]
    if not chosen or not rejected:
        raise DataError(f"{where} has an empty list of messages; give each side its answer")
    if prompt and any(side[0]["role"] in ("user", *_INSTRUCTORS) for side in (chosen, rejected)):
        raise DataError(
            f"{where}: an answer begins with a turn of the role {chosen[0]['role']!r}, which the "
            "prompt does not end with; the messages of 'chosen' and 'rejected' are the "
            "assistant's answers, with or without the whole prompt before them"
        )
    return prompt, chosen, rejected


def _ends_with(talk: list[dict[str, str]], end: list[dict[str, str]]) -> bool:
    """Whether messages end with other ones, but for white space around their texts."""
    plain = [
        [(message["role"], message["content"].strip()) for message in part] for part in (talk, end)
    ]
    return len(end) <= len(talk) and plain[0][len(talk) - len(end) :] == plain[1]


def _shared(chosen: str, rejected: str) -> int:
    """Where the prompt ends that two texts share, in characters."""
    size = _common(chosen, rejected)
    turn = chosen.rfind(_TURN, 0, size)
    if turn >= 0:
        return turn + len(_TURN)
    # Answers that begin with the same letters are no part of the prompt: whole words are.
    while size > 0 and not (
        chosen[size : size + 1].isspace() and rejected[size : size + 1].isspace()
    ):
        size -= 1
    return size


def _common(*texts: str) -> int:
    """How many characters all texts begin with."""
    columns = zip(*texts, strict=False)
    alike = takewhile(lambda letters: len(set(letters)) == 1, columns)
    return sum(1 for _ in alike)


def is_list(value: Any) -> bool:
    """Whether a value is a list of messages, or ought to be."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _messages(value: Any, role: str, where: str) -> list[dict[str, str]]:
    """A list of messages; a string is one message of a role."""
    if value is None:
        return []
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if isinstance(value, Mapping):  # One message, without a list around it.
        value = [value]
    if not is_list(value):
        raise DataError(f"{where} is a {type(value).__name__}; give a string or a list of messages")
    for number, message in enumerate(value):
        known = isinstance(message, Mapping)
        if not known or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise DataError(
                f"{where}: its message {number} is {str(message)[:60]!r}; a message is "
                "{'role': ..., 'content': ...}, both strings"
            )
    return [{"role": message["role"], "content": message["content"]} for message in value]
