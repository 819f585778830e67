"""Writes references for records and concept sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from textgym.tasks.data_to_text.concepts import (
    ADJECTIVES,
    PEOPLE,
    PREPOSITIONS,
    VERBS,
)
from textgym.tasks.data_to_text.reader import pronoun
from textgym.tasks.data_to_text.world import DOMAINS, article
from textgym.tasks.random_draws import Draw, pick

_Phrase = tuple[frozenset[str], str]
"""The attributes that a phrase states, and the phrase."""


def slots(phrase: str) -> frozenset[str]:
    """The attributes that a phrase states."""
    named = {piece.partition("}")[0] for piece in phrase.split("{")[1:]} - {"s"}
    return frozenset(name.removeprefix("a_") for name in named)


@cache
def _clauses(domain: str) -> dict[str, list[_Phrase]]:
    """The clauses that state each attribute, alone or with others."""
    table: dict[str, list[_Phrase]] = {attribute: [] for attribute in DOMAINS[domain].values}
    for clause in DOMAINS[domain].clauses:
        for attribute in slots(clause):
            table[attribute].append((slots(clause), clause))
    return table


@cache
def _fronts(domain: str) -> tuple[_Phrase, ...]:
    return tuple((slots(front), front) for front in DOMAINS[domain].fronts)


@cache
def _beginnings(domain: str, word: str) -> tuple[str, ...]:
    return tuple(text for text, kind in DOMAINS[domain].pronouns.items() if kind == word)


def spelled(domain: str, facts: Sequence[Sequence[str]]) -> dict[str, str]:
    """The values of facts as they are spelled in a sentence, with and without an article."""
    surfaces = DOMAINS[domain].surfaces
    texts: dict[str, str] = {}
    for attribute, value in facts:
        texts[attribute] = text = surfaces.get(value, value)
        texts["a_" + attribute] = article(text)
    return texts


def write_record(domain: str, subject: str, facts: Sequence[Sequence[str]], draw: Draw) -> str:
    """State facts in one or two sentences (three for more than six clauses).

    Args:
        domain: The kind of record.
        subject: The value of its key.
        facts: Pairs of attribute and value, at least one.
        draw: Returns random numbers; called up to twice for each fact, and 4 times more.
    """
    this = DOMAINS[domain]
    texts = spelled(domain, facts)
    left = dict.fromkeys([attribute for attribute, _ in facts])
    name = this.named.format(subject)
    begin = name[0].upper() + name[1:]
    if len(left) > 1 and draw() < 0.25:
        for need, front in _fronts(domain):
            if need <= left.keys() and len(need) < len(left):
                begin = f"{front.format_map(texts)}, {name}"
                for attribute in need:
                    del left[attribute]
                break
    clauses: list[str] = []
    table = _clauses(domain)
    while left:
        first = next(iter(left))
        fitting = [phrase for phrase in table[first] if phrase[0] <= left.keys()]
        # Of two, the clause with more facts: it reads better than a clause for each fact.
        need, clause = pick(fitting, draw)
        other = pick(fitting, draw)
        if len(other[0]) > len(need):
            need, clause = other
        clauses.append(clause.format_map(texts))
        for attribute in need:
            del left[attribute]
    first_part = _first_part(len(clauses), draw())
    text = f" {begin} {_listed(clauses[:first_part])}."
    while rest := clauses[first_part:]:
        others = _beginnings(domain, pronoun(domain, subject))
        text += f" {pick(others, draw)} {_listed(rest[:3])}."
        clauses, first_part = rest, 3
    return text


def _first_part(count: int, luck: float) -> int:
    """The number of clauses in the first sentence; each has at most three."""
    lowest = max(1, count - 3)
    return min(3, lowest + int(luck * (min(3, count) - lowest + 1)))


def _listed(clauses: Sequence[str]) -> str:
    return " and ".join([", ".join(clauses[:-1]), clauses[-1]]) if clauses[1:] else clauses[0]


def write_concepts(roles: Mapping[str, str], draw: Draw) -> str:
    """Write a sentence with the words of some roles; a missing agent is drawn.

    Args:
        roles: The words by role, including "verb" and "object".
        draw: Returns random numbers; called up to 6 times.
    """
    agent = roles.get("agent") or pick(PEOPLE, draw)
    forms = VERBS[roles["verb"]].forms
    place = with_ = ""
    if "place" in roles:
        place = f"{PREPOSITIONS[roles['place']]} the {roles['place']}"
    if "with" in roles:
        with_ = f" with {article(roles['with'])}"
    who = _noun(agent, "agent", draw())
    what = _noun(roles["object"], "object", draw())
    luck = draw()
    if luck < 0.15:
        text = f"{what} {'is' if draw() < 0.5 else 'was'} {forms[3]} by {who}{with_}"
    else:
        tense = (forms[0], forms[1], f"is {forms[2]}", f"was {forms[2]}")[int(draw() * 4)]
        text = f"{who} {tense} {what}{with_}"
        if place and luck < 0.35:
            text, place = f"{place}, {text}", ""
    if place:
        text += f" {place}"
    return f" {text[0].upper()}{text[1:]}."


def _noun(noun: str, role: str, luck: float) -> str:
    if luck < 0.4:
        return article(noun)
    if luck < 0.8:
        return f"the {noun}"
    adjectives = ADJECTIVES[role]
    return f"the {adjectives[int((luck - 0.8) / 0.2 * len(adjectives))]} {noun}"
