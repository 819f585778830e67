"""Baselines that use the examples alone, and the mediocre programs of documents."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.code.interpreter import MAX_LIST, MAX_NUMBER
from textgym.tasks.code.reader import read
from textgym.tasks.code.writer import plan
from textgym.tasks.random_draws import draws

_HEADER = re.compile(r"\ADefine f\(([a-z](?:, [a-z])*)\)\. ")
_EXAMPLE = re.compile(r"^f\((.*)\) = (.+)$", re.MULTILINE)
_PART = re.compile(r"\w+|[<>=!]=|//|\s+|.")

Example = list[Any]
"""The list of arguments, and the result."""


def parameters(prompt: str) -> list[str]:
    """The names of the parameters in a prompt, or an empty list."""
    header = _HEADER.match(prompt)
    return header[1].split(", ") if header else []


def examples(prompt: str) -> list[Example]:
    """The examples in a prompt, ``f(2, [3]) = 5``, as arguments and results."""
    found: list[Example] = []
    for arguments, result in _EXAMPLE.findall(prompt):
        try:
            example = [json.loads(f"[{arguments}]"), json.loads(result)]
        except (ValueError, RecursionError):
            continue
        if all(map(_is_value, [*example[0], example[1]])):
            found.append(example)
    return found


def _is_value(value: Any) -> bool:
    """Whether a value is a valid argument of a program."""
    if value.__class__ is list:
        return len(value) <= MAX_LIST and all(
            number.__class__ is int and _is_value(number) for number in value
        )
    return value.__class__ is int and abs(value) <= MAX_NUMBER


def memorize(row: Row, rng: np.random.Generator) -> str:
    """A program that looks up the examples."""
    names = parameters(row["prompt"])
    (arguments, result), (_, other) = examples(row["prompt"])
    return (
        f"\ndef f({', '.join(names)}): return {result} if {names[0]} == {arguments[0]} else {other}"
    )


def guess(row: Row, rng: np.random.Generator) -> str:
    """A random function of the parameters."""
    names = tuple(parameters(row["prompt"]))
    while True:
        draw = draws(rng, 100)
        one = plan(1 + int(draw() * 3), draw)
        if one.parameters == names:
            return f"\ndef f({', '.join(names)}): {one.body}"


_BASES = {
    "x": ("x", "x * x", "abs(x)"),
    "x, y": ("x + y", "x - y", "x * y", "max(x, y)", "min(x, y)", "abs(x - y)", "x", "y"),
    "a": (
        "sum(a)", "len(a)", "max(a)", "min(a)", "a[0]", "a[-1]",
        "sum([v for v in a if v % 2 == 0])", "sum([v for v in a if v % 2 == 1])",
        "sum([v for v in a if v > 0])", "sum([v for v in a if v < 0])",
        "len([v for v in a if v % 2 == 0])", "len([v for v in a if v % 2 == 1])",
        "len([v for v in a if v > 0])", "len([v for v in a if v < 0])",
    ),
    "a, x": ("sum([v for v in a if v > x])", "len([v for v in a if v > x])"),
    "n": (
        "n", "n * n", "sum(range(n + 1))", "sum(range(0, n + 1, 2))", "sum(range(1, n + 1, 2))",
        "sum(range(0, n + 1, 3))", "sum(range(0, n + 1, 4))", "sum(range(0, n + 1, 5))",
        "sum([v * v for v in range(n + 1)])",
        *[f"{c} * n" for c in range(2, 10)],
        *[f"{c} * sum(range(n + 1))" for c in range(2, 10)],
    ),
}  # fmt: skip


def fit(row: Row, rng: np.random.Generator) -> str:
    """The first of some common functions that satisfies the examples up to a constant."""
    names = ", ".join(parameters(row["prompt"]))
    (arguments, result), (others, other) = examples(row["prompt"])
    program = f"\ndef f({names}): return "
    bases = _BASES.get(names, ())
    if result.__class__ is int:
        for base in bases:
            known = read(program + base).program
            if known is None:
                continue
            one, two = known.run(arguments), known.run(others)
            if one is not None and two is not None and result - one == other - two:
                constant = result - one
                sign = "-" if constant < 0 else "+"
                return f"{program}{base} {sign} {abs(constant)}" if constant else program + base
    return program + (bases[0] if bases else "0")


SUBSTITUTIONS = {
    "max": "min",
    "min": "max",
    "abs": "max",
    "sum": "len",
    "len": "sum",
    "sorted": "list",
    "+": "-",
    "-": "+",
    "*": "+",
    "%": "//",
    "//": "%",
    ">": "<",
    "<": ">",
    ">=": ">",
    "<=": "<",
    "==": "!=",
    "x": "y",
    "y": "x",
    "z": "x",
    "n": "1",
    "not": "",
}


def mediocre(row: Mapping[str, Any], rng: np.random.Generator) -> str:
    """The reference with errors: other numbers and operators, lost or repeated words."""
    reference = str(row["reference"])
    luck, *spots = rng.random(5).tolist()
    if luck < 0.4:
        return reference
    if luck < 0.43:
        return guess(dict(row), rng)
    if luck < 0.46:
        return memorize(dict(row), rng)
    head, _, body = reference.partition(":")
    parts = _PART.findall(body)
    at = int(spots[0] * len(parts))
    if luck < 0.51:
        del parts[at]
    elif luck < 0.55:
        parts += [" ", *parts[at:]]
    else:
        wrong = 1 + (luck > 0.9)
        places = [i for i, part in enumerate(parts) if part.isdigit() or part in SUBSTITUTIONS]
        for spot in spots[:wrong] if places else []:
            place = places[int(spot * len(places))]
            part = parts[place]
            number = str(int(1 + spots[3] * 9))
            parts[place] = number if part.isdigit() else SUBSTITUTIONS.get(part, part)
    return f"{head}:{''.join(parts)}"
