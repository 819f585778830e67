"""Baselines of the summary task, and the mediocre summaries of its documents."""

from __future__ import annotations

import re

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.random_draws import draws, pick
from textgym.tasks.summarize.grammar import (
    DID,
    DONE,
    PEOPLE,
    PLACE,
    PLACES,
    TURNED,
    WHO,
    WHOM,
    Fact,
)
from textgym.tasks.summarize.writer import brief, narrate


def _sentences(row: Row) -> list[str]:
    return re.findall(r" [A-Z][^.]*\.", " " + row["prompt"].split("\n")[1])


def _fitting(sentences: list[str], budget: int) -> str:
    """The sentences that fit in a budget of words, in order."""
    text = ""
    for sentence in sentences:
        if len(text.split()) + len(sentence.split()) <= budget:
            text += sentence
    return text


def lead(row: Row, rng: np.random.Generator) -> str:
    """The first sentences of the story."""
    return _fitting(_sentences(row), row["budget"])


_CHANGES = {
    past for verbs in (DID, DONE, TURNED) for pasts in verbs.values() for past in pasts
}  # fmt: skip


def extract(row: Row, rng: np.random.Generator) -> str:
    """The sentences with a verb that changes the state of a thing, within the budget."""
    return _fitting(
        [text for text in _sentences(row) if _CHANGES.intersection(text[:-1].split())],
        row["budget"],
    )


def mediocre(row: Row, rng: np.random.Generator) -> str:
    """A summary with errors: facts missing, added, swapped or changed, too many words."""
    draw = draws(rng, 160)
    facts: list[Fact] = []
    people = [name for name in PEOPLE if name in row["prompt"]]
    for fact in row["facts"]:
        choice = draw()
        if choice < 0.1:
            continue
        facts.append(fact)
        if choice < 0.2:
            facts[-1] = wrong = list(fact)
            other = [name for name in people if name not in (fact[WHO], fact[WHOM])]
            if fact[PLACE] and draw() < 0.5:
                wrong[PLACE] = pick(PLACES, draw)
            elif other and draw() < 0.7:
                wrong[WHO] = pick(other, draw)
            elif fact[WHOM]:
                wrong[WHO], wrong[WHOM] = fact[WHOM], fact[WHO]
    if len(facts) > 1 and draw() < 0.1:
        number = int(draw() * (len(facts) - 1))
        facts[number : number + 2] = facts[number + 1], facts[number]
    style = draw()
    if style < 0.12 or not facts:
        return lead(row, rng)
    if style < 0.2:
        return extract(row, rng)
    if style < 0.7:
        text = brief(facts)
        if draw() < 0.2:
            text += narrate([pick(row["others"], draw)], 1, draw, 0.2)
        return text
    if draw() < 0.3:
        others = row["others"]
        facts.insert(int(draw() * len(facts)), pick(others, draw))
    return narrate(facts, 3, draw, wordy=0.2)
