"""Scores the claims of a caption against the scene."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import NamedTuple

from textgym.errors import TaskError
from textgym.tasks.caption.reader import ClaimedObject, Claims
from textgym.tasks.caption.world import GRID, SIZES, Object, cell_of
from textgym.tasks.judgement import Judgement

MAX_OBJECTS = 4
"""The largest scene that is scored: matching tries out all permutations."""
_MAX_SURPLUS = 3
"""Captions that claim more objects than this beyond the scene's are not matched."""

_NEAR = 0.5
"""The worth of "next to", where a side or a place is worth 1."""
_ATTRIBUTES = ("shape", "colour", "size")
_SIZES = {("size", size) for size in SIZES}


class Match(NamedTuple):
    """The best match between a caption and a scene.

    Attributes:
        coverage: The share of the scene that the true claims describe, in [0, 1].
        faults: The number of false or empty claims.
        objects: For each claimed object the index of its object in the scene, or -1.
    """

    coverage: float
    faults: int
    objects: tuple[int, ...]


def match(claims: Claims, scene: Sequence[Object], sizes: bool) -> Match:
    """Match claimed objects one to one with those of the scene, to the caption's best score.

    Args:
        claims: The caption's claims.
        scene: The objects in the picture.
        sizes: Whether sizes count (above level 1); a relation is then as good as a place.

    Raises:
        TaskError: If the scene has more than `MAX_OBJECTS` objects.
    """
    if len(scene) > MAX_OBJECTS:
        raise TaskError(
            f"scene: {len(scene)} objects; at most {MAX_OBJECTS} can be scored: remove some"
        )
    objects = claims.objects
    if not objects or not scene or len(objects) > len(scene) + _MAX_SURPLUS:
        return Match(0.0, 0, ())
    cells = [cell_of(thing) for thing in scene]
    facts = [{(name, thing[name]) for name in _ATTRIBUTES} for thing in scene]
    false = []  # false claims by claimed object and object of the scene
    for attributes, places in objects:
        wrong = [len(attributes - fact) for fact in facts]
        for place in places:
            wrong = [
                count + (cell not in place.cells) for count, cell in zip(wrong, cells, strict=True)
            ]
        false.append(wrong)
    always = claims.faults + sum(total != len(scene) for total in claims.totals)
    if not sizes:
        for fact in facts:
            fact -= _SIZES
    best, result = -1.0, Match(0.0, 0, ())
    for candidate in _candidates(false, len(scene)):
        faults = always
        for number, at in enumerate(candidate):
            # All claims about an object that does not exist are false, and so is its existence.
            attributes, places = objects[number]
            faults += false[number][at] if at >= 0 else max(1, len(attributes) + len(places))
        located = [0.0] * len(objects)
        for one, name, other in claims.relations:
            if one != other and _holds(name, cells, candidate[one], candidate[other]):
                worth = (_NEAR if name == "near" else 1.0) * sizes
                located[one] = max(located[one], worth)
                located[other] = max(located[other], worth)
            else:
                faults += 1
        share = 0.0
        for claimed, at, place_worth in zip(objects, candidate, located, strict=True):
            if at >= 0:
                share += len(claimed.attributes & facts[at])
                share += max(place_worth, _located(claimed, cells[at]))
        share /= len(scene) * (4 if sizes else 3)
        if (value := share * share * 0.5**faults) > best:
            best, result = value, Match(share, faults, candidate)
        if faults == always:
            break  # every claim is true: no other match covers more
    return result


def judge(claims: Claims, scene: Sequence[Object], sizes: bool) -> Judgement:
    """The square of the covered share of a scene, halved for each fault.

    Args:
        claims: The caption's claims.
        scene: The objects in the picture.
        sizes: Whether sizes count.

    Raises:
        TaskError: If the scene has more than `MAX_OBJECTS` objects.
    """
    coverage, faults, matched = match(claims, scene, sizes)
    judgement = Judgement()
    for claimed, at in zip(claims.objects, matched, strict=False):
        words = " ".join(value for _, value in sorted(claimed.attributes, reverse=True))
        words = words or "an object"
        if at < 0:
            judgement.note(words, "there is no other such object")
            continue
        seen = scene[at]
        for name, value in sorted(claimed.attributes):
            if seen[name] != value:
                judgement.note(f"{words}: {name} {value}", f"false: it is {seen[name]}")
        if any(cell_of(seen) not in place.cells for place in claimed.places):
            judgement.note(f"{words}: its place", "false")
    for one, name, other in claims.relations if matched else ():
        cells = [cell_of(thing) for thing in scene]
        if one == other or not _holds(name, cells, matched[one], matched[other]):
            relation = "left of" if name == "left" else name
            judgement.note(f"object {one + 1} {relation} object {other + 1}", "false")
    for total in claims.totals:
        if total != len(scene):
            judgement.note(f"{total} objects", f"false: there are {len(scene)}")
    if claims.faults:
        judgement.note("unreadable or repeated parts", f"{claims.faults} faults")
    for number, seen in enumerate(scene):
        if number not in matched:
            judgement.note(" ".join(str(seen[name]) for name in _ATTRIBUTES[::-1]), "missing")
    judgement.settle("the scene", f"{coverage:.0%} covered (squared)", coverage * coverage)
    return judgement.scale("faults", f"{faults}, each halves the score", 0.5**faults)


def _located(claimed: ClaimedObject, cell: int) -> float:
    """How well the true places identify the cell: 1, or 1/2 if other cells remain possible."""
    common: frozenset[int] | None = None
    for place in claimed.places:
        if cell == place.exact:
            return 1.0
        if cell in place.cells:
            common = place.cells if common is None else common & place.cells
    if common is None:
        return 0.0
    return 1.0 if len(common) == 1 else 0.5


def _candidates(false: list[list[int]], count: int) -> Iterator[tuple[int, ...]]:
    """All matches: for each claimed object the index of its object in the scene, or -1."""
    number = len(false)
    if number > count:
        for chosen in permutations(range(number), count):
            yield tuple(chosen.index(one) if one in chosen else -1 for one in range(number))
        return
    # Matches without a false claim about a single object come first.
    later = []
    for candidate in permutations(range(count), number):
        if any(false[one][at] for one, at in enumerate(candidate)):
            later.append(candidate)
        else:
            yield candidate
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
