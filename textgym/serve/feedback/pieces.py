"""The words of a text with their offsets, and the words in which two texts differ."""

from __future__ import annotations

import re
from typing import NamedTuple

from rapidfuzz.distance import Indel

# A letter of a script without spaces (Thai to Khmer, Chinese characters, kana), a word, a space,
# or a mark.
_PIECE = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
    r"|\w+|\s+|."
)
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


class Piece(NamedTuple):
    """A word, a space, or a mark.

    Attributes:
        start: Its first character.
        end: The character behind it.
        text: The piece, for people: see :func:`visible`.
        is_space: Whether it is space only.
        differs: Whether it is not part of the other text.
    """

    start: int
    end: int
    text: str
    is_space: bool
    differs: bool = False


def visible(text: str) -> str:
    """Replace characters that a page cannot show, or that reorder others, one by one."""
    return _HIDDEN.sub("\ufffd", text)


def pieces(text: str) -> list[Piece]:
    """Split a text; the pieces are adjacent and cover all of it."""
    return [
        Piece(found.start(), found.end(), visible(found[0]), found[0].isspace())
        for found in _PIECE.finditer(text)
    ]


def compared(first: str, second: str) -> tuple[list[Piece], list[Piece]]:
    """Split two texts, and mark the words outside their longest common subsequence.

    Neighbouring words that are marked alike are one piece.
    """
    sides = pieces(first), pieces(second)
    words = [[piece.text for piece in side if not piece.is_space] for side in sides]
    common: tuple[set[int], set[int]] = set(), set()
    for part in Indel.opcodes(*words):
        if part.tag == "equal":
            common[0].update(range(part.src_start, part.src_end))
            common[1].update(range(part.dest_start, part.dest_end))
    return _marked(sides[0], common[0]), _marked(sides[1], common[1])


def trimmed(side: list[Piece]) -> list[Piece]:
    """Leave out spaces at the ends of a text."""
    start, end = 0, len(side)
    while start < end and side[start].is_space:
        start += 1
    while end > start and side[end - 1].is_space:
        end -= 1
    return side[start:end]


def _marked(side: list[Piece], common: set[int]) -> list[Piece]:
    """Mark the words that are not common, and merge neighbours that are marked alike."""
    marked: list[Piece] = []
    word = 0
    for piece in side:
        differs = False
        if not piece.is_space:
            differs = word not in common
            word += 1
        last = marked[-1] if marked else None
        # A space between two words that differ belongs to the difference.
        if differs and len(marked) > 1 and marked[-2].differs and last and last.is_space:
            marked[-2:] = [_joined(marked[-2], last, True)]
            last = marked[-1]
        if last and last.differs == differs and last.is_space == piece.is_space:
            marked[-1] = _joined(last, piece, differs)
        else:
            marked.append(piece._replace(differs=differs))
    return marked


def _joined(first: Piece, second: Piece, differs: bool) -> Piece:
    return Piece(first.start, second.end, first.text + second.text, first.is_space, differs)
