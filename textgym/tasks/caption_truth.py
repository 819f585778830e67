"""Compares what a caption claims with what the picture shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

from textgym.errors import TaskError
from textgym.tasks.caption_reader import Reading, Thing
from textgym.tasks.caption_scene import GRID, SIZES, Object, cell_of

MOST = 4
"""Things in the fullest scene that is judged: how to match them is tried out."""
_TOO_MANY = 3
"""So many things more than there are, and no match is looked for."""

_NEAR = 0.5
"""What it is worth to say beside what a thing is, where a side or a place is worth 1."""
_LOOKS = ("shape", "colour", "size")
_SIZES = {("size", size) for size in SIZES}


def judge(reading: Reading, scene: Sequence[Object], sizes: bool) -> tuple[float, int]:
    """How much of a scene the true claims tell, and how many claims are false.

    The things of the caption are matched with those of the scene, each with another one, in the way
    that is best for the caption.

    Args:
        reading: The caption.
        scene: What the picture shows.
        sizes: Whether sizes are to be told (above level 1); a relation is as good as a place then.

    Returns:
        The share told, in [0, 1]; the falsehoods.

    Raises:
        TaskError: If the scene has more than `MOST` things.
    """
    if len(scene) > MOST:
        raise TaskError(f"a scene has up to {MOST} things, this one has {len(scene)}: draw fewer")
    things, relations = reading.things, reading.relations
    if not things or not scene or len(things) > len(scene) + _TOO_MANY:
        return 0.0, 0
    cells = [cell_of(thing) for thing in scene]
    facts = [{(name, thing[name]) for name in _LOOKS} for thing in scene]
    false = []
    for looks, places in things:
        wrong = [len(looks - fact) for fact in facts]
        for where in places:
            wrong = [
                count + (cell not in where.cells) for count, cell in zip(wrong, cells, strict=True)
            ]
        false.append(wrong)
    slips = reading.slips
    for total in reading.totals:
        slips += total != len(scene)
    if not sizes:
        for fact in facts:
            fact -= _SIZES
    best, told, faults = -1.0, 0.0, 0
    for match in _matches(false, len(scene)):
        wrong_here = slips
        for number, at in enumerate(match):
            # What is said of a thing that is not there is false, and so is that it is there.
            looks, places = things[number]
            wrong_here += false[number][at] if at >= 0 else max(1, len(looks) + len(places))
        placed = [0.0] * len(things)
        for one, name, other in relations:
            if one != other and _holds(name, cells, match[one], match[other]):
                worth = (_NEAR if name == "near" else 1.0) * sizes
                placed[one] = max(placed[one], worth)
                placed[other] = max(placed[other], worth)
            else:
                wrong_here += 1
        share = 0.0
        for thing, at, place in zip(things, match, placed, strict=True):
            if at >= 0:
                share += len(thing.looks & facts[at]) + max(place, _placed(thing, cells[at]))
        share /= len(scene) * (4 if sizes else 3)
        if (value := share * share * 0.5**wrong_here) > best:
            best, told, faults = value, share, wrong_here
        if wrong_here == slips:
            break  # all is true: no other match tells more
    return told, faults


def _placed(thing: Thing, cell: int) -> float:
    """How well the true ones of the places tell the cell: 1, or 1/2 if they leave others."""
    where: frozenset[int] | None = None
    for place in thing.places:
        if cell == place.exact:
            return 1.0
        if cell in place.cells:
            where = place.cells if where is None else where & place.cells
    if where is None:
        return 0.0
    return 1.0 if len(where) == 1 else 0.5


def _matches(false: list[list[int]], count: int) -> Iterator[tuple[int, ...]]:
    """For each way to match: the number of the scene's thing, or -1, by the caption's things."""
    number = len(false)
    if number > count:
        for chosen in permutations(range(number), count):
            yield tuple(chosen.index(thing) if thing in chosen else -1 for thing in range(number))
        return
    # The likely ones first: those of which all that is said of single things is true.
    later = []
    for match in permutations(range(count), number):
        if any(false[thing][at] for thing, at in enumerate(match)):
            later.append(match)
        else:
            yield match
    yield from later


def _holds(name: str, cells: list[int], one: int, other: int) -> bool:
    if one < 0 or other < 0:
        return False
    down = cells[other] // GRID - cells[one] // GRID
    across = cells[other] % GRID - cells[one] % GRID
    if name == "left":
        return across > 0
    if name == "above":
        return down > 0
    return max(abs(down), abs(across)) == 1
