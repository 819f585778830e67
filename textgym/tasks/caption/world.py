"""Scenes: the objects that a picture can hold, and the geometry of its cells."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
"""An object in a picture: ``shape``, ``colour``, ``size`` and its cell, ``row`` and ``column``."""

SHAPES = ("circle", "square", "triangle", "cross", "diamond")
COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
SIZES = ("small", "big")
GRID = 3
"""Cells per side; row 0 is at the top, column 0 on the left."""

QUESTIONS = (
    "What do you see?",
    "What is in it?",
    "What does it show?",
    "Tell what is where.",
    "Describe it.",
)

SIDES = {"left": (0, -1), "right": (0, 1), "above": (-1, 0), "below": (1, 0)}
"""Relations, each with its unit step (rows, columns)."""
INVERSE = {"left": "right", "right": "left", "above": "below", "below": "above"}


def _directions(a: int, b: int) -> tuple[str, ...]:
    """The relations of cell `a` to cell `b`: along the longer axis, or both axes if equal."""
    rows, columns = a // GRID - b // GRID, a % GRID - b % GRID
    return tuple(
        name
        for name, (down, across) in SIDES.items()
        if rows * down + columns * across == max(abs(rows), abs(columns)) > 0
    )


RELATIONS = [[_directions(a, b) for b in range(GRID**2)] for a in range(GRID**2)]
"""``RELATIONS[a][b]`` holds the relations of cell a to cell b."""

GROUPS = [
    (a, b, c, name)
    for a in range(GRID**2)
    for b in range(a + 1, GRID**2)
    for c in range(GRID**2)
    if c not in (a, b)
    for name in RELATIONS[a][c]
    if name in RELATIONS[b][c]
]
"""``(a, b, c, relation)`` where cells a and b have the same relation to cell c."""


def cell_of(thing: Object) -> int:
    """The index of an object's cell, in row-major order."""
    return int(thing["row"]) * GRID + int(thing["column"])
