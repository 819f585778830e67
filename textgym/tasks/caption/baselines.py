"""Captions by writers that do not learn."""

from __future__ import annotations

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.caption.world import COLOURS, GRID, SHAPES, SIZES
from textgym.tasks.caption.writer import describe
from textgym.tasks.random_draws import draws, pick

_MISTAKES = {1: 0.4, 2: 0.24, 3: 0.17}
"""The share of attributes that are mistaken, by level: the more there are, the fewer."""


def names(row: Row, *attributes: str) -> str:
    """The objects of the scene with some of their attributes, without places."""
    noun = [] if "shape" in attributes else ["shape"]
    things = [
        " ".join(["a", *(thing[name] for name in attributes), *noun]) for thing in row["scene"]
    ]
    return f" There is {' and '.join(things)}."


def mediocre(row: Row, level: int, rng: np.random.Generator) -> str:
    """A caption of the scene as seen by somebody who mistakes some attributes for others."""
    draw = draws(rng, 64)
    seen = [dict(thing) for thing in row["scene"]]
    cells = {(thing["row"], thing["column"]) for thing in seen}
    for thing in seen:
        for name, options in (("colour", COLOURS), ("shape", SHAPES), ("size", SIZES)):
            if draw() < _MISTAKES[level] and (name != "size" or level > 1):
                thing[name] = pick(options, draw)
        if draw() < _MISTAKES[level]:
            place = int(draw() * GRID), int(draw() * GRID)
            if place not in cells:
                cells.add(place)
                thing["row"], thing["column"] = place
    return describe(seen, level, draw)
