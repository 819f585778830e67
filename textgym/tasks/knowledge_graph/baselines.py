"""Baselines that walk through the graph, and the mediocre completions of documents."""

from __future__ import annotations

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.knowledge_graph.writer import completion


def _walk(row: Row, path: list[str], luck: list[float], related: bool) -> list[str]:
    """Extend a path along facts in either direction, without repetition."""
    wanted = {relation for relation, _ in row["steps"]}
    path = list(path)
    while len(path) <= len(row["steps"]):
        here = path[-1]
        ways = [
            (relation, tail if head == here else head)
            for head, relation, tail in row["triples"]
            if here in (head, tail) and (tail if head == here else head) not in path
        ]
        if related:
            ways = [way for way in ways if way[0] in wanted] or ways
        if not ways:
            break
        path.append(ways[int(luck[len(path) % len(luck)] * len(ways))][1])
    return path


def wander(row: Row, rng: np.random.Generator) -> str:
    """A walk from the start along any facts."""
    path = _walk(row, [row["start"]], rng.random(4).tolist(), related=False)
    return completion(path, path[-1])


def related(row: Row, rng: np.random.Generator) -> str:
    """A walk that prefers the relations of the question, in any order and direction."""
    path = _walk(row, [row["start"]], rng.random(4).tolist(), related=True)
    return completion(path, path[-1])


def mediocre(row: Row, rng: np.random.Generator) -> str:
    """The right completion in a quarter of the calls; otherwise a wrong path or answer."""
    luck, which, *more = rng.random(6).tolist()
    answer = row["answers"][0]
    text = str(row["reference"])
    right = text.removeprefix("\nPath: ").partition(". Answer: ")[0].split(", ")
    if luck < 0.25:
        return text
    if luck < 0.5:
        # The path is left after some steps.
        path = _walk(row, right[: 1 + int(which * (len(right) - 1))], more, related=more[0] < 0.5)
        return completion(path, path[-1])
    if luck < 0.7:
        path = _walk(row, [row["start"]], more, related=False)
        return completion(path, path[-1])
    everyone = sorted({name for head, _, tail in row["triples"] for name in (head, tail)})
    other = everyone[int(which * len(everyone))]
    if luck < 0.8:
        return completion(right, other)
    if luck < 0.88 and len(right) > 2:
        del right[1 + int(which * (len(right) - 2))]
        return completion(right, answer)
    if luck < 0.94:
        return completion([*right, other], answer)
    return f"\nAnswer: {answer}."
