"""Public questions over knowledge graphs: conversion of their rows, and their scorer."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from textgym.data.literals import from_array
from textgym.rewards.metrics.normalize import normalize
from textgym.tasks.judgement import Judgement, nothing, quoted
from textgym.tasks.qa.public import IGNORED, answers_of

_GRAPHS = ("triples", "graph", "facts", "subgraph", "kg")
_ANSWERS = ("answers", "answer", "a_entity")
_TOPICS = ("q_entity", "topic_entity", "topic")
_MOST_FACTS = 16
_MAX_CHARACTERS = 4_000
"""Longer texts score 0."""
_TURN = re.compile(r"\.\s+Answer:")

_Triple = list[str]


def convert(row: dict[str, Any]) -> dict[str, Any]:
    """Add a prompt, a reference and answers to a row of public data; return others unchanged."""
    question = row.get("question")
    if "prompt" in row or not isinstance(question, str):
        return row
    name = next((name for name in _ANSWERS if name in row), None)
    answers = None if name is None else answers_of(row[name])
    if not answers:
        return row
    if len(answers) == 1 and isinstance(row.get(str(name)), str):
        answers = list(dict.fromkeys(one.strip() for one in answers[0].split("|")))
    graph = next((row[name] for name in _GRAPHS if row.get(name) is not None), None)
    triples = [] if graph is None else _triples(graph)
    topics = _topics(row, question, triples)
    path = _shortest(triples, topics, {normalize(answer, IGNORED) for answer in answers})
    facts = _near(triples, path or topics)
    asked = re.sub(r"\[([^\]]*)\]", r"\1", question).strip()
    if not asked.endswith("?"):
        asked += "?"
    prompt = f"Question: {asked}"
    if facts:
        prompt = f"Facts: {'; '.join(' - '.join(fact) for fact in facts)}.\n{prompt}"
    # Names that contain the separators of the format make a path ambiguous.
    if any(", " in name or ". " in name for name in path):
        path = []
    reference = f"Answer: {'; '.join(answers).removesuffix('.')}."
    reference = f"\nPath: {', '.join(path)}. {reference}" if path else f"\n{reference}"
    made: dict[str, Any] = {
        "prompt": prompt,
        "reference": reference,
        "answers": answers,
        "triples": facts,
        "start": path[0] if path else "",
        "hops": len(path) - 1 if path else 0,
    }
    return {key: value for key, value in row.items() if key not in _GRAPHS} | made


def _triples(graph: Any) -> list[_Triple]:
    """The facts of a list of triples, or of a text with "|" or " - " between their parts."""
    graph = from_array(graph)
    if isinstance(graph, str):
        graph = re.split(r"[\n;]", graph)
    found: dict[tuple[str, ...], None] = {}
    for fact in graph if isinstance(graph, Sequence) else ():
        fact = from_array(fact)
        if isinstance(fact, str):
            fact = fact.split("|") if "|" in fact else fact.split(" - ")
        elif isinstance(fact, Mapping):
            fact = list(fact.values())
        if isinstance(fact, Sequence) and len(fact) == 3:
            found[tuple(str(part).strip() for part in fact)] = None
    return [list(fact) for fact in found]


def _topics(row: Mapping[str, Any], question: str, triples: list[_Triple]) -> list[str]:
    """The entities that the question starts from."""
    for name in _TOPICS:
        if topics := answers_of(row.get(name)):
            return topics
    if marked := re.findall(r"\[([^\]]+)\]", question):
        return marked
    names = {name for head, _, tail in triples for name in (head, tail)}
    named = [name for name in names if name and name in question]
    return sorted(named, key=lambda name: (-len(name), name))[:1]


def _shortest(triples: list[_Triple], topics: list[str], answers: set[str]) -> list[str]:
    """A shortest path from a topic to an answer along facts in any direction, or empty."""
    near: dict[str, list[str]] = {}
    for head, _, tail in triples:
        near.setdefault(head, []).append(tail)
        near.setdefault(tail, []).append(head)
    before = {topic: "" for topic in topics if topic in near}
    agenda = deque(before)
    while agenda:
        here = agenda.popleft()
        if here not in topics and normalize(here, IGNORED) in answers:
            path = [here]
            while before[path[-1]]:
                path.append(before[path[-1]])
            return path[::-1]
        for there in near[here]:
            if there not in before:
                before[there] = here
                agenda.append(there)
    return []


def _near(triples: list[_Triple], names: list[str]) -> list[_Triple]:
    """Facts for the prompt: first links between the names, then links to others, then the rest."""
    known = set(names)
    links = {link for pair in pairwise(names) for link in (pair, pair[::-1])}

    def distance(fact: _Triple) -> int:
        return 0 if (fact[0], fact[2]) in links else 2 - (fact[0] in known or fact[2] in known)

    chosen = sorted(range(len(triples)), key=lambda number: distance(triples[number]))
    return [triples[number] for number in sorted(chosen[:_MOST_FACTS])]


def parse(text: str) -> tuple[list[str], str]:
    """The path and the answer of a text: ``Path: A, B. Answer: B.`` or only the answer."""
    text = text.strip()
    path: list[str] = []
    if text.startswith("Path:"):
        way, *rest = _TURN.split(text.removeprefix("Path:"), 1)
        path = re.split(r",\s+", way.strip())
        text = "".join(rest)
    return path, text.removeprefix("Answer:").strip().removesuffix(".")


def judge_public(completion: str, row: Mapping[str, Any], answers: Sequence[str]) -> Judgement:
    """F1 of the set of answers; half of it is for a path to one of them, where one exists."""
    if len(completion) > _MAX_CHARACTERS:
        return nothing("the text", f"longer than {_MAX_CHARACTERS} characters")
    path, answer = parse(completion)
    wanted = {normalize(one, IGNORED) for one in answers} - {""}
    listed = _listed(answer, wanted)
    found = len(wanted & set(listed))
    if not found:
        return nothing(quoted(answer), "not an answer")
    f1 = 2 * found / (len(listed) + len(wanted))
    what = f"right, of {len(listed)} listed: F1"
    judgement = Judgement().add(f"{found} of {len(wanted)} answers", what, f1)
    hops = row.get("hops")
    if not isinstance(hops, int) or not hops or not row.get("triples"):
        return judgement
    validity = _validity(path, row, wanted, hops)
    return judgement.scale("the path", f"{validity:.2f} of it is right", 0.5 + 0.5 * validity)


def _listed(text: str, wanted: set[str]) -> list[str]:
    """The normalised items of a list; a right answer is not divided at its own punctuation."""
    whole = normalize(text, IGNORED)
    if whole in wanted:
        return [whole]
    parts = re.split(r"[;|\n]", text)
    if len(parts) == 1:
        parts = re.split(r", (?:and )?| and ", text)
    return [one for part in parts if (one := normalize(part, IGNORED))]


def _validity(path: list[str], row: Mapping[str, Any], wanted: set[str], hops: int) -> float:
    """1 for a shortest path along facts to an answer, less for a longer or invalid one."""
    if not path or path[0] != row.get("start"):
        return 0.0
    links = {(head, tail) for head, _, tail in row["triples"]}
    steps = list(pairwise(path))
    good = 0
    for here, there in steps:
        if (here, there) not in links and (there, here) not in links:
            break
        good += 1
    if good and good == len(steps) and normalize(path[-1], IGNORED) in wanted:
        return min(1.0, hops / good)
    return 0.5 * min(good, hops) / max(hops, len(steps))
