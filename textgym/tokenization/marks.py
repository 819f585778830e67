"""Tokens whose text has one of some characters."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from textgym.errors import TextGymError
from textgym.tokenization.base import Tokenizer

_UNKNOWN = -1


class MarkedTokens:
    """The tokens of a vocabulary whose text has one of some characters.

    A token is decoded when it is first asked for, since vocabularies are large and texts use few of
    their tokens.

    Args:
        tokenizer: The tokenizer.
        marks: The characters.
    """

    def __init__(self, tokenizer: Tokenizer, marks: Collection[str]) -> None:
        self._tokenizer = tokenizer
        self._marks = frozenset(marks)
        self._known = np.full(tokenizer.vocab_size, _UNKNOWN, dtype=np.int8)

    def among(self, tokens: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Whether each of some tokens, ``[S]``, has such a character, or may complete one."""
        for token in set(tokens[self._known[tokens] == _UNKNOWN].tolist()):
            self._known[token] = self._is_marked(token)
        marked: NDArray[np.bool_] = self._known[tokens] == 1
        return marked

    def _is_marked(self, token: int) -> bool:
        try:
            text = self._tokenizer.decode([token])
        except TextGymError:
            return True
        # A token may hold a part of a character's bytes.
        return "\ufffd" in text or not self._marks.isdisjoint(text)
