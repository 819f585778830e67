"""Detection of stop strings while text is written token by token.

A stop string may span several tokens, or be a part of one. For tokenizers that decode each token
independently of its context (byte-level BPE), an Aho-Corasick automaton over bytes (Aho and
Corasick 1975, "Efficient string matching: an aid to bibliographic search") is composed with the
vocabulary once, so that a step of the whole batch is one table lookup. If that table would be too
large, the automaton reads the bytes of each token instead. With other tokenizers the text is
decoded at every step, which is slower.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from textgym.errors import SettingsError, shown
from textgym.tokenization import Tokenizer

MAX_STOP_BYTES = 2**17
"""Maximal total length of the stop strings in UTF-8 bytes; the automaton has a state for each."""

# Maximal number of entries of the table over tokens (64 MiB).
MAX_TABLE = 2**24

# Halves of surrogate pairs, which do not occur in valid text.
_SURROGATES = re.compile("[\ud800-\udfff]")


class StopStrings:
    """Detects when the text of a response contains one of some strings.

    Args:
        stops: The stop strings.
        tokenizer: The tokenizer whose tokens make up the text.

    Attributes:
        final: The automaton's state in which a stop string was found; it starts in state 0. None
            without an automaton, because decoding a token depends on its context.
        first_differs: Whether the first token of an empty text decodes differently from the same
            token after other text.

    Raises:
        SettingsError: If a stop string is empty or not a string, or they are too long.
    """

    def __init__(self, stops: Sequence[str], tokenizer: Tokenizer) -> None:
        for stop in stops:
            if not isinstance(stop, str) or not stop or _SURROGATES.search(stop):
                raise SettingsError(
                    f"stop={shown(stop)} is not a stop string; use non-empty Unicode strings"
                )
        self.stops = tuple(stops)
        length = sum(len(stop.encode()) for stop in self.stops)
        if length > MAX_STOP_BYTES:
            raise SettingsError(
                f"stop has {len(self.stops):,} strings of {length:,} bytes in all; the maximum is "
                f"{MAX_STOP_BYTES:,}, so use fewer or shorter ones"
            )
        self.final: int | None = None
        self._table: NDArray[np.int32] | None = None
        self.first_differs = tokenizer.token_bytes is None and tokenizer.appended_bytes is not None
        if self.stops and tokenizer.appended_bytes is not None:
            self._token_bytes = tokenizer.appended_bytes
            self._over_bytes = _automaton([stop.encode() for stop in self.stops])
            states = len(self._over_bytes)
            self.final = states - 1
            if states * tokenizer.vocab_size <= MAX_TABLE:
                self._table = _over_tokens(self._over_bytes, self._token_bytes)

    def __bool__(self) -> bool:
        return bool(self.stops)

    def advance(self, states: NDArray[np.int32], tokens: NDArray[np.intp]) -> NDArray[np.int32]:
        """The automaton's next states ``[n]``; only if there is an automaton.

        Args:
            states: Current states ``[n]``.
            tokens: Token ids ``[n]``.
        """
        if self._table is not None:
            return self._table[states, tokens]
        pieces = [self._token_bytes[token] for token in tokens.tolist()]
        reached = states.copy()
        for column in range(max(map(len, pieces), default=0)):
            having = [row for row, piece in enumerate(pieces) if len(piece) > column]
            reached[having] = self._over_bytes[
                reached[having], [pieces[row][column] for row in having]
            ]
        return reached

    def state_after(self, text: str) -> int:
        """The automaton's state after a text."""
        state = 0
        for byte in text.encode("utf-8", "surrogatepass"):
            state = int(self._over_bytes[state, byte])
        return state

    def found_in(self, text: str) -> bool:
        """Whether a text contains a stop string."""
        return any(stop in text for stop in self.stops)

    def cut(self, text: str) -> str:
        """The text before the first stop string in it."""
        ends = [end for stop in self.stops if (end := text.find(stop)) >= 0]
        return text[: min(ends)] if ends else text


def _automaton(stops: list[bytes]) -> NDArray[np.int32]:
    """The Aho-Corasick automaton over bytes, ``[S, 256]``; the last state is final, absorbing."""
    children: list[dict[int, int]] = [{}]
    final: set[int] = set()
    for stop in stops:
        state = 0
        for byte in stop:
            if byte not in children[state]:
                children[state][byte] = len(children)
                children.append({})
            state = children[state][byte]
        final.add(state)
    table = np.zeros((len(children), 256), dtype=np.int32)
    for byte, child in children[0].items():
        table[0, byte] = child
    # Breadth first, so that a fallback state is complete before it is copied from.
    queue = [(child, 0) for child in children[0].values()]
    for state, fallback in queue:
        if fallback in final:
            final.add(state)
        table[state] = table[fallback]
        for byte, child in children[state].items():
            queue.append((child, int(table[fallback, byte])))
            table[state, byte] = child
    # All final states are merged into one, the last.
    renamed = np.cumsum([state not in final for state in range(len(children))]) - 1
    accept = int(renamed.max()) + 1
    renamed[list(final)] = accept
    merged = np.full((accept + 1, 256), accept, dtype=np.int32)
    for state in range(len(children)):
        if state not in final:
            merged[renamed[state]] = renamed[table[state]]
    return merged


def _over_tokens(automaton: NDArray[np.int32], token_bytes: list[bytes]) -> NDArray[np.int32]:
    """The automaton's state after a whole token, ``[S, V]``."""
    states = len(automaton)
    lengths = np.array([len(piece) for piece in token_bytes])
    order = np.argsort(-lengths, kind="stable")  # Longest first: each byte column is a prefix.
    width = int(lengths.max())
    padded = np.zeros((len(token_bytes), width), dtype=np.intp)
    for row, index in enumerate(order):
        piece = token_bytes[index]
        padded[row, : len(piece)] = list(piece)
    reached = np.repeat(np.arange(states, dtype=np.int32)[:, None], len(token_bytes), axis=1)
    for column in range(width):
        having = int((lengths > column).sum())
        reached[:, :having] = automaton[reached[:, :having], padded[:having, column]]
    table = np.empty_like(reached)
    table[:, order] = reached
    return table
