"""Answers without understanding: the baselines of the knowledge graph task, and its documents."""

from __future__ import annotations

import numpy as np

from textgym.data.rows import Row


def told(path: list[str], answer: str) -> str:
    """A path and an answer in the form of the task."""
    return f"\nPath: {', '.join(path)}. Answer: {answer}."


def _walk(row: Row, path: list[str], luck: list[float], related: bool) -> list[str]:
    """Go on along facts, back and forth, never to where one was before."""
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
    return told(path, path[-1])


def related(row: Row, rng: np.random.Generator) -> str:
    """A walk that prefers the relations which the question needs, in any order and direction."""
    path = _walk(row, [row["start"]], rng.random(4).tolist(), related=True)
    return told(path, path[-1])


def mediocre(row: Row, rng: np.random.Generator) -> str:
    """Now and then the right path and answer; else lapses in either."""
    luck, which, *more = rng.random(6).tolist()
    answer = row["answers"][0]
    text = str(row["reference"])
    right = text.removeprefix("\nPath: ").partition(". Answer: ")[0].split(", ")
    if luck < 0.25:
        return text
    if luck < 0.5:
        # Off the path after some steps.
        path = _walk(row, right[: 1 + int(which * (len(right) - 1))], more, related=more[0] < 0.5)
        return told(path, path[-1])
    if luck < 0.7:
        path = _walk(row, [row["start"]], more, related=False)
        return told(path, path[-1])
    everyone = sorted({name for head, _, tail in row["triples"] for name in (head, tail)})
    other = everyone[int(which * len(everyone))]
    if luck < 0.8:
        return told(right, other)
    if luck < 0.88 and len(right) > 2:
        del right[1 + int(which * (len(right) - 2))]
        return told(right, answer)
    if luck < 0.94:
        return told([*right, other], answer)
    return f"\nAnswer: {answer}."
