"""Baselines of the story task, and the mediocre stories of its documents."""

from __future__ import annotations

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.random_draws import draws, pick
from textgym.tasks.story.grammar import FEELINGS
from textgym.tasks.words import GO, MEN, PLACES, TAKE, THINGS

OPENERS = ("Then", "Soon", "Later", "At last", "", "", "", "")
"""Sentence openers; half of the sentences have none."""

_FELT = tuple(FEELINGS.values())


def _people(row: Row) -> tuple[str, str]:
    return row["facts"][0][0], row["facts"][1][0]


def formula(row: Row, rng: np.random.Generator) -> str:
    """Take the thing, go to the place, give the thing and feel, regardless of the scene."""
    hero, other = _people(row)
    thing = next(word for word in row["words"] if word in THINGS)
    place = next(word for word in row["words"] if word in PLACES)
    feeling = next(FEELINGS[word] for word in row["words"] if word in FEELINGS)
    return (
        f" {hero} took the {thing} and went to the {place}."
        f" {hero} gave the {thing} to {other}. {other} {feeling}."
    )


def ramble(row: Row, rng: np.random.Generator) -> str:
    """Four random sentences about the people of the story."""
    return "".join(_anything(row, rng) for _ in range(4))


def _anything(row: Row, rng: np.random.Generator) -> str:
    """A grammatical random sentence about the people and things of the story."""
    draw = draws(rng, 12)
    who, whom = _people(row) if draw() < 0.5 else _people(row)[::-1]
    him = "him" if whom in MEN else "her"
    thing = row["facts"][2][0] if draw() < 0.8 else pick(THINGS, draw)
    place = pick(PLACES, draw)
    feeling = pick(_FELT, draw)
    go, take = pick(GO, draw), pick(TAKE, draw)
    deeds = (
        f"{go} to the {place}",
        f"{go} to the {place} with {whom}",
        f"{take} the {thing}",
        f"gave {whom} the {thing}",
        f"dropped the {thing} and {go} to the {place}",
        f"told {him} a joke",
        f"told {whom} a story and {feeling}",
        f"greeted {whom}",
        f"thanked {him}",
        f"{feeling}",
        f"{take} the {thing} and {feeling}",
    )
    opener = pick(OPENERS, draw)
    return f" {opener}{' ' if opener else ''}{who} {pick(deeds, draw)}."


def mediocre(row: Row, rng: np.random.Generator) -> str:
    """The reference with errors: sentences dropped, invented or swapped, another feeling."""
    sentences = [f"{sentence}." for sentence in row["reference"].split(".")[:-1]]
    text: list[str] = []
    for sentence, choice in zip(sentences, rng.random(len(sentences)).tolist(), strict=True):
        if choice < 0.68:
            text.append(sentence)
        elif choice < 0.84:
            text.append(_anything(row, rng))
        elif choice < 0.92:
            text += [_anything(row, rng), sentence]
    if len(text) > 1 and rng.random() < 0.1:
        number = int(rng.integers(len(text) - 1))
        text[number : number + 2] = text[number + 1], text[number]
    story = "".join(text) or _anything(row, rng)
    if rng.random() < 0.3:
        feeling = next(FEELINGS[word] for word in row["words"] if word in FEELINGS)
        story = story.replace(f" {feeling}.", f" {_FELT[int(rng.integers(len(_FELT)))]}.")
    return story
