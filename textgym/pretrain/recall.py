"""Documents that train in-prompt recall: to copy a text, and to find a value by its key.

Most tasks require a model to find words in its prompt again, which a small model learns suddenly
and late ("induction heads", Olsson et al. 2022). These documents consist of little else, so it
learns this early. They also measure the ability (:func:`recall_accuracy`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from textgym.tasks.words import BOXES, GIVE, MEN, PLACES, THINGS, WOMEN

_NAMES = (*MEN, *WOMEN)
_WORDS = (*PLACES, *THINGS, *BOXES)


class Recall(NamedTuple):
    """A prompt with its only right continuation."""

    prompt: str
    answer: str


def recall_document(rng: np.random.Generator) -> Recall:
    """Sample a document: a list to copy, pairs to look up, or gifts to trace."""
    return _FORMS[int(rng.integers(len(_FORMS)))](rng)


def _choose(rng: np.random.Generator, words: tuple[str, ...], count: int) -> list[str]:
    return [words[index] for index in rng.permutation(len(words))[:count]]


def _copied(rng: np.random.Generator) -> Recall:
    """A list of words, repeated."""
    words = ", ".join(_choose(rng, _NAMES + _WORDS, int(rng.integers(3, 9))))
    return Recall(f"Copy: {words}.\nCopy:", f" {words}.")


def _looked_up(rng: np.random.Generator) -> Recall:
    """Pairs of a name and a thing; the value of a key, or the key of a value."""
    count = int(rng.integers(2, 8))
    names, things = _choose(rng, _NAMES, count), _choose(rng, THINGS, count)
    pairs = "; ".join(f"{name} - {thing}" for name, thing in zip(names, things, strict=True))
    at = int(rng.integers(count))
    key, value = (names, things) if rng.random() < 0.5 else (things, names)
    return Recall(f"Pairs: {pairs}.\nFind {key[at]}:", f" {value[at]}.")


def _placed(rng: np.random.Generator) -> Recall:
    """People in places; who is where, or where somebody is."""
    count = int(rng.integers(2, 6))
    names, places = _choose(rng, _NAMES, count), _choose(rng, PLACES, count)
    lines = [f"{name} is in the {place}." for name, place in zip(names, places, strict=True)]
    at = int(rng.integers(count))
    if rng.random() < 0.5:
        return Recall(f"{' '.join(lines)}\nWhere is {names[at]}?", f" In the {places[at]}.")
    return Recall(f"{' '.join(lines)}\nWho is in the {places[at]}?", f" {names[at]}.")


def _given(rng: np.random.Generator) -> Recall:
    """Gifts from one person to another; one of giver, receiver and gift."""
    count = int(rng.integers(2, 5))
    people, things = _choose(rng, _NAMES, 2 * count), _choose(rng, THINGS, count)
    gifts = list(zip(people[::2], people[1::2], things, strict=True))
    told = " ".join(
        f"{who} {GIVE[int(rng.integers(len(GIVE)))]} the {what} to {whom}."
        for who, whom, what in gifts
    )
    who, whom, what = gifts[int(rng.integers(count))]
    question, answer = (
        (f"Who gave the {what}?", who),
        (f"Who got the {what}?", whom),
        (f"What did {who} give?", f"The {what}"),
        (f"What did {whom} get?", f"The {what}"),
    )[int(rng.integers(4))]
    return Recall(f"{told}\n{question}", f" {answer}.")


_FORMS: tuple[Callable[[np.random.Generator], Recall], ...] = (
    _copied,
    _looked_up,
    _placed,
    _given,
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
    right = [text == document.answer for text, document in zip(written, documents, strict=True)]
    return float(np.mean(right))
