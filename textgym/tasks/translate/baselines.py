"""Baselines of the translation task, and the mediocre translations of its documents."""

from __future__ import annotations

import re

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.random_draws import Draw, draws, pick
from textgym.tasks.translate.chinese import segment
from textgym.tasks.translate.lexicon import (
    ADJECTIVES,
    COUNTED,
    NAMES,
    NOUNS,
    NUMBERS,
    PLACES,
    PLURALS,
    PRONOUNS,
    TIMES,
    VERBS,
)
from textgym.tasks.translate.meaning import Clause, Phrase, clauses, phrases
from textgym.tasks.translate.writer import QUESTION, STOP, chinese, english

_WORDS = re.compile(r"[A-Za-z']+")


def _glossary() -> list[tuple[str, str]]:
    """Pairs of an English and a Chinese word, the usual ones first."""
    pairs = [(time, words[0]) for time, words in TIMES.items()]
    pairs += [(place, entry[1][0]) for place, entry in PLACES.items()]
    pairs += [(noun.one, noun.chinese[0]) for noun in NOUNS.values()]
    pairs += [(noun.many, noun.chinese[0]) for noun in NOUNS.values()]
    pairs += [*NAMES.items()]
    pairs += [(name, forms[2][0]) for name, forms in PRONOUNS.items()]
    pairs += [(forms[0], forms[2][0]) for forms in PRONOUNS.values()]
    pairs += [(forms[1], forms[2][0] + "的") for forms in PRONOUNS.values()]
    pairs += [(adjective.english, adjective.chinese[0]) for adjective in ADJECTIVES.values()]
    pairs += [(det, word) for det, word in COUNTED.items()]
    pairs += [(det, words[0]) for det, words in PLURALS.items()]
    for form, ending in (("past", "了"), ("base", ""), ("third", ""), ("ing", "")):
        pairs += [(getattr(verb, form), verb.chinese[0] + ending) for verb in VERBS.values()]
    pairs += [
        ("not", "不"), ("will", "会"), ("can", "能"), ("must", "必须"), ("in", "在"), ("at", "在"),
        ("with", "和"), ("for", "给"), ("but", "但是"), ("because", "因为"), ("want", "想"),
        ("wants", "想"), ("is", "在"), ("are", "在"), ("am", "在"),
    ]  # fmt: skip
    return pairs


_INTO_CHINESE: dict[str, str] = {}
_INTO_ENGLISH: dict[str, str] = {}
for _english, _chinese in _glossary():
    _INTO_CHINESE.setdefault(_english, _chinese)
    _INTO_ENGLISH.setdefault(_chinese, _english)


def _source(row: Row) -> str:
    return str(row["prompt"]).split(": ", 1)[-1].rpartition("\n")[0]


def gloss(row: Row, rng: np.random.Generator) -> str:
    """Look up each word and keep the order of the source."""
    source = _source(row)
    if row["direction"] == "en-zh":
        text = source.lower()
        for time in TIMES:
            text = text.replace(time, time.replace(" ", "'"))
        words = [word.replace("'", " ") if "'" in word else word for word in _WORDS.findall(text)]
        names = {name.lower(): name for name in (*NAMES, "I")}
        words = [_INTO_CHINESE.get(names.get(word, word), "") for word in words]
        question = source.endswith("?")
        ends = f"吗{QUESTION}" if question else STOP
        return f" {''.join(words)}{ends}"
    question = source.endswith(QUESTION)
    words = [_INTO_ENGLISH.get(word, "") for word in segment(source)]
    text = " ".join([word for word in words if word])
    return f" {text[:1].upper()}{text[1:]}{'?' if question else '.'}"


