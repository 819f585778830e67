"""How a score comes about: points given and taken, each with its reason.

A task that judges by a `Judgement` has one computation for the score and for its explanation, so
that the two cannot disagree: `Task.score` returns `Judgement.score`, and `Task.explain` its parts,
whose points add up to that.
"""

from __future__ import annotations

from typing import NamedTuple


class Part(NamedTuple):
    """One step on the way to a score.

    Attributes:
        part: What it is about: words of the text, or something that the text lacks.
        what: What was found: right, wrong, missing, penalised, and why.
        points: What the score gained or lost by it; 0 where it only says why there was no gain.
    """

    part: str
    what: str
    points: float


class Judgement:
    """A score, and the steps by which it was reached.

    The score is the number that the steps' arithmetic gives, not a sum of rounded differences: a
    factor of a half leaves exactly the half.

    Attributes:
        score: The score so far, beginning with 0.
        parts: The steps.

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
        """Add points; with 0 points, a remark."""
        self.score += points
        self.parts.append(Part(part, what, points))
        return self

    def note(self, part: str, what: str) -> Judgement:
        """Add a remark, which changes nothing."""
        return self.add(part, what, 0.0)

    def scale(self, part: str, what: str, factor: float) -> Judgement:
        """Multiply the score; by 1, nothing happened and nothing is said."""
        return self.settle(part, what, self.score * factor)

    def settle(self, part: str, what: str, score: float) -> Judgement:
        """Set the score; to what it is, nothing happened and nothing is said."""
        if score != self.score:
            self.parts.append(Part(part, what, score - self.score))
            self.score = score
        return self


def nothing(part: str, what: str) -> Judgement:
    """A judgement of 0 points."""
    return Judgement().note(part, what)


def quoted(text: str, limit: int = 60) -> str:
    """A piece of a text for a `Part`: in quotation marks, in one line, and shortened."""
    text = text.strip()
    return repr(text if len(text) <= limit else f"{text[: limit - 3]}...")
