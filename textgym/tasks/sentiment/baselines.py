"""Baselines of the sentiment task."""

from __future__ import annotations

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.random_draws import Draw, draws, pick
from textgym.tasks.sentiment.writer import Clause, phrases_of


def mediocre(row: Row, rng: np.random.Generator) -> str:
    """A fluent continuation of random polarity."""
    draw = draws(rng, 32)
    phrases = phrases_of(row["subject"])
    about = phrases.about
    pool = [aspect for aspect in phrases.aspects if aspect not in row["mentioned"]]
    positivity = draw()  # the share of positive opinions varies between texts
    likes: list[bool] = []

    def clause() -> Clause:
        aspect = pool[number := int(draw() * len(pool))]
        if draw() < 0.95:
            del pool[number]  # otherwise the aspect may be repeated
        likes.append(draw() < positivity)
        clauses = about[aspect].good if likes[-1] else about[aspect].bad
        return pick(clauses, draw)

    text = ""
    opening = row["opening"]
    if opening.endswith(("but", ",")):
        text = f" {clause()[0]}."
    elif opening:
        aspect = next(word for word in opening.split() if word in about)
        likes.append(draw() < positivity)
        # All these openings negate, so the word has the opposite polarity.
        words = about[aspect].bad_words if likes[-1] else about[aspect].good_words
        text = _finish(opening, words, draw)
    while (room := 3 - len(likes)) > 0:
        first, capital = clause()
        form = draw()
        if room == 1 or form < 0.3 or " but " in capital:
            text += f" {capital}."
            continue
        second, _ = clause()
        if likes[-1] != likes[-2]:
            text += f" {capital}, but {second}." if form < 0.8 else f" Although {first}, {second}."
        elif room == 2 or form < 0.6:
            text += f" {capital} and {second}."
        else:
            text += f" {capital}, {second} and {clause()[0]}."
    if draw() < 0.9:
        happy = draw() < sum(likes) / len(likes)
        verdicts = phrases.good_verdicts if happy else phrases.bad_verdicts
        text += f" {pick(verdicts, draw)}"
    return text


def _finish(opening: str, words: tuple[str, ...], draw: Draw) -> str:
    """Finish a sentence that needs an adjective."""
    number = int(draw() * len(words))
    word = words[number]
    if opening.endswith("neither"):
        return f" {word} nor {words[number - 1]}."
    if opening.endswith("not") and (emphasis := draw()) < 0.4:
        return f" {'at all' if emphasis < 0.2 else 'very'} {word}."
    return f" {word}."


def brief(row: Row, rng: np.random.Generator) -> str:
    """One sentence of praise, which is grammatical if the prompt ends with a full sentence."""
    aspects = phrases_of(row["subject"]).aspects
    return f" I loved the {aspects[int(rng.integers(len(aspects)))]}."
