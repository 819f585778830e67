"""Documents that train in-prompt recall: to copy a text, and to find a value by its key.

Most tasks require a model to find words in its prompt again, which a small model learns suddenly
and late ("induction heads", Olsson et al. 2022). These documents consist of little else, so it
learns this early. They also measure the ability (:func:`recall_accuracy`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from textgym.tasks.dialogue.world import DOMAINS, HEADERS, PRICES, wish, write_table
from textgym.tasks.words import BOXES, GIVE, MEN, PLACES, THINGS, WOMEN

_NAMES = (*MEN, *WOMEN)
_WORDS = (*PLACES, *THINGS, *BOXES)


class Recall(NamedTuple):
    """A prompt with its only right continuation."""

    prompt: str
    answer: str


class Facts(NamedTuple):
    """A text, and questions that it answers.

    Attributes:
        text: The facts.
        questions: Questions with their only right answers.
    """

    text: str
    questions: list[Recall]


def recall_document(rng: np.random.Generator) -> Recall:
    """Sample facts with one question."""
    facts = _facts(rng)
    question, answer = facts.questions[int(rng.integers(len(facts.questions)))]
    return Recall(f"{facts.text}\n{question}", answer)


def recall_lesson(rng: np.random.Generator, questions: int) -> list[Recall]:
    """Sample facts with several questions, in random order, which are all answered.

    A model learns more from a text with more answers.

    Args:
        rng: The generator.
        questions: Maximum number of questions.

    Returns:
        The facts with the first question, and its answer; the other questions, each on a new line,
        and their answers.
    """
    facts = _facts(rng)
    order = rng.permutation(len(facts.questions))[:questions].tolist()
    starts = [facts.text, *[""] * (len(order) - 1)]
    return [
        Recall(f"{start}\n{facts.questions[index].prompt}", facts.questions[index].answer)
        for start, index in zip(starts, order, strict=True)
    ]


def _facts(rng: np.random.Generator) -> Facts:
    """A list to copy, pairs or rows to look up, people in places, or gifts to trace."""
    return _FORMS[int(rng.integers(len(_FORMS)))](rng)


def _choose(rng: np.random.Generator, words: tuple[str, ...], count: int) -> list[str]:
    return [words[index] for index in rng.permutation(len(words))[:count]]


def _copied(rng: np.random.Generator) -> Facts:
    """A list of words, repeated."""
    words = ", ".join(_choose(rng, _NAMES + _WORDS, int(rng.integers(3, 9))))
    return Facts(f"Copy: {words}.", [Recall("Copy:", f" {words}.")])


def _looked_up(rng: np.random.Generator) -> Facts:
    """Pairs of a name and a thing; the value of a key, or the key of a value."""
    text, pairs = _pairs(rng)
    questions = [Recall(f"Find {name}:", f" {thing}.") for name, thing in pairs]
    questions += [Recall(f"Find {thing}:", f" {name}.") for name, thing in pairs]
    return Facts(text, questions)


def _shuffled(rng: np.random.Generator) -> Facts:
    """Pairs of a name and a thing, again in another order."""
    text, pairs = _pairs(rng)
    return Facts(text, [Recall(f"{name} -", f" {thing};") for name, thing in pairs])


def _pairs(rng: np.random.Generator) -> tuple[str, list[tuple[str, str]]]:
    count = int(rng.integers(2, 8))
    names, things = _choose(rng, _NAMES, count), _choose(rng, THINGS, count)
    pairs = list(zip(names, things, strict=True))
    return f"Pairs: {'; '.join(f'{name} - {thing}' for name, thing in pairs)}.", pairs


def _matched(rng: np.random.Generator) -> Facts:
    """Rows of a name with a thing and a place, which several rows share; the name of both."""
    count = int(rng.integers(2, 5))
    names = _choose(rng, _NAMES, count)
    things, places = _choose(rng, THINGS, 2), _choose(rng, PLACES, 2)
    cells = [(thing, place) for thing in things for place in places]
    chosen = [cells[index] for index in rng.permutation(len(cells))[:count]]
    rows = [(name, *cell) for name, cell in zip(names, chosen, strict=True)]
    text = " ".join(f"{name}, {thing}, {place}." for name, thing, place in rows)
    questions = [Recall(f"Who: {thing}, {place}?", f" {name}.") for name, thing, place in rows]
    questions += [Recall(f"What: {name}?", f" {thing}, {place}.") for name, thing, place in rows]
    return Facts(f"Rows: {text}", questions)


def _offered(rng: np.random.Generator) -> Facts:
    """A table of what can be booked, as in TextGen/Dialogue-v0; the name of what a user wants."""
    domain = DOMAINS[HEADERS[int(rng.integers(len(HEADERS)))]]
    count = int(rng.integers(2, 5))
    names = _choose(rng, WOMEN, count)
    kinds, spots = _choose(rng, domain.kinds, 2), _choose(rng, tuple(domain.spots), 2)
    cells = [(kind, spot) for kind in kinds for spot in spots]
    chosen = [cells[index] for index in rng.permutation(len(cells))[:count]]
    prices = _choose(rng, PRICES, count)
    table = [[name, *cell, price] for name, cell, price in zip(names, chosen, prices, strict=True)]
    questions = []
    for name, kind, spot, _ in table:
        wishes = [(kind, spot)]
        wishes += [(kind, "")] * (sum(cell[0] == kind for cell in chosen) == 1)
        wishes += [("", spot)] * (sum(cell[1] == spot for cell in chosen) == 1)
        questions += [
            Recall(f"User: I want {wish(domain, *each)}.\nAgent: I have booked", f" {name}.")
            for each in wishes
        ]
    return Facts(write_table(domain, table), questions)


def _placed(rng: np.random.Generator) -> Facts:
    """People in places; who is where, or where somebody is."""
    count = int(rng.integers(2, 6))
    names, places = _choose(rng, _NAMES, count), _choose(rng, PLACES, count)
    pairs = list(zip(names, places, strict=True))
    questions = [Recall(f"Where is {name}?", f" In the {place}.") for name, place in pairs]
    questions += [Recall(f"Who is in the {place}?", f" {name}.") for name, place in pairs]
    return Facts(" ".join(f"{name} is in the {place}." for name, place in pairs), questions)


def _given(rng: np.random.Generator) -> Facts:
    """Gifts from one person to another; one of giver, receiver and gift."""
    count = int(rng.integers(2, 5))
    people, things = _choose(rng, _NAMES, 2 * count), _choose(rng, THINGS, count)
    gifts = list(zip(people[::2], people[1::2], things, strict=True))
    told = " ".join(
        f"{who} {GIVE[int(rng.integers(len(GIVE)))]} the {what} to {whom}."
        for who, whom, what in gifts
    )
    questions = []
    for who, whom, what in gifts:
        questions += [
            Recall(f"Who gave the {what}?", f" {who}."),
            Recall(f"Who got the {what}?", f" {whom}."),
            Recall(f"What did {who} give?", f" The {what}."),
            Recall(f"What did {whom} get?", f" The {what}."),
        ]
    return Facts(told, questions)


_FORMS: tuple[Callable[[np.random.Generator], Facts], ...] = (
    _copied,
    _looked_up,
    _matched,
    _offered,
    _placed,
    _given,
    _shuffled,
)


def recall_accuracy(
    complete: Callable[[list[str], int], list[str]], count: int = 256, seed: int = 0
) -> float:
    """The share of recall documents that a model completes exactly.

    Args:
        complete: ``complete(prompts, max_new_tokens)`` returns the completions.
        count: Number of documents.
        seed: Their seed.
    """
    rng = np.random.default_rng(seed)
    documents = [recall_document(rng) for _ in range(count)]
    written = complete([document.prompt for document in documents], 24)
    right = [
        text.partition("\n")[0] == document.answer
        for text, document in zip(written, documents, strict=True)
    ]
    return float(np.mean(right))
