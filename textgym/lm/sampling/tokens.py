"""Tokens in settings, given by id or by string."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

from textgym.errors import SettingsError, near_matches
from textgym.tokenization import Tokenizer


def token_list(name: str, tokens: Any) -> tuple[int | str, ...]:
    """Check that a setting is a list of token ids and strings.

    Args:
        name: The name of the setting, for error messages.
        tokens: Its value: a list, tuple or set.

    Raises:
        SettingsError: If it is not such a list.
    """
    if isinstance(tokens, (str, bytes)) or not isinstance(tokens, (Sequence, set, frozenset)):
        raise SettingsError(
            f"{name}={tokens!r} must be a list of token ids or strings, such as [{tokens!r}]"
        )
    given: list[Any] = list(tokens)
    for token in given:
        if isinstance(token, bool) or not isinstance(token, (str, numbers.Integral)):
            raise SettingsError(f"{name} has {token!r}, which is neither a token id nor a string")
    return tuple(token if isinstance(token, str) else int(token) for token in given)


def token_ids(name: str, tokens: Sequence[int | str], tokenizer: Tokenizer) -> tuple[int, ...]:
    """The ids of tokens given as ids or strings, ascending.

    Args:
        name: The name of the setting, for error messages.
        tokens: Ids, strings of the vocabulary, or texts that are a single token.
        tokenizer: The tokenizer.

    Raises:
        SettingsError: If one is not a token.
    """
    size = tokenizer.vocab_size
    strings = any(isinstance(token, str) for token in tokens)
    vocabulary = {tokenizer.token(index): index for index in range(size)} if strings else {}
    vocabulary.pop("", None)  # A hole in the vocabulary.
    found = set()
    for token in tokens:
        if isinstance(token, str):
            index = vocabulary.get(token)
            if index is None:
                index = _single_token(token, tokenizer)
            if index is None:
                raise SettingsError(
                    f"{name} has {token!r}, which is not a token of {tokenizer.name!r}"
                    f"{near_matches(token, vocabulary)}; give an id, a string of the vocabulary, "
                    "or a text that is a single token"
                )
        else:
            index = token
            if not 0 <= index < size:
                raise SettingsError(
                    f"{name} has the id {index}, but the ids of {tokenizer.name!r} are 0 to "
                    f"{size - 1}"
                )
        found.add(index)
    return tuple(sorted(found))


def _single_token(text: str, tokenizer: Tokenizer) -> int | None:
    try:
        ids = tokenizer.encode(text)
    except Exception:  # tokenizers raises bare Exception for texts outside the vocabulary.
        return None
    # The unknown token encodes many texts.
    return ids[0] if len(ids) == 1 and tokenizer.decode(ids) == text else None
