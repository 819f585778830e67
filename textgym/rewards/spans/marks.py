"""Marked parts of texts: of characters, and of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textgym.errors import DataError


@dataclass(frozen=True)
class MarkedText:
    """A text with marked parts.

    Attributes:
        prompt: The prompt.
        text: The completion.
        spans: Parts as ``(start, end, sign)``: from character `start` of the text to before `end`;
            the sign is 1 for a good part and -1 for a bad one. They do not overlap.
    """

    prompt: str
    text: str
    spans: Sequence[tuple[int, int, int]]

    @staticmethod
    def of_rows(rows: Iterable[dict[str, Any]]) -> list[MarkedText]:
        """Read rows with ``prompt``, ``text`` and ``spans``, such as ``Store.spans`` returns."""
        return [
            MarkedText(row["prompt"], row["text"], [(a, b, sign) for a, b, sign in row["spans"]])
            for row in rows
        ]


def token_marks(
    text: str, ends: NDArray[np.int64], spans: Iterable[Sequence[int]]
) -> NDArray[np.float64]:
    """Map marked characters to tokens.

    A token has the sign of the parts that contain at least half of its characters. White space
    counts only in tokens of nothing else, because a token usually includes the space before its
    word.

    Args:
        text: The text.
        ends: ``[n]``, where each token ends, in characters
            (:func:`textgym.rewards.preferences.features.character_ends`).
        spans: Parts ``(start, end, sign)``.

    Returns:
        ``[n]`` float64: 1, -1, or 0 without a mark.

    Raises:
        DataError: If a part is not within the text.
    """
    marks = np.zeros(len(text))
    for start, end, sign in spans:
        if not 0 <= start < end <= len(text) or sign not in (1, -1):
            raise DataError(
                f"the span {[start, end, sign]} must be [start, end, 1 or -1] within the "
                f"{len(text)} characters of {text!r:.60}"
            )
        marks[start:end] = sign
    found = np.zeros(len(ends))
    start = 0
    for token, end in enumerate(ends.tolist()):
        # A token that adds no character is a further byte of the character before.
        inside = range(start if end > start else max(0, end - 1), end)
        letters = [at for at in inside if not text[at].isspace()] or list(inside)
        if letters:
            total = float(marks[letters].sum())
            found[token] = np.sign(total) * (2 * abs(total) >= len(letters))
        start = end
    return found
