"""Baselines that match words, and the mediocre answers of documents."""

from __future__ import annotations

import re

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.qa.answers import ABSTENTIONS, KINDS, completion_of
from textgym.tasks.qa.world import NAMES, NUMBERS
from textgym.tasks.words import PLACES, THINGS

_WORD = re.compile(r"\w+")
_NAMES, _PLACES, _THINGS = frozenset(NAMES), frozenset(PLACES), frozenset(THINGS)
_SORTS = {
    "where": _PLACES,
    "was": _PLACES,
    "holds": _THINGS,
    "gift": _THINGS,
    "has": _NAMES,
    "giver": _NAMES,
    "receiver": _NAMES,
}


def _story(row: Row) -> str:
    return str(row["prompt"]).partition("\nQuestion: ")[0].removeprefix("Context: ")


def _candidates(text: str, row: Row) -> list[str]:
    """The words of a text that could answer the question, in order."""
    kind = row["kind"]
    if kind == "is":
        return ["yes"] if row["about"][1] in text else ["no"]
    if kind == "count":
        return list(NUMBERS[1:3])
    asked = row["about"]
    return [word for word in _WORD.findall(text) if word in _SORTS[kind] and word not in asked]


def _phrase(row: Row, answer: str, luck: float) -> str:
    """An answer as a sentence, or in a shorter form."""
    forms = KINDS[row["kind"]](row["about"], answer)
    return completion_of(forms[0 if luck < 0.5 else int((luck * 2 - 1) * len(forms))])


def recent(row: Row, rng: np.random.Generator) -> str:
    """The last place, person or thing that the story names."""
    named = _candidates(_story(row), row)
    return _phrase(row, named[-1], 0.0) if named else completion_of(ABSTENTIONS[0])


def lookup(row: Row, rng: np.random.Generator) -> str:
    """The answer of the last sentence that names the same person or thing."""
    key = row["about"][0].rpartition(" ")[2]
    for sentence in reversed(_story(row).split(". ")):
        if key in _WORD.findall(sentence):
            named = _candidates(sentence, row)
            return _phrase(row, named[-1], 0.0) if named else completion_of(ABSTENTIONS[0])
    return completion_of(ABSTENTIONS[0])


def abstain(row: Row, rng: np.random.Generator) -> str:
    """Abstain from every question."""
    return completion_of(ABSTENTIONS[0])


def mediocre(row: Row, rng: np.random.Generator) -> str:
    """The right answer in about a third of the calls; otherwise an error or an abstention."""
    luck, form, which, other = rng.random(4).tolist()
    answers = row["answers"]
    unknown = completion_of(ABSTENTIONS[0 if form < 0.7 else int(which * len(ABSTENTIONS))])
    if luck < 0.35:
        return _phrase(row, answers[0], form) if answers else unknown
    if luck < 0.48:
        return unknown
    named = _candidates(_story(row), row)
    if not named:
        return unknown
    if row["kind"] == "is":
        guess = "yes" if which < 0.5 else "no"
    else:
        guess = named[-1] if luck < 0.7 else named[int(which * len(named))]
    if luck < 0.92:
        return _phrase(row, guess, form)
    if luck < 0.96:
        return completion_of(f"{guess} or {named[int(other * len(named))]}")
    names = [word for word in _WORD.findall(_story(row)) if word in _NAMES]
    about = [names[int(other * len(names))] if names else "he", *row["about"][1:]]
    return _phrase({**row, "about": about}, guess, 0.0)
