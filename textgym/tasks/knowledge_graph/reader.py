"""Reads prompts of the knowledge graph task, and walks through graphs.

Nothing here is taken from how `knowledge_graph_writer` makes its questions: the paths are found by
a search through the facts.
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
    """What a prompt asks, in the columns of a row."""

    triples: list[list[str]]
    start: str
    steps: list[list[Any]]
    answers: list[str]


def paths(
    triples: Sequence[Sequence[str]], start: str, steps: Sequence[Sequence[Any]]
) -> list[list[str]]:
    """All ways from the start through the graph by the given steps."""
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
    """How many steps of a path, from its beginning, are the wanted ones and facts."""
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
    """Read a prompt; None if it is of another form, or has no answer."""
    found = _PROMPT.fullmatch(prompt.strip())
    if not found:
        return None
    triples = [list(fact.groups()) for fact in _FACT.finditer(found[1].replace("; ", ";"))]
    asked = _asked(found[3].strip(), found[2] or "")
    if asked is None:
        return None
    start, steps = asked
    answers = list(dict.fromkeys(path[-1] for path in paths(triples, start, steps)))
    return Question(triples, start, steps, answers) if answers else None


def _asked(question: str, rule: str) -> tuple[str, list[list[Any]]] | None:
    if said := _NESTED.fullmatch(question):
        return said[2], _back(said[1])
    if said := _WHERE.fullmatch(question):
        return said[2], [*_back(said[1]), [f"{said[3]}s in", 1]]
    if said := _FOLLOW.fullmatch(question):
        links = re.findall(r"(\w+) is the (\w+ of) (\w)\. ", said[1])
        conditions = [(head, relation, tail) for head, relation, tail in links]
        steps = _route(conditions, links[0][0], said[2])
        return None if steps is None else (links[0][0], steps)
    said = _MISSING.fullmatch(question)
    body, _, head = rule.partition(", then ")
    concluded = _CONDITION.search(head)
    if not said or not concluded or said[2] != concluded[2] or (said[1] == "?") == (said[3] == "?"):
        return None
    conditions = [(one[1], one[2], one[3]) for one in _CONDITION.finditer(body)]
    first, last = concluded[1], concluded[3]
    start = said[1]
    if start == "?":
        first, last, start = last, first, said[3]
    route = _route(conditions, first, last)
    return None if route is None else (start, route)


def _back(phrase: str) -> list[list[Any]]:
    """The steps of "the friend of the mother of", said of somebody."""
    return [[relation, -1] for relation in re.findall(r"the (\w+ of) ", phrase)[::-1]]


def _route(conditions: list[tuple[str, str, str]], first: str, last: str) -> list[list[Any]] | None:
    """The steps from one variable to another, along conditions none of which is used twice."""
    if first == last:
        return []
    for number, (head, relation, tail) in enumerate(conditions):
        rest = conditions[:number] + conditions[number + 1 :]
        for here, there, way in ((head, tail, 1), (tail, head, -1)):
            if here == first and (further := _route(rest, there, last)) is not None:
                return [[relation, way], *further]
    return None
