"""How a score is composed: points added and deducted, each with its reason.

A task that returns a `Judgement` from `Task.judge` computes its score and its explanation in one
place, so the two always agree: `Task.score` returns `Judgement.score`, and `Task.explain` returns
`Judgement.parts`, whose points add up to the score.
"""

from __future__ import annotations

from typing import NamedTuple

MARKS = frozenset(".,:;!?\n\u3002\uff0c\uff1a\uff1b\uff01\uff1f\u3001")
"""The punctuation marks of `Task.dense_at`; a line break is one."""

_FAULT_WEIGHT = 1.5
_WORDS_PER_FAULT = 8
_CHARACTERS_PER_FAULT = 64


class Part(NamedTuple):
    """One step in the computation of a score.

    Attributes:
        part: The subject: words of the text, or something the text lacks.
        what: The finding: right, wrong, missing or penalized, and why.
        points: Change of the score; 0 for a remark.
    """

    part: str
    what: str
    points: float


class Judgement:
    """A score, and the steps that led to it.

    The score is computed directly and is not the sum of the parts' rounded differences: scaling by
    one half gives exactly one half.

    Attributes:
        score: The current score. Starts at 0.
        parts: The steps so far.

    Example:
        >>> judgement = Judgement().add("the answer", "right", 1.0)
        >>> judgement.scale("the rest", "three words too many", 0.25).score
        0.25
        >>> judgement.parts[-1]
        Part(part='the rest', what='three words too many', points=-0.75)
    """

    __slots__ = ("parts", "score")

    def __init__(self) -> None:
        self.score = 0.0
        self.parts: list[Part] = []

    def add(self, part: str, what: str, points: float) -> Judgement:
        """Add points."""
        self.score += points
        self.parts.append(Part(part, what, points))
        return self

    def note(self, part: str, what: str) -> Judgement:
        """Add a remark, which does not change the score."""
        return self.add(part, what, 0.0)

    def scale(self, part: str, what: str, factor: float) -> Judgement:
        """Multiply the score by a factor. A factor of 1 adds no part."""
        return self.settle(part, what, self.score * factor)

    def settle(self, part: str, what: str, score: float) -> Judgement:
        """Set the score. An unchanged score adds no part."""
        if score != self.score:
            self.parts.append(Part(part, what, score - self.score))
            self.score = score
        return self


def nothing(part: str, what: str) -> Judgement:
    """A judgement of 0 points with one remark."""
    return Judgement().note(part, what)


def quoted(text: str, limit: int = 60) -> str:
    """An excerpt of a text for `Part.part`: quoted, on one line, at most `limit` characters."""
    text = text.strip()
    return repr(text if len(text) <= limit else f"{text[: limit - 3]}...")


def finished(text: str, ends: str = ".!?\n\u3002\uff01\uff1f") -> str:
    """The complete sentences of a text: its beginning, up to the last of some punctuation marks.

    Args:
        text: A text.
        ends: The marks.

    Example:
        >>> finished(" It rains. The sun")
        ' It rains.'
    """
    return text[: 1 + max(map(text.rfind, ends))]


def unreadable(sentence: str) -> int:
    """Number of faults in a sentence that the grammar cannot parse.

    One, plus one per 8 words or 64 characters, whichever is more: longer nonsense costs more, with
    or without spaces.
    """
    words, characters = len(sentence.split(" ")), len(sentence)
    return 1 + max(words // _WORDS_PER_FAULT, characters // _CHARACTERS_PER_FAULT)


def discount(faults: float) -> float:
    """Factor on a score for faults: ``1 / (1 + 1.5 faults)``.

    One fault leaves 0.4 of the score however good the rest of the text is, two leave 0.25. Tasks
    with their own grammar count as faults: unreadable sentences, contradictions and repetitions.
    """
    return 1.0 / (1.0 + _FAULT_WEIGHT * faults)
