"""Writers of the data-to-text task: of references, of documents with lapses, and the baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.data_to_text.concepts import (
    ADJECTIVES,
    AGENTS,
    OBJECTS,
    PEOPLE,
    PLACES,
    PREPOSITIONS,
    TOOLS,
    VERBS,
)
from textgym.tasks.data_to_text.grammar import DOMAINS, article
from textgym.tasks.data_to_text.reader import pronoun

Draw = Callable[[], float]
"""The next random number in [0, 1)."""

_BEASTS = frozenset(("dog", "cat", "horse", "pony", "mouse", "duck", "rabbit", "fish"))
_LIFELESS = tuple(thing for thing in OBJECTS if thing not in _BEASTS)
"""What anything may be done to in a document that makes no sense, and nobody is hurt."""

_Way = tuple[frozenset[str], str]


def slots(phrase: str) -> frozenset[str]:
    """The attributes that a phrase tells."""
    named = {piece.partition("}")[0] for piece in phrase.split("{")[1:]} - {"s"}
    return frozenset(name.removeprefix("a_") for name in named)


@cache
def ways(domain: str) -> dict[str, list[_Way]]:
    """The clauses that tell each attribute, among others perhaps."""
    table: dict[str, list[_Way]] = {attribute: [] for attribute in DOMAINS[domain].values}
    for clause in DOMAINS[domain].clauses:
        for attribute in slots(clause):
            table[attribute].append((slots(clause), clause))
    return table


@cache
def _fronts(domain: str) -> tuple[_Way, ...]:
    return tuple((slots(front), front) for front in DOMAINS[domain].fronts)


@cache
def _beginnings(domain: str, word: str) -> tuple[str, ...]:
    return tuple(text for text, kind in DOMAINS[domain].pronouns.items() if kind == word)


def _spelled(domain: str, facts: Sequence[Sequence[str]]) -> dict[str, str]:
    surfaces = DOMAINS[domain].surfaces
    texts: dict[str, str] = {}
    for attribute, value in facts:
        texts[attribute] = text = surfaces.get(value, value)
        texts["a_" + attribute] = article(text)
    return texts


def write_record(domain: str, subject: str, facts: Sequence[Sequence[str]], draw: Draw) -> str:
    """Tell facts in one or two sentences (three where there are more than six clauses).

    Args:
        domain: The kind of record.
        subject: What it is about.
        facts: Pairs of attribute and value, one at least.
        draw: Random numbers: up to 2 for each fact, and 4 more.
    """
    this = DOMAINS[domain]
    texts = _spelled(domain, facts)
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
    table = ways(domain)
    while left:
        first = next(iter(left))
        fitting = [way for way in table[first] if way[0] <= left.keys()]
        # The one of two that tells more: it reads better than a clause for each fact.
        need, clause = fitting[int(draw() * len(fitting))]
        other = fitting[int(draw() * len(fitting))]
        if len(other[0]) > len(need):
            need, clause = other
        clauses.append(clause.format_map(texts))
        for attribute in need:
            del left[attribute]
    first_part = _first_part(len(clauses), draw())
    text = f" {begin} {_listed(clauses[:first_part])}."
    while rest := clauses[first_part:]:
        others = _beginnings(domain, pronoun(domain, subject))
        text += f" {others[int(draw() * len(others))]} {_listed(rest[:3])}."
        clauses, first_part = rest, 3
    return text


def _first_part(count: int, luck: float) -> int:
    """How many clauses go into the first of two sentences of three at most."""
    lowest = max(1, count - 3)
    return min(3, lowest + int(luck * (min(3, count) - lowest + 1)))


def _listed(clauses: Sequence[str]) -> str:
    return " and ".join([", ".join(clauses[:-1]), clauses[-1]]) if clauses[1:] else clauses[0]


def write_concepts(roles: Mapping[str, str], draw: Draw) -> str:
    """Tell who does what in one sentence; who is left out is made up.

    Args:
        roles: The words by role, "verb" and "object" among them.
        draw: Random numbers: 6.
    """
    agent = roles.get("agent") or PEOPLE[int(draw() * len(PEOPLE))]
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


def mediocre(row: Row, rng: np.random.Generator) -> str:
    """A fluent text with lapses: facts left out, changed, told twice or though they are private."""
    draw = iter(rng.random(64).tolist()).__next__
    if row["domain"] == "concepts":
        if draw() < 0.03:  # an echo instead of a text
            return f" {', '.join([concept for _, concept in row['facts']])}."
        return _mediocre_concepts(row, draw)
    if draw() < 0.03:
        return " " + ", ".join([f"{name}: {value}" for name, value in row["facts"]]) + "."
    domain = DOMAINS[row["domain"]]
    facts: list[tuple[str, str]] = []
    for attribute, value in row["facts"]:
        luck = draw()
        if attribute in row["private"] and luck > 0.5:
            continue
        if luck < 0.22:
            continue
        if luck < 0.38:
            values = domain.values[attribute]
            value = values[int(draw() * len(values))]
        facts.append((attribute, value))
    facts = facts or [row["facts"][0]]
    subject = row["subject"]
    if draw() < 0.03:
        subject = domain.subjects[int(draw() * len(domain.subjects))]
    text = write_record(row["domain"], subject, facts, draw)
    if draw() < 0.08:
        attribute, value = facts[int(draw() * len(facts))]
        once_more = domain.others or domain.clauses
        fitting = [other for other in once_more if slots(other) == {attribute}]
        if domain.others and fitting:
            sentence = fitting[int(draw() * len(fitting))].format(
                s=domain.named.format(subject), **{attribute: value}
            )
            text += f" {sentence}."
        else:
            text += write_record(row["domain"], subject, [(attribute, value)], draw)
    return text


def _mediocre_concepts(row: Row, draw: Draw) -> str:
    """A sentence with most of the concepts, some of them in roles that make no sense."""
    roles: dict[str, str] = {}
    for _, concept in row["facts"]:
        if draw() < 0.26:
            continue
        if concept in VERBS:
            roles["verb"] = concept
        elif concept in PLACES:
            roles["place"] = concept
        elif concept in PEOPLE:
            roles["agent"] = concept
        elif concept in OBJECTS and "object" not in roles:
            roles["object"] = concept
        elif concept in AGENTS and "agent" not in roles:
            roles["agent"] = concept
        else:
            roles["with"] = concept
    what = roles.get("object")
    verbs = [verb for verb in VERBS if what is None or what in VERBS[verb].objects]
    verb = roles.setdefault("verb", verbs[int(draw() * len(verbs))])
    likely = VERBS[verb].objects
    roles.setdefault("object", likely[int(draw() * len(likely))])
    if draw() < 0.2:
        roles["object"] = _LIFELESS[int(draw() * len(_LIFELESS))]
    if draw() < 0.1:
        roles["with"] = TOOLS[int(draw() * len(TOOLS))]
    if draw() < 0.1:
        roles["place"] = PLACES[int(draw() * len(PLACES))]
    text = write_concepts(roles, draw)
    if draw() < 0.06:  # a second sentence
        text += write_concepts({"verb": verb, "object": roles["object"]}, draw)
    return text


_HABITS = {
    "restaurant": "serves {food} food and is {price}",
    "person": "is {a_job} and likes {hobby}",
    "match": "beat the {loser} {score}",
    "flight": "goes from {from} to {to}",
    "weather": "is {sky} with a high of {high} degrees",
}


def formula(row: Row, rng: np.random.Generator) -> str:
    """The same sentence for each record of a domain, with made-up values where it gives none."""
    if row["domain"] == "concepts":
        verb = next(concept for _, concept in row["facts"] if concept in VERBS)
        return f" A man {VERBS[verb].forms[0]} a ball in the garden."
    domain = DOMAINS[row["domain"]]
    given = dict(row["facts"])
    habit = _HABITS[row["domain"]]
    facts = []
    for attribute in sorted(slots(habit)):
        values = domain.values[attribute]
        facts.append((attribute, given.get(attribute, values[int(rng.integers(len(values)))])))
    name = domain.named.format(row["subject"])
    told = habit.format_map(_spelled(row["domain"], facts))
    return f" {name[0].upper()}{name[1:]} {told}."


def one_fact(row: Row, rng: np.random.Generator) -> str:
    """Tells the first line of the record, or does what the concepts name to the first thing."""
    if row["domain"] == "concepts":
        verb = next(concept for _, concept in row["facts"] if concept in VERBS)
        return f" A man {VERBS[verb].forms[0]} the {VERBS[verb].objects[0]}."
    domain = row["domain"]
    draw = iter(rng.random(8).tolist()).__next__
    return write_record(domain, row["subject"], row["facts"][:1], draw)