def skeleton(row: Row, rng: np.random.Generator) -> str:
    """Translate only the first known person, verb and thing, as a simple sentence."""
    if row["direction"] == "en-zh":
        known = _WORDS.findall(_source(row))
        known = [word.lower() for word in known[:1]] + known
    else:
        known = [_INTO_ENGLISH.get(w, "") for w in segment(_source(row))]
    clause = Clause(_verb_of(known) or "buy")
    people = [word for word in known if word in _PEOPLE]
    things = [word for word in known if word in _THINGS]
    clause.agent = Phrase(_PEOPLE[people[0]] if people else "he")
    kind = VERBS[clause.verb].kind
    if kind == "think":
        clause.verb, kind = "buy", "do"
    if kind == "meet":
        clause.patient = Phrase(_PEOPLE[people[-1]] if people else "she")
    elif kind != "move":
        clause.patient = Phrase(_THINGS[things[0]] if things else "hat", "a")
    if kind == "give":
        clause.to = Phrase(_PEOPLE[people[-1]] if people else "she")
    return " " + write(clause, str(row["direction"]))


_NOUNS = {word: name for name, noun in NOUNS.items() for word in (noun.one, noun.many)}
_THINGS = {word: name for word, name in _NOUNS.items() if NOUNS[name].sort != "person"}
_PEOPLE = {word: name for word, name in _NOUNS.items() if NOUNS[name].sort == "person"} | {
    name: name for name in (*PRONOUNS, *NAMES)
}
_ACTS = {form: name for name, verb in VERBS.items() for form in verb.forms}


def _verb_of(words: list[str]) -> str:
    return next((_ACTS[word] for word in words if word in _ACTS), "")


def write(clause: Clause, direction: str) -> str:
    """Write a meaning in the target language of a direction."""
    return chinese(clause) if direction == "en-zh" else english(clause)


def mediocre(clause: Clause, row: Row, rng: np.random.Generator) -> str:
    """A translation with errors: words replaced, dropped or misplaced."""
    draw = draws(rng, 64)
    direction = row["direction"]
    if draw() < 0.12:
        return gloss(row, rng)
    for phrase in phrases(clause):
        _corrupt(phrase, draw)
    for part in clauses(clause):
        if part.time and draw() < 0.3:
            part.time = "" if draw() < 0.5 else pick(list(TIMES), draw)
        if part.place and draw() < 0.3:
            part.place = "" if draw() < 0.5 else pick(list(PLACES), draw)
        if draw() < 0.1:
            part.neg = not part.neg
        if draw() < 0.15:
            part.tense = pick(("past", "future", "present"), draw)
        if draw() < 0.2:
            verbs = _similar_verbs(part)
            part.verb = pick(verbs, draw)
    if clause.ask and draw() < 0.15:
        clause.ask = False
    text = " " + write(clause, str(direction))
    choice = draw()
    if choice < 0.04:
        return text[:-1]
    if choice < 0.1:
        return text[: 3 + int(draw() * len(text))]
    return text


def _similar_verbs(clause: Clause) -> list[str]:
    """Verbs that fit the roles of a clause."""
    kind, patient = VERBS[clause.verb].kind, clause.patient
    return [
        name for name, verb in VERBS.items()
        if verb.kind == kind and (patient is None or kind == "meet" or patient.head in verb.nouns)
    ] or [clause.verb]  # fmt: skip


def _corrupt(phrase: Phrase, draw: Draw) -> None:
    noun = NOUNS.get(phrase.head)
    if noun is None:
        names = NAMES if phrase.head in NAMES else PRONOUNS
        if draw() < 0.2:
            phrase.head = pick(list(names), draw)
        return
    if draw() < 0.22:
        similar = [name for name, other in NOUNS.items() if other.sort == noun.sort]
        phrase.head = pick(similar, draw)
    if phrase.adj and draw() < 0.35:
        fitting = [name for name, adj in ADJECTIVES.items() if noun.sort in adj.sorts]
        phrase.adj = "" if draw() < 0.5 else pick(fitting, draw)
    if phrase.det in NUMBERS and draw() < 0.25:
        phrase.det = pick(list(NUMBERS), draw)
    if phrase.det in COUNTED and draw() < 0.25 and "个" not in NOUNS[phrase.head].measures:
        phrase.measure = "wrong"
