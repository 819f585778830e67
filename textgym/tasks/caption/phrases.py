"""The phrases of a caption, such as "a big red circle" and "to the left of".

The kind of a phrase is one letter: N a noun phrase, L a place in the picture, R a relation, T
"there is", I "is", W "which is", P a pronoun, J an adjective, A "and" or a comma, X anything else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from textgym.tasks.caption.world import COLOURS, GRID, SHAPES


class Noun(NamedTuple):
    """The meaning of a noun phrase.

    Attributes:
        definite: It refers to something mentioned before ("the").
        number: How many objects it names.
        attributes: Pairs of ``"shape"``, ``"colour"`` or ``"size"`` and a value.
    """

    definite: bool
    number: int
    attributes: tuple[tuple[str, str], ...]


class Place(NamedTuple):
    """The meaning of a place.

    Attributes:
        cells: The cells for which it is true.
        exact: The cell that has no more precise name ("at the top" is the middle of the top row),
            or -1.
    """

    cells: frozenset[int]
    exact: int


Meaning = Noun | Place | tuple[str, str] | str

_SIZES = dict.fromkeys(("big", "large", "huge"), "big") | dict.fromkeys(
    ("small", "little", "tiny"), "small"
)
_COLOURS = {name: name for name in COLOURS} | {"violet": "purple"}
_SHAPES = {name: name for name in SHAPES} | dict.fromkeys(("disc", "disk", "dot"), "circle")
_SHAPES |= {"rhombus": "diamond", "box": "square", "plus sign": "cross"}
_SHAPES |= dict.fromkeys(("shape", "object", "thing", "figure"), "")
_PLURALS = {name + ("es" if name[-1] in "sx" else "s"): shape for name, shape in _SHAPES.items()}
_NUMBERS = {"a": 1, "an": 1, "one": 1, "another": 1, "two": 2, "three": 3, "four": 4}
_NUMBERS |= {"1": 1, "2": 2, "3": 3, "4": 4}
_ARTICLES = frozenset(("a", "an", "another"))
_DEFINITE = frozenset(("the", "this", "that", "these", "those"))
_ROWS = {"top": 0, "upper": 0, "bottom": 2, "lower": 2}
_COLUMNS = {"left": 0, "right": 2}
_MIDDLE = dict.fromkeys(("middle", "centre", "center"), 1)
_ROWS |= _MIDDLE
_COLUMNS |= _MIDDLE
_SIDES = dict.fromkeys(("above", "over", "top"), "above")
_SIDES |= dict.fromkeys(("below", "under", "beneath", "underneath"), "below")
_SIDES |= dict.fromkeys(("next", "beside", "near", "close"), "near")
_SIDES |= {"left": "left", "right": "right"}


def _any(words: Iterable[str]) -> str:
    """A pattern of alternatives, longest first."""
    return f"(?:{'|'.join(sorted(words, key=len, reverse=True))})"


_AREA = _any({**_ROWS, **_COLUMNS})
_SECOND = rf"(?:(?: |-| (?:, )?(?:in|on|at) the | of the | and (?=left|right)){_AREA})"
_PART = "(?:corner|side|edge|part|half|row|column)"
_SIDE_BY_SIDE = re.compile(rf"\b{_AREA}[ -]{_AREA}\b")
_ADJECTIVE_ALONE = re.compile(rf"\b(?:upper|lower)\b(?![ -]{_any(_COLUMNS)}\b|.*{_PART})")
"""An adjective without its noun, as in "upper in the left" or "at the lower"."""
_ADJECTIVE = _any({**_SIZES, **_COLOURS})
_PICTURE = "(?:the|this) (?:picture|image|grid|scene|frame|drawing)"
_PARTS = {
    "N": rf"(?:{_any(_DEFINITE)} (?:{_any(_NUMBERS.keys() - _ARTICLES)} )?|{_any(_NUMBERS)} )?"
    rf"(?:{_ADJECTIVE} (?:, )?){{0,3}}"
    rf"{_any({**_SHAPES, **_PLURALS})}",
    "R": r"(?:(?:just|right|directly) )?(?:above|over|below|under|beneath|underneath)"
    r"|(?:(?:just|directly) )?(?:(?:to|on|at) (?:the )?)?(?:left|right)(?: side)? of"
    rf"(?! {_PICTURE})"
    rf"|on top of|next to|beside|near(?! the {_AREA})|close to",
    "L": rf"(?:(?:at|in|on|near|to|towards) (?:the )?(?:very )?{_AREA}{_SECOND}?"
    rf"|(?:the )?{_AREA}[ -]{_AREA})"
    rf"(?: hand)?(?: {_PART})?(?: (?:of|in) {_PICTURE})?",
    "T": rf"(?:(?:in|on) {_PICTURE} (?:, )?)?(?:there (?:is|are)(?: also)?"
    r"|(?:i|we|you|one)(?: can)?(?: also)? see"
    rf"|(?:{_PICTURE}|it|this) (?:shows|has|contains)"
    r"|(?:(?:this|it) is )?an? (?:picture|image|drawing) of|(?:this|here) (?:is|are))",
    "W": r"(?:which|that) (?:is|are|sits?|stands?|lies?)",
    "I": r"(?:is|are)(?: located| placed)?|sits?|stands?|lies?",
    "P": "it|they|them",
    "J": _ADJECTIVE,
    "A": "(?:[,;:] )?(?:and|with|while|but)(?: also)?|[,;:]",
}
_KINDS = {kind: re.compile(part) for kind, part in _PARTS.items()}
_PHRASE = re.compile(rf"(?:{'|'.join(_PARTS.values())})(?!\S)|\S+")


def split_phrases(sentence: str) -> list[tuple[str, Meaning]]:
    """Split a sentence into phrases, each with its kind and meaning.

    Args:
        sentence: In lower case, with single spaces, without the full stop.
    """
    for mark in ",;:":
        sentence = sentence.replace(mark, f" {mark}")
    return [_parse(phrase) for phrase in _PHRASE.findall(sentence)]


@lru_cache(maxsize=30_000)
def _parse(phrase: str) -> tuple[str, Meaning]:
    for kind, pattern in _KINDS.items():
        if pattern.fullmatch(phrase):
            parser = _PARSERS.get(kind)
            meaning = parser(phrase) if parser else phrase
            return ("X", phrase) if meaning is None else (kind, meaning)
    return "X", phrase


def _noun(text: str) -> Noun | None:
    """Parse a noun phrase; None if it contradicts itself or its number is wrong."""
    text = text.replace("plus sign", "cross")
    *words, name = text.replace(",", "").split()
    plural = name in _PLURALS
    definite = bool(words) and words[0] in _DEFINITE
    counts = [_NUMBERS[word] for word in words if word in _NUMBERS]
    count = counts[0] if counts else 2 if plural else 1
    colours = [_COLOURS[word] for word in words if word in _COLOURS]
    sizes = [_SIZES[word] for word in words if word in _SIZES]
    if len(colours) > 1 or len(sizes) > 1 or plural != (count > 1):
        return None
    attributes = [("colour", colour) for colour in colours] + [("size", size) for size in sizes]
    shape = _PLURALS[name] if plural else _SHAPES[name]
    return Noun(definite, count, tuple([("shape", shape), *attributes] if shape else attributes))


def _place(text: str) -> Place | None:
    """Parse a place; None if the words name no cell ("the left right")."""
    words = re.findall(rf"\b{_AREA}\b", text)
    if _SIDE_BY_SIDE.search(text) and not (words[0] in _ROWS and words[1] in _COLUMNS):
        return None  # "bottom middle" is English, "middle bottom" is not
    if _ADJECTIVE_ALONE.search(text):
        return None
    line = re.search("row|column", text)
    if len(words) == 2:
        for one, other in (words, words[::-1]):
            if one in _ROWS and other in _COLUMNS:
                cell = _ROWS[one] * GRID + _COLUMNS[other]
                return Place(frozenset((cell,)), cell)
        return None
    [word] = words
    if word in _MIDDLE and not line:
        return Place(frozenset((4,)), 4)
    across = line[0] == "row" if line else word in _ROWS
    if word not in (_ROWS if across else _COLUMNS):
        return None
    if across:
        cells = range(_ROWS[word] * GRID, _ROWS[word] * GRID + GRID)
    else:
        cells = range(_COLUMNS[word], GRID * GRID, GRID)
    return Place(frozenset(cells), -1 if line else cells[1])


def _relation(text: str) -> str | None:
    words = [word for word in text.split(" ") if word in _SIDES]
    return _SIDES[words[-1]] if words else None


def _adjective(text: str) -> tuple[str, str]:
    return ("colour", _COLOURS[text]) if text in _COLOURS else ("size", _SIZES[text])


_PARSERS = {"N": _noun, "L": _place, "R": _relation, "J": _adjective}
