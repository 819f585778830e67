"""What junk costs: the discount that the tasks with a grammar of their own share.

A scorer reads a text sentence by sentence and counts faults: what nobody can read, what contradicts
the row or the text itself, what was said before. One fault leaves 0.4 of a score, however good the
rest of the text is, and longer junk is more faults, so that no size of junk is free.
"""

from __future__ import annotations

_WEIGHT = 1.5
_WORDS = 8
_CHARACTERS = 64


def unreadable(sentence: str) -> int:
    """Faults of a sentence that nobody can read.

    One, and one more for every eight words of it, or 64 characters where that is more: junk does
    not have to have spaces.
    """
    return 1 + max(len(sentence.split(" ")) // _WORDS, len(sentence) // _CHARACTERS)


def discount(faults: float) -> float:
    """What is left of a score: ``1 / (1 + 1.5 faults)``, so 0.4 after one fault, 0.25 after two."""
    return 1.0 / (1.0 + _WEIGHT * faults)
