"""Parses prompts, and searches graphs for paths.

It shares no code with the writer: paths are found by a search through the facts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

_FACT = re.compile(r"([^;]+?) - ([^;]+?) - ([^;]+)")
_CONDITION = re.compile(r"([XYZW]) - ([\w ]+?) - ([XYZW])")
_PROMPT = re.compile(r"Facts: ([^\n]*?)\.?\n(?:Rule: ([^\n]*)\n)?Question: ([^\n]*)")
_NESTED = re.compile(r"Who is ((?:the \w+ of )+)(\w+)\?")
_WHERE = re.compile(r"Where does ((?:the \w+ of )*)(\w+) (live|work)\?")
_FOLLOW = re.compile(r"((?:\w+ is the \w+ of [XYZW]\. )+)Who is ([XYZW])\?")
_MISSING = re.compile(r"(\w+|\?) - ([\w ]+?) - (\w+|\?)\.?")


class Question(NamedTuple):
    """A prompt's question in the columns of a row."""

    triples: list[list[str]]
    start: str
    steps: list[list[Any]]
    answers: list[str]


def paths(
    triples: Sequence[Sequence[str]], start: str, steps: Sequence[Sequence[Any]]
) -> list[list[str]]:
    """All paths from the start along the given steps."""
    found = [[start]]
    for relation, way in steps:
        found = [
            [*path, there]
            for path in found
            for head, name, tail in triples
            for here, there in [(head, tail) if way == 1 else (tail, head)]
            if name == relation and here == path[-1]
        ]
    return found


def valid_steps(
    path: Sequence[str],
    triples: Sequence[Sequence[str]],
    start: str,
    steps: Sequence[Sequence[Any]],
) -> int:
    """The number of leading steps of a path that are facts and the given steps."""
    if path[0] != start:
        return 0
    for number, (relation, way) in enumerate(steps):
        if number + 1 == len(path):
            return number
        here, there = path[number], path[number + 1]
        if ([here, relation, there] if way == 1 else [there, relation, here]) not in triples:
            return number
    return len(steps)


def read(prompt: str) -> Question | None:
    """Read a prompt; None if it has another form or no answer."""
    found = _PROMPT.fullmatch(prompt.strip())
    if not found:
        return None
    triples = [list(fact.groups()) for fact in _FACT.finditer(found[1].replace("; ", ";"))]
    route = _route_of(found[3].strip(), found[2] or "")
    if route is None:
        return None
    start, steps = route
    answers = list(dict.fromkeys(path[-1] for path in paths(triples, start, steps)))
    return Question(triples, start, steps, answers) if answers else None


def _route_of(question: str, rule: str) -> tuple[str, list[list[Any]]] | None:
    """The start and the steps that a question asks for."""
    if found := _NESTED.fullmatch(question):
        return found[2], _backwards(found[1])
    if found := _WHERE.fullmatch(question):
        return found[2], [*_backwards(found[1]), [f"{found[3]}s in", 1]]
    if found := _FOLLOW.fullmatch(question):
        links = re.findall(r"(\w+) is the (\w+ of) (\w)\. ", found[1])
        steps = _route(links, links[0][0], found[2])
        return None if steps is None else (links[0][0], steps)
    found = _MISSING.fullmatch(question)
    body, _, head = rule.partition(", then ")
    implied = _CONDITION.search(head)
    if not found or not implied or found[2] != implied[2] or (found[1] == "?") == (found[3] == "?"):
        return None
    conditions = [(one[1], one[2], one[3]) for one in _CONDITION.finditer(body)]
    first, last = implied[1], implied[3]
    start = found[1]
    if start == "?":
        first, last, start = last, first, found[3]
    route = _route(conditions, first, last)
    return None if route is None else (start, route)


def _backwards(phrase: str) -> list[list[Any]]:
    """The steps of a phrase such as "the friend of the mother of"."""
    return [[relation, -1] for relation in re.findall(r"the (\w+ of) ", phrase)[::-1]]


def _route(conditions: list[tuple[str, str, str]], first: str, last: str) -> list[list[Any]] | None:
    """The steps from one variable to another, using each condition at most once."""
    if first == last:
        return []
    for number, (head, relation, tail) in enumerate(conditions):
        rest = conditions[:number] + conditions[number + 1 :]
        for here, there, way in ((head, tail, 1), (tail, head, -1)):
            if here == first and (further := _route(rest, there, last)) is not None:
                return [[relation, way], *further]
    return None
