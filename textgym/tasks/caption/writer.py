"""Fluent captions of a scene."""

from __future__ import annotations

from collections.abc import Sequence

from textgym.tasks.caption.world import INVERSE, RELATIONS, Object, cell_of
from textgym.tasks.random_draws import Draw, pick

_PHRASES = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above", "above"),
    "below": ("below", "under"),
}

# Names of each cell; the first is the shortest.
_PLACES = (
    ("at the top left", "in the top left corner", "in the upper left"),
    ("at the top", "in the top middle"),
    ("at the top right", "in the top right corner", "in the upper right"),
    ("on the left", "on the left side"),
    ("in the middle", "in the centre"),
    ("on the right", "on the right side"),
    ("at the bottom left", "in the bottom left corner", "in the lower left"),
    ("at the bottom", "in the bottom middle"),
    ("at the bottom right", "in the bottom right corner", "in the lower right"),
)


_ONE: tuple[str, ...] = (
    " There is {a} {at_a}.",
    " {A} is {at_a}.",
    " {At_a}, there is {a}.",
    " {At_a} is {a}.",
    " I see {a} {at_a}.",
    " The picture shows {a} {at_a}.",
    " {A} {at_a}.",
    " There is {a}. It is {at_a}.",
)
_TWO: tuple[str, ...] = (
    " There is {a} {a_b} {b}.",
    " {A} is {a_b} {b}.",
    " {A_b} {b}, there is {a}.",
    " I see {a} {a_b} {b}.",
    " The picture shows {a} {a_b} {b}.",
    " There is {a} and {b} {b_a} it.",
    " There is {a}. {B} is {b_a} it.",
    " {A} is {at_a} and {b} is {at_b}.",
    " There is {a} {at_a} and {b} {at_b}.",
    " {A} {at_a} and {b} {at_b}.",
)
_THREE: tuple[str, ...] = (
    " There is {a} {a_b} {b}. {C} is {c_b} the {the_b}.",
    " {A} is {a_b} {b}. {C} is {c_a} the {the_a}.",
    " {A} is {a_b} {b}, and {c} is {c_b} the {the_b}.",
    " I see {a} {a_b} {b} and {c} {at_c}.",
    " There is {a} {a_b} {b}, and {at_c} is {c}.",
    " {A} is {at_a}, {b} is {at_b} and {c} is {at_c}.",
    " There is {a} {at_a}, {b} {at_b} and {c} {at_c}.",
)
_PAIR: tuple[str, ...] = (
    " There are two {as_} {a_c} {c}.",
    " Two {as_} are {a_c} {c}.",
    " {C} is {c_a} two {as_}.",
    " I see two {as_} and {c} {c_a} them.",
    " There are two {as_}. {C} is {c_a} them.",
    " There is {c} {c_a} two {as_}.",
    " {A_c} {c}, there are two {as_}.",
)


def describe(scene: Sequence[Object], level: int, draw: Draw) -> str:
    """Write a complete caption.

    Args:
        scene: One to three objects. The first two of three, if alike, are described as a pair where
            they have the same relation to the third.
        level: Level 1 leaves out sizes.
        draw: Returns random numbers in [0, 1).
    """
    cells = [cell_of(thing) for thing in scene]
    small = len(cells) > 2  # the token budget has room for short names only
    words: dict[str, str] = {}
    for name, thing, cell in zip("abc", scene, cells, strict=False):
        names = _PLACES[cell]
        kind = f"{thing['colour']} {thing['shape']}"
        words["the_" + name] = kind
        words[name] = f"a {kind}" if level == 1 else f"a {thing['size']} {kind}"
        words["at_" + name] = names[0 if small else int(draw() * len(names))]
    if len(cells) == 1:
        forms = _ONE
    elif len(cells) == 2:
        forms = _TWO
        _relate(words, "a", "b", RELATIONS[cells[0]][cells[1]], draw)
    elif _alike(scene):
        shared = [
            name for name in RELATIONS[cells[0]][cells[2]] if name in RELATIONS[cells[1]][cells[2]]
        ]
        forms = _PAIR if shared else _THREE[-2:]
        words["as_"] = f"{words['a'][2:]}{'es' if words['a'][-1] == 's' else 's'}"
        if shared:
            _relate(words, "a", "c", shared, draw)
    else:
        forms = _THREE
        for one, other in ("ab", "cb", "ca"):
            known = RELATIONS[cells["abc".index(one)]][cells["abc".index(other)]]
            _relate(words, one, other, known, draw)
    for name in list(words):
        text = words[name]
        words[name[0].upper() + name[1:]] = text[0].upper() + text[1:]
    return pick(forms, draw).format_map(words)


def _alike(scene: Sequence[Object]) -> bool:
    return all(scene[0][name] == scene[1][name] for name in ("shape", "colour", "size"))


def _relate(words: dict[str, str], one: str, other: str, known: Sequence[str], draw: Draw) -> None:
    """Add both directions of a relation to the words of a caption."""
    relation = pick(known, draw)
    number = int(draw() * 2)
    words[f"{one}_{other}"] = _PHRASES[relation][number]
    words[f"{other}_{one}"] = _PHRASES[INVERSE[relation]][number]
