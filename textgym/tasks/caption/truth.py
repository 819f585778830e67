"""Compares what a caption claims with what the picture shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import NamedTuple

from textgym.errors import TaskError
from textgym.tasks.caption.reader import Reading, Thing
from textgym.tasks.caption.world import GRID, SIZES, Object, cell_of
from textgym.tasks.judgement import Judgement

MOST = 4
"""Things in the fullest scene that is judged: how to match them is tried out."""
_TOO_MANY = 3
"""So many things more than there are, and no match is looked for."""

_NEAR = 0.5
"""What it is worth to say beside what a thing is, where a side or a place is worth 1."""
_LOOKS = ("shape", "colour", "size")
_SIZES = {("size", size) for size in SIZES}


class Truth(NamedTuple):
    """What is true of a caption.

    Attributes:
        told: The share of the scene that its true claims tell, in [0, 1].
        faults: How many of its claims are false.
        match: The number of the scene's thing, or -1, by the things of the caption.
    """

    told: float
    faults: int
    match: tuple[int, ...]


def compare(reading: Reading, scene: Sequence[Object], sizes: bool) -> Truth:
    """How much of a scene the true claims tell, and how many claims are false.

    The things of the caption are matched with those of the scene, each with another one, in the way
    that is best for the caption.

    Args:
        reading: The caption.
        scene: What the picture shows.
        sizes: Whether sizes are to be told (above level 1); a relation is as good as a place then.

    Raises:
        TaskError: If the scene has more than `MOST` things.
    """
    if len(scene) > MOST:
        raise TaskError(f"a scene has up to {MOST} things, this one has {len(scene)}: draw fewer")
    things, relations = reading.things, reading.relations
    if not things or not scene or len(things) > len(scene) + _TOO_MANY:
        return Truth(0.0, 0, ())
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
    best, truth = -1.0, Truth(0.0, 0, ())
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
            best, truth = value, Truth(share, wrong_here, match)
        if wrong_here == slips:
            break  # all is true: no other match tells more
    return truth


def judge(reading: Reading, scene: Sequence[Object], sizes: bool) -> Judgement:
    """The square of the share of a scene that is told, halved for each false claim.

    Args:
        reading: The caption.
        scene: What the picture shows.
        sizes: Whether sizes are to be told.

    Raises:
        TaskError: If the scene has more than `MOST` things.
    """
    told, faults, match = compare(reading, scene, sizes)
    judgement = Judgement()
    for thing, at in zip(reading.things, match, strict=False):
        looks = " ".join(value for _, value in sorted(thing.looks, reverse=True)) or "a thing"
        if at < 0:
            judgement.note(looks, "there is no other such thing")
            continue
        seen = scene[at]
        for name, value in sorted(thing.looks):
            if seen[name] != value:
                judgement.note(f"{looks}: {name} {value}", f"false: it is {seen[name]}")
        if any(cell_of(seen) not in place.cells for place in thing.places):
            judgement.note(f"{looks}: its place", "false")
    for one, name, other in reading.relations if match else ():
        cells = [cell_of(thing) for thing in scene]
        if one == other or not _holds(name, cells, match[one], match[other]):
            how = "left of" if name == "left" else name
            judgement.note(f"thing {one + 1} {how} thing {other + 1}", "false")
    for total in reading.totals:
        if total != len(scene):
            judgement.note(f"{total} things", f"false: there are {len(scene)}")
    if reading.slips:
        judgement.note("what cannot be read or says nothing new", f"{reading.slips} faults")
    for number, seen in enumerate(scene):
        if number not in match:
            judgement.note(" ".join(str(seen[name]) for name in _LOOKS[::-1]), "missing")
    judgement.settle("the scene", f"{told:.0%} of it is told (squared)", told * told)
    return judgement.scale("faults", f"{faults} of them, each halves the rest", 0.5**faults)


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
